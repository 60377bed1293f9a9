"""What load does `rcnn serve` sustain, and is every request answered at twice that, even when the detector is killed?

    python benchmarks/serve.py PHOTOS --seconds 60 --kill -- --features shared --proposals multibox

starts `rcnn serve` with what follows `--`, measures the rate at which it answers a few clients that wait for
their answers, and then sends photos at a multiple of that rate, whether they are answered or not. Every request must
end in 200 or in 503 with Retry-After. With --kill the detector's process is killed (kill -9) half way. The machine
serves and asks at the same time, so that the rate is a lower bound.
"""

import argparse
import asyncio
import os
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.passed_on import split_words  # noqa: E402

CLIENTS = 4  # that wait for their answers, to measure the rate
PATIENCE = 120.0  # seconds for one request; none is expected to take as long
LOADING = 600.0  # seconds for the server to begin


def main() -> None:
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    ours, theirs = split_words(sys.argv[1:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="folder")
    parser.add_argument("--seconds", type=float, default=300, help="of the load; a fifth of it for the rate")
    parser.add_argument("--times", type=float, default=2, help="the rate that it can serve")
    parser.add_argument("--kill", action="store_true", help="kill the detector's process half way")
    parser.add_argument("--port", type=int, default=8765)
    options = parser.parse_args(ours)
    photos = [path.read_bytes() for path in sorted(options.photos.glob("*.jpg"))[:100]]
    command = [sys.executable, "-m", "detect", "serve", "--port", str(options.port), *theirs]
    server = subprocess.Popen(command, cwd=ROOT)
    try:
        lost = asyncio.run(measure(options, photos, server.pid))
    finally:
        server.terminate()
        print(f"stopped with exit code {server.wait()}")
    sys.exit(1 if lost else 0)


async def measure(options: argparse.Namespace, photos: list[bytes], server: int) -> int:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=50)
    base = f"http://127.0.0.1:{options.port}"
    async with httpx.AsyncClient(base_url=base, limits=limits, timeout=PATIENCE) as client:
        await ready(client)
        rate, waits = await closed_loop(client, photos, options.seconds / 5)
        print(f"{CLIENTS} clients that wait: {rate:.2f} photos/s, {quantiles(waits)}")
        if options.kill:
            asyncio.get_running_loop().call_later(options.seconds / 2, kill_detector, server)
        answers = await open_loop(client, photos, rate * options.times, options.seconds)
        return report(answers, options.seconds, rate * options.times)


async def ready(client: httpx.AsyncClient) -> None:
    end = time.monotonic() + LOADING
    while time.monotonic() < end:
        try:
            if (await client.get("/readyz")).status_code == 200:
                return
        except httpx.TransportError:
            await asyncio.sleep(0.5)
    sys.exit("the server does not begin")


async def closed_loop(client: httpx.AsyncClient, photos: list[bytes], seconds: float) -> tuple[float, list[float]]:
    begin, waits = time.monotonic(), list[float]()

    async def ask_on(first: int) -> None:
        at = first
        while time.monotonic() - begin < seconds:
            status, waited = await ask(client, photos[at % len(photos)])
            if status == "200":
                waits.append(waited)
                at += CLIENTS
            elif status == "503":
                await asyncio.sleep(1)
            else:
                sys.exit(f"without load already: {status}")

    await asyncio.gather(*(ask_on(first) for first in range(CLIENTS)))
    return len(waits) / (time.monotonic() - begin), waits


async def open_loop(
    client: httpx.AsyncClient, photos: list[bytes], rate: float, seconds: float
) -> list[tuple[str, float]]:
    begin, asking = time.monotonic(), list[asyncio.Task[tuple[str, float]]]()
    for number in range(round(rate * seconds)):
        await asyncio.sleep(max(0.0, begin + number / rate - time.monotonic()))
        asking.append(asyncio.create_task(ask(client, photos[number % len(photos)])))
    return await asyncio.gather(*asking)


async def ask(client: httpx.AsyncClient, photo: bytes) -> tuple[str, float]:
    """Return the status of an answer, or the error in its place, and the seconds until then."""
    begin = time.monotonic()
    try:
        answer = await client.post("/detect", content=photo)
        status = str(answer.status_code)
        if status == "503" and "retry-after" not in answer.headers:
            status = "503 without Retry-After"
    except httpx.HTTPError as error:
        status = type(error).__name__
    return status, time.monotonic() - begin


def report(answers: list[tuple[str, float]], seconds: float, rate: float) -> int:
    counts = Counter(status for status, _ in answers)
    print(f"{rate:.2f} photos/s for {seconds:g} s: {len(answers)} requests")
    for status, count in sorted(counts.items()):
        waits = [waited for each, waited in answers if each == status]
        print(f"  {status}: {count} ({count / seconds:.2f}/s), {quantiles(waits)}")
    lost = len(answers) - counts["200"] - counts["503"]
    print(f"  lost, unanswered or failed: {lost}")
    return lost


def quantiles(waits: list[float]) -> str:
    if len(waits) < 2:
        return f"{waits[0]:.2f} s" if waits else "none"
    cuts = statistics.quantiles(waits, n=100, method="inclusive")
    return f"p50 {cuts[49]:.2f} s, p95 {cuts[94]:.2f} s, p99 {cuts[98]:.2f} s"


def kill_detector(server: int) -> None:
    """Kill the child of the server that detects; its other child only counts semaphores."""
    listed = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(server)], capture_output=True, text=True, check=True
    )
    for line in listed.stdout.splitlines():
        process, _, command = line.strip().partition(" ")
        if "spawn_main" in command:
            print(f"kill -9 {process}")
            os.kill(int(process), signal.SIGKILL)


if __name__ == "__main__":
    main()
