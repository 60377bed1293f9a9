"""Damaged files for every reader: does each end in a result or in one line that names the file, in bounded time?

Called by `python benchmarks/faults.py --fuzz --minutes 10`. Sound files (`benchmarks/fuzz_readers.py`) are changed at
random (`benchmarks/fuzz_damage.py`): bits, bytes and pieces are changed, cut out, doubled and moved, numbers and words
of texts replaced by odd ones; or a file of the right format is written with odd contents
(`benchmarks/fuzz_contents.py`). A reader may return, or raise InputError or the system's OSError. Any other exception,
a crash, or more than SECONDS of the processor for 64 MiB is a fault: its file is kept, and printed with its seed.
"""

import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Collection
from pathlib import Path

from benchmarks.fuzz_damage import Reader

SECONDS = 10  # of the processor, per file and PORTION of it
PORTION = 2**26  # bytes; most files have a few hundred, but one that grew by a million has more
MEMORY = 2**33  # bytes that a process may map


def fuzz(seconds: float, seed: int, only: Collection[str] | None = None) -> int:
    """Read damaged files for this many seconds, all readers in turn; return the exit code."""
    from benchmarks.fault_cases import warm_up
    from benchmarks.fuzz_readers import readers

    warm_up()
    root, end, counts = Path(tempfile.mkdtemp(prefix="rcnn-fuzz-")), time.monotonic() + seconds, dict[str, list[int]]()
    found, turn, faults = [each for each in readers(root) if only is None or each.name in only], 0, 0
    while time.monotonic() < end:
        reader = found[turn % len(found)]
        folder = root / f"{turn}"
        read, refused, fault = _in_child(reader, folder, f"{seed} {turn}", min(end, time.monotonic() + 5))
        numbers = counts.setdefault(reader.name, [0, 0, 0])
        counts[reader.name] = [one + more for one, more in zip(numbers, (read, refused, fault), strict=True)]
        faults, turn = faults + fault, turn + 1
    print("| reader | files | refused with one line | faults |\n|---|---|---|---|")
    for name, (read, refused, fault) in counts.items():
        print(f"| {name} | {read + refused + fault:,} | {refused:,} | {fault} |")
    total = sum(map(sum, counts.values()))
    print(
        f"{total:,} files in {seconds / 60:.0f} minutes, {faults} faults" + (f"; they are in {root}" if faults else "")
    )
    return 1 if faults else 0


def _in_child(reader: Reader, folder: Path, seed: str, end: float) -> tuple[int, int, int]:
    """Read some files in a process of its own; return how many were read, refused, and at fault."""
    mine, theirs = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            os.close(mine)
            _limit()
            _read_many(reader, folder, random.Random(seed), end, theirs)
        finally:
            os._exit(0)
    os.close(theirs)
    with os.fdopen(mine, "rb") as answers:
        said = answers.read().decode()
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    crashed = int(status != 0)
    if crashed:
        what = "took too long" if -status in (signal.SIGXCPU, signal.SIGPROF) else f"ended with {status}"
        print(f"{reader.name}: {what} (seed {seed!r}): {folder / reader.file}", file=sys.stderr, flush=True)
    return said.count("r"), said.count("x"), said.count("f") + crashed


def _limit() -> None:
    """Let the system end what takes too much memory, and be quiet about what readers say."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _read_many(reader: Reader, folder: Path, rng: random.Random, end: float, answers: int) -> None:
    from structures.errors import InputError

    path = folder / reader.file
    path.parent.mkdir(parents=True)
    for other, content in reader.needs.items():
        (folder / other).parent.mkdir(parents=True, exist_ok=True)
        (folder / other).write_bytes(content)
    kept, said = False, ""
    for _ in range(reader.together):
        if time.monotonic() > end:
            break
        size = path.write_bytes(reader.spoilt(rng))
        signal.setitimer(signal.ITIMER_PROF, SECONDS * (1 + size // PORTION))  # ends the process, also within a decoder
        try:
            reader.read(path)
            answer = b"r"
        except InputError:
            answer = b"x"
        except BaseException as error:
            of_the_system = isinstance(error, OSError) and error.errno is not None
            answer, said = b"x" if of_the_system else b"f", traceback.format_exc()
        os.write(answers, answer)
        if answer == b"f":
            print(said, file=sys.stderr)
            print(f"{reader.name}: {path}", file=sys.stderr, flush=True)
            kept = True
            break
    if not kept:
        shutil.rmtree(folder)
