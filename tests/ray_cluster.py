"""A Ray cluster on this machine for tests: a head with two cores, in processes of its own that can be killed."""

import importlib.util
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="ray is not installed: pip install 'googlenet-rcnn[ray]'"
)
TOKEN = secrets.token_hex(32)
START_SECONDS = 300.0  # on a busy machine
TRIES = 5


def environment(address: str | None = None) -> dict[str, str]:
    """Return what processes with Ray are given: this checkout, a thread each, and nothing that slows them down."""
    usual = {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
        "RAY_raylet_start_wait_time_s": str(round(START_SECONDS)),
        "RAY_gcs_rpc_server_reconnect_timeout_s": "5",  # how long a head that ended is waited for
        "RAY_AUTH_MODE": "token",  # else Ray would take, or make, the token of the user
        "RAY_AUTH_TOKEN": TOKEN,
        "GRPC_ENABLE_FORK_SUPPORT": "0",  # else its server for clients crashes now and then as it starts a process
    }
    return usual | ({"RAY_ADDRESS": address} if address else {})


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


class Head:
    """The one machine of a cluster, run in the foreground as a process group of its own.

    Args:
        port: of the cluster.
        folder: for its files; the path must be short, as sockets lie there.

    Attributes:
        address: for other processes of the cluster on this machine.
        remote: for clients.
    """

    def __init__(self, port: int, folder: Path) -> None:
        client = free_port()
        self.address, self.remote = f"127.0.0.1:{port}", f"ray://127.0.0.1:{client}"
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--port", str(port)]
        command += ["--num-cpus", "2", "--object-store-memory", str(200 * 2**20), "--include-dashboard", "false"]
        command += ["--temp-dir", str(folder), "--ray-client-server-port", str(client)]
        for _ in range(TRIES):
            log = folder / f"head-{time.monotonic_ns()}.log"
            with log.open("w") as said:
                self.process = subprocess.Popen(
                    command, stdout=said, stderr=said, env=os.environ | environment(), start_new_session=True
                )
            if self._has_started(log):
                return
            self.kill()
        raise AssertionError(log.read_text())

    def _has_started(self, log: Path) -> bool:
        """Wait until the head has started, or failed to."""
        begin = time.monotonic()
        try:
            while self.process.poll() is None and time.monotonic() - begin < START_SECONDS:
                if "runtime started" in log.read_text():
                    return True
                if has_crashed(self.process.pid):
                    break
                time.sleep(0.1)
        except BaseException:  # Ctrl-C, above all: nobody else would end what was started
            self.kill()
            raise
        return False

    def kill(self) -> None:
        """End all of its processes at once, as a power cut does; none if it has ended."""
        if self.process.poll() is not None:
            return
        for process in family(self.process.pid):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self.process.wait()


def family(process: int) -> list[int]:
    """Return a process and all below it."""
    parents = dict[int, int]()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError):
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    found = [process]
    for each in found:
        found += [child for child, parent in parents.items() if parent == each]
    return found


def has_crashed(head: int) -> bool:
    """Say whether the main process of Ray below a head has ended, for which `ray start` would wait all its time.

    It does so where another of its processes is not ready within 15 s.
    """
    for each in family(head):
        with suppress(OSError):
            name, _, state = Path(f"/proc/{each}/stat").read_text().rpartition(") ")
            if name.endswith("(raylet") and state.startswith("Z"):
                return True
    return False


def workers_below(process: int, name: str) -> list[int]:
    """Return the processes below one that Ray calls by a name at present."""
    found = []
    for each in family(process):
        with suppress(OSError):
            if name in Path(f"/proc/{each}/cmdline").read_text():
                found.append(each)
    return found
