"""Kills, full disks, read-only disks and two runs at a time: are the results still those of an undisturbed run?

    python benchmarks/faults.py [--minutes 60] [--only detect,propose] [--seed 0] [--counts FILE]
    python benchmarks/faults.py --fuzz --minutes 10       # damaged files for every reader, see benchmarks/fuzz.py

Each command of `benchmarks/fault_cases.py` is run once undisturbed. Then it is killed (SIGKILL, SIGTERM) at random
moments and started again, its disk is filled up or made read-only, or two are started on one folder; at last it may
end. What it made must equal the undisturbed run's, byte for byte, and none of its processes may be left. With the whole
hour each command is killed 50 times with each signal; with less, fewer times, and with --counts the next call goes on
from there. Linux only. As root full and read-only disks are real ones (tmpfs), else limits on the size of files and
permissions stand for them. Exit code 1: something was lost; the folder then stays.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.fault_cases import Case, cases, make_inputs, start, warm_up, write_truth

KILLS = 50  # of each command with each signal
KILLS_PER_RUN = 5  # before it may end
ROUNDS = 10  # of full and read-only disks, and of two at a time
END_SECONDS = 20.0  # after which no process of a killed command may be there
KINDS = ("SIGKILL", "SIGTERM", "full", "read-only", "two at a time")
STOPPED = {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 143}


@dataclass
class Bench:
    """One command under test.

    Attributes:
        case: the command.
        root: folder of its own, on a disk that can be filled.
        rng: decides the moments.
        whole: what the undisturbed run made.
        seconds: of the processor that this took: moments are counted in them, since others may work on the machine.
        wrong: what went wrong, one line each.
        counts: what was done how often.
    """

    case: Case
    root: Path
    rng: random.Random
    whole: Mapping[str, bytes] = field(default_factory=dict)
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def out(self) -> Path:
        """Where it writes."""
        return self.root / "disk"

    @property
    def log(self) -> Path:
        """What it says."""
        return self.root / "log"

    def first(self) -> None:
        """Run it undisturbed."""
        self.root.mkdir()
        with fresh(self.out):
            _, status, used = os.wait4(self.begin(), 0)
            self.expect(os.waitstatus_to_exitcode(status), {self.case.code}, "undisturbed")
            self.seconds = used.ru_utime + used.ru_stime
            self.whole = {} if self.wrong else self.case.content(self.out)

    def begin(self, **limits: int) -> int:
        """Start it; return its process."""
        return start(self.case.words(self.out), self.log, **limits)

    def wait(self, process: int) -> int:
        """Return its exit code, below 0 if a signal ended it."""
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])

    def expect(self, code: int, codes: set[int], what: str) -> None:
        """Note an exit code that should not be, or a traceback."""
        said = self.log.read_text(errors="replace")
        if code not in codes or "Traceback" in said:
            self.wrong.append(f"{what}: exit code {code}, expected {sorted(codes)}: {said[-2000:]}")

    def expect_alone(self, process: int, what: str) -> None:
        """Note processes of a command that outlive it."""
        end = time.monotonic() + END_SECONDS
        while time.monotonic() < end:
            try:
                os.killpg(process, 0)
            except ProcessLookupError:
                return
            time.sleep(0.01)
        self.wrong.append(f"{what}: processes of it are left after {END_SECONDS:g} s")
        os.killpg(process, signal.SIGKILL)

    def finish(self, what: str) -> None:
        """Let it end, and compare."""
        self.expect(self.wait(self.begin()), {self.case.code}, f"{what}, then run again")
        made = {} if self.wrong else self.case.content(self.out)
        differ = sorted(name for name in {*made, *self.whole} if made.get(name) != self.whole.get(name))
        if not self.wrong and differ:
            self.wrong.append(f"{what}: {', '.join(differ[:9])} differ from the undisturbed run's")
            self.keep("undisturbed", {name: self.whole[name] for name in differ if name in self.whole})
            self.keep("made", {name: made[name] for name in differ if name in made})
        left = [path for path in self.out.rglob("*.partial")]
        if left:
            self.wrong.append(f"{what}: unfinished files are left: {', '.join(map(str, left[:9]))}")

    def keep(self, name: str, contents: Mapping[str, bytes]) -> None:
        """Write what differs to a folder, to be looked at."""
        for number, (file, content) in enumerate(contents.items()):
            path = self.root / name / f"{number} {Path(file).name}"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)

    def kill(self, number: signal.Signals) -> None:
        """Kill it some times in a row at random moments, or until it ended first."""
        with fresh(self.out):
            for _ in range(KILLS_PER_RUN):
                code = self.kill_once(number)
                self.expect(code, {STOPPED[number], -number, self.case.code}, number.name)
                if code == self.case.code:
                    break
                self.counts[number.name] += 1
            self.finish(number.name)

    def kill_once(self, number: signal.Signals) -> int:
        """Start it, kill it at a random moment, and return its exit code."""
        process, moment = self.begin(), self.rng.uniform(0, self.seconds)
        while (used := busy(process)) is not None and used < moment:
            time.sleep(0.001)
        os.kill(process, number)
        code = self.wait(process)
        self.expect_alone(process, number.name)
        return code

    def fill_disk(self) -> None:
        """Let the disk be full at a random size, then let it have room."""
        room = self.rng.randint(1, max(2, sum(map(len, self.whole.values()))))
        with fresh(self.out, room) as disk:
            limits = {} if disk else {"largest": room}
            code = self.wait(self.begin(**limits))
            self.expect(code, {2, self.case.code, 1}, f"{room} bytes of room")
            self.counts["full"] += code == 2
            if disk:
                disk("size=4g")
            self.finish(f"{room} bytes of room")

    def protect_disk(self) -> None:
        """Make the disk read-only after a kill, then writable."""
        with fresh(self.out, 2**32) as disk:
            self.kill_once(signal.SIGKILL)
            disk("ro") if disk else self.out.chmod(0o555)
            self.expect(self.wait(self.begin()), {2} if disk else {2, self.case.code}, "read-only")
            disk("rw") if disk else self.out.chmod(0o755)
            self.counts["read-only"] += 1
            self.finish("read-only")

    def double(self) -> None:
        """Start two at the same time."""
        with fresh(self.out):
            other = self.log.with_name("other log")
            first, second = self.begin(), start(self.case.words(self.out), other)
            codes = {self.wait(first), self.wait(second)}
            usual = {self.case.code, 2} if self.case.locked else {self.case.code}
            said = self.log.read_text(errors="replace") + other.read_text(errors="replace")
            if not codes <= usual or "Traceback" in said or (2 in codes and "is writing" not in said):
                self.wrong.append(f"two at a time: exit codes {sorted(codes)}: {said[-2000:]}")
            self.counts["two at a time"] += 1
            self.finish("two at a time")


def busy(process: int) -> float | None:
    """Return the seconds of the processor that a child has used so far; None if it has ended."""
    if os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
        return None
    return time.clock_gettime((~process << 3) | 2)  # the clock that clock_getcpuclockid(3) names


@contextmanager
def fresh(folder: Path, size: int = 0) -> Iterator[Callable[[str], None] | None]:
    """Give an empty folder, on a disk of its own of some size where that is possible; yield what changes the disk."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={-(-size // 4096) * 4096}", "tmpfs", str(folder)]
    mounted = size > 0 and os.geteuid() == 0 and subprocess.run(mount, capture_output=True, check=False).returncode == 0

    def change(options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)

    try:
        yield change if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=False)
        shutil.rmtree(folder)


def harm(bench: Bench, until: float, noted: Callable[[], None]) -> None:
    """Do to a command what there is time for, in turn, until something is lost; say after each round that it is done.

    Which kind comes next follows from the counts, so that it does not matter how often the script was started.
    """
    kinds: dict[str, tuple[Callable[[], None], int]] = {
        "SIGKILL": (lambda: bench.kill(signal.SIGKILL), KILLS),
        "SIGTERM": (lambda: bench.kill(signal.SIGTERM), KILLS),
        "full": (bench.fill_disk, ROUNDS),
        "read-only": (bench.protect_disk, ROUNDS),
        "two at a time": (bench.double, ROUNDS),
    }
    while not bench.wrong and time.monotonic() < until and bench.counts["rounds"] < 10 * KILLS:
        left = [do for name, (do, often) in kinds.items() if bench.counts[name] < often]
        if not left:
            return
        left[bench.counts["rounds"] % len(left)]()
        bench.counts["rounds"] += 1
        noted()


class Counts:
    """What was done to each command so far, kept in a file where one is named.

    Args:
        file: JSON; None keeps nothing.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        read = json.loads(file.read_text(encoding="utf-8")) if file and file.exists() else {}
        self._of = {name: Counter(counts) for name, counts in read.items()}

    def of(self, name: str) -> Counter[str]:
        """Return those of a command, to be counted on."""
        return self._of.setdefault(name, Counter())

    def write(self) -> None:
        """Keep them."""
        if self._file is not None:
            self._file.write_text(json.dumps(self._of, indent=2), encoding="utf-8")


def main() -> None:
    """Harm every command, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60, help="in all")
    parser.add_argument("--only", help="commands or readers, separated by commas; by default all that there are")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and the damage")
    parser.add_argument("--counts", type=Path, help="file of what was done so far; this run continues from there")
    parser.add_argument("--fuzz", action="store_true", help="give damaged files to every reader instead")
    options = parser.parse_args()
    only = options.only.split(",") if options.only else None
    if options.fuzz:
        from benchmarks.fuzz import fuzz

        sys.exit(fuzz(60 * options.minutes, options.seed, only))
    end, root = time.monotonic() + 60 * options.minutes, Path(tempfile.mkdtemp(prefix="rcnn-faults-"))
    warm_up()
    for make in (make_inputs, write_truth):
        in_child(make, root)
    chosen = [case for case in cases(root) if only is None or case.name in only]
    print("| command | seconds of the processor | SIGKILL | SIGTERM | disk full | read-only | two at a time | lost |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    lost, done = 0, Counts(options.counts)
    for at, case in enumerate(chosen):
        before = done.of(case.name)
        rng = random.Random(f"{options.seed} {case.name} {before['rounds']}")
        bench = Bench(case, root / case.name.replace(" ", "-"), rng, counts=before)
        bench.first()
        harm(bench, time.monotonic() + (end - time.monotonic()) / (len(chosen) - at), done.write)
        counts = " | ".join(str(bench.counts[kind]) for kind in KINDS)
        print(f"| {case.name} | {bench.seconds:.1f} | {counts} | {len(bench.wrong) or 'nothing'} |", flush=True)
        lost += len(bench.wrong)
        for line in bench.wrong:
            print(f"{case.name}: {line}", file=sys.stderr, flush=True)
    if not lost:
        shutil.rmtree(root)
    sys.exit(1 if lost else 0)


def in_child(make: Callable[[Path], None], root: Path) -> None:
    """Do something in a process of its own, so that no thread is there when commands are started from this one."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            make(root)
            code = 0
        finally:
            os._exit(code)
    if os.waitpid(process, 0)[1]:
        sys.exit(f"the inputs cannot be made in {root}")


if __name__ == "__main__":
    main()
