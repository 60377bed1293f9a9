"""A folder of results with a million photos: seconds and memory of listing, resuming, exporting, judging and storing.

    python benchmarks/million.py [--photos 1000000] [--steps list,resume] [--folder FOLDER]

Makes small photos (hard links to a few files) and results in FOLDER, a temporary one that is removed at the end if none
is named, and runs each step in a process of its own. A million photos take 2.5 GB of disk and half an hour.

Nothing is detected: the steps are what a run does about photos that are done. The network's own memory comes on top.
"""

import argparse
import json
import multiprocessing
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image
from rich.console import Console

PER_FOLDER = 1000  # photos
FILES = 32  # with content of their own; a file has at most 65,000 names on ext4
SIDE = 8  # pixels
CLASSES = ("cat", "dog", "horse")
BOXES = 3  # detections per photo
PROPOSED = 50  # boxes per photo in the store
SETTINGS = {"classes": list(CLASSES), "exif": "apply", "score_floor": 0.05}
MEGA = 10**6


def main() -> None:
    """Make the files, run the steps, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=MEGA)
    parser.add_argument("--steps", default=",".join(STEPS), help="some of them, separated by commas")
    parser.add_argument("--folder", type=Path, help="kept, and used again where it is filled; else a temporary one")
    options = parser.parse_args()
    import detect.runs.detect
    import detect.runs.propose  # noqa: F401  # before the clocks start

    root = options.folder or Path(tempfile.mkdtemp(prefix="rcnn-million-"))
    try:
        begin = time.perf_counter()
        make_photos(root / "photos", options.photos)
        make_results(root / "out", root / "photos", options.photos)
        print(f"{options.photos} photos and lines made in {time.perf_counter() - begin:.0f} s", flush=True)
        print("| step | seconds | of these on the CPU | MB before | MB at most |\n|---|---|---|---|---|", flush=True)
        for name in options.steps.split(","):
            print(f"| {name} | {apart(name, root, options.photos)} |", flush=True)
    finally:
        if options.folder is None:
            shutil.rmtree(root)


def names_of(count: int) -> Iterator[str]:
    """Yield the names of the photos."""
    return (f"{number // PER_FOLDER:04d}/{number:07d}.png" for number in range(count))


def make_photos(folder: Path, count: int) -> None:
    """Make many names for few files."""
    if folder.is_dir():
        return
    files = [folder.parent / "files" / f"{number}.png" for number in range(FILES)]
    files[0].parent.mkdir(parents=True)
    for number, file in enumerate(files):
        PIL.Image.fromarray(np.full((SIDE, SIDE, 3), number, np.uint8)).save(file)
    for number, name in enumerate(names_of(count)):
        if number % PER_FOLDER == 0:
            (folder / name).parent.mkdir(parents=True)
        os.link(files[number % FILES], folder / name)


def make_results(out: Path, photos: Path, count: int) -> None:
    """Write the results of a run that is done."""
    from detect.found import as_entry
    from detect.runs.record import RunRecord
    from proposals.stored.reader import file_key
    from structures.file_digests import FileDigests, stamp_of
    from structures.records import Detections

    if (out / "run.json").is_file():
        return
    RunRecord(out, SETTINGS).finish()
    files = [photos.parent / "files" / f"{number}.png" for number in range(FILES)]
    keys, stamps = list(map(file_key, files)), [stamp for file in files if (stamp := stamp_of(file))]
    corners = np.array([[0.5, 1, 4 + number, 6.25] for number in range(BOXES)], np.float32)
    scores = np.array([0.9, 0.5, 0.0625], np.float32)
    found = Detections(corners, np.arange(BOXES), scores, (SIDE, SIDE), source_names=("selective-search",))
    entry = as_entry("NAME", found, CLASSES)
    digests = FileDigests(out)
    with (out / "detections.jsonl").open("w", encoding="utf-8") as file:
        for number, name in enumerate(names_of(count)):
            file.write(json.dumps({**entry, "image": name, "file_key": keys[number % FILES]}) + "\n")
            digests.add(name, stamps[number % FILES], keys[number % FILES])
    digests.write()


def apart(name: str, root: Path, count: int) -> str:
    """Run a step in a process of its own; return the cells of its row."""
    context = multiprocessing.get_context("fork")  # with all imports done: what they take shows as "before"
    mine, theirs = context.Pipe(duplex=False)
    process = context.Process(target=measured, args=(name, root, count, theirs))
    process.start()
    theirs.close()
    try:
        return str(mine.recv())
    except EOFError:
        return "failed | | |"
    finally:
        process.join()


def measured(name: str, root: Path, count: int, answer: Any) -> None:
    """Be that process."""
    before, begin, busy = peak_megabytes(), time.perf_counter(), time.process_time()
    STEPS[name](root, count)
    seconds, cpu = time.perf_counter() - begin, time.process_time() - busy
    answer.send(f"{seconds:.1f} | {cpu:.1f} | {before:.0f} | {peak_megabytes():.0f}")


def peak_megabytes() -> float:
    """Return the most memory that this process held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MEGA


def list_photos(root: Path, count: int) -> None:
    """Find all photos in a folder of folders."""
    from detect.runs.photos import find_photos

    found = find_photos([str(root / "photos")])
    assert len(found) == count
    assert found[0].path.is_file()


def list_file(root: Path, count: int) -> None:
    """Find all photos that a text file names."""
    from detect.runs.photos import find_photos

    listed = root / "list.txt"
    listed.write_text("".join(f"{root}/photos/{name}\n" for name in names_of(count)), encoding="utf-8")
    assert len(find_photos([], lists=[listed])) == count


def resume(root: Path, count: int, form: str = "jsonl") -> None:
    """Start a run again that is done: `rcnn detect` without its networks."""
    from detect.runs.detect import DetectionJob, detect_to_folder
    from detect.runs.photos import find_photos

    job = DetectionJob(find_photos([str(root / "photos")]), root / "out", format=form)
    detector: Any = SimpleNamespace(
        classes=CLASSES, classify=None, stages=lambda read, **more: [], options=SimpleNamespace(exif="apply")
    )
    summary = detect_to_folder(job, detector, SETTINGS, Console(quiet=True))
    assert summary.done == count
    assert summary.fresh == 0


def first_resume(root: Path, count: int) -> None:
    """Do the same where nothing says which photos were changed, as in folders of earlier versions: all are hashed."""
    (root / "out/.rcnn.files").unlink(missing_ok=True)
    resume(root, count)


def export_as(form: str) -> Callable[[Path, int], None]:
    """Return a step that writes all results in another format."""

    def step(root: Path, count: int) -> None:
        from detect.runs.exports import export
        from structures.own_files import OwnFiles

        with OwnFiles(root / "out") as files:
            export(files, form, CLASSES)

    return step


def align(root: Path, count: int) -> None:
    """Read the results and bring them into the order of a ground truth."""
    from eval.aligned import align as bring
    from eval.results import ResultLines

    aligned = bring(ResultLines(root / "out/detections.jsonl"), Truth(list(names_of(count))))
    assert sum(len(found) for found in aligned.detections) == count * BOXES


def judge(root: Path, count: int) -> None:
    """Do the same, and measure mAP."""
    from eval.aligned import align as bring
    from eval.protocols import voc
    from eval.results import ResultLines

    truth = Truth(list(names_of(count)))
    aligned = bring(ResultLines(root / "out/detections.jsonl"), truth)
    figures = dict(voc(truth, aligned.detections, CLASSES))
    assert 0 < figures["mAP"] <= 1


class Truth:
    """A ground truth with an object on each photo that takes no memory of its own: what is measured is the results'."""

    classes, notes = CLASSES, ()

    def __init__(self, image_ids: list[str]) -> None:
        self.image_ids = image_ids

    def __iter__(self) -> Iterator[Any]:
        return map(self.ground_truth, self.image_ids)

    def ground_truth(self, name: str) -> Any:
        """Return the object of a photo."""
        from structures.records import GroundTruth

        box, area = np.array([[0.5, 1, 4, 6]], np.float32), np.array([17.5], np.float32)
        return GroundTruth(name, box, np.zeros(1, np.int64), np.zeros(1, bool), area, (SIDE, SIDE))

    def __len__(self) -> int:
        return len(self.image_ids)


def fill_store(root: Path, count: int) -> None:
    """Write proposals; the last tenth should take no longer than the first."""
    from proposals.stored.writer import StoreWriter
    from structures.records import Proposals

    shutil.rmtree(root / "store", ignore_errors=True)
    boxes = np.tile(np.array([0, 0, 5, 6], np.float32), (PROPOSED, 1))
    proposals = Proposals(boxes, np.ones(PROPOSED, np.float32), (SIDE, SIDE))
    tenths = []
    with StoreWriter(root / "store", {"generator": "benchmark"}) as writer:
        begin = time.process_time()
        for number, name in enumerate(names_of(count), start=1):
            writer.add(name, f"{number:032x}", f"{number % FILES:032x}", proposals)
            if number % max(1, count // 10) == 0:
                tenths.append(time.process_time() - begin)
    spent = np.diff([0, *tenths]) / max(1, count // 10) * 1e6
    print(f"  microseconds of CPU per photo in each tenth: {', '.join(f'{each:.0f}' for each in spent)}", flush=True)


def resume_store(root: Path, count: int) -> None:
    """Open the store to go on with it."""
    from proposals.stored.writer import StoreWriter

    with StoreWriter(root / "store", {"generator": "benchmark"}) as writer:
        assert len(writer.known) == count


def read_store(root: Path, count: int) -> None:
    """Open the store to read boxes from it."""
    from proposals.stored.reader import ProposalStore

    store = ProposalStore(root / "store")
    assert len(store) == count
    assert len(store.boxes_of(next(names_of(1)))[0]) == PROPOSED


STEPS: Mapping[str, Callable[[Path, int], None]] = {
    "list": list_photos,
    "list-file": list_file,
    "resume": resume,
    "first-resume": first_resume,
    "coco": export_as("coco"),
    "voc": export_as("voc"),
    "csv": export_as("csv"),
    "yolo": export_as("yolo"),
    "align": align,
    "judge": judge,
    "store": fill_store,
    "resume-store": resume_store,
    "read-store": read_store,
}


if __name__ == "__main__":
    main()
