"""The demo: detects objects on photos of scikit-image and draws them. `make demo` or `python -m detect.demo`."""

import shutil
from pathlib import Path

from rich.table import Table

from detect.cli import FROM_SCRATCH, guarded
from detect.commands.detect import detect
from detect.consoles import open_console
from detect.runs.photos import PICTURES
from detect.settings import DRAW_FLOOR
from eval.results import DETECTIONS_FILE, ResultLine, read_lines
from structures.errors import InputError
from structures.files import replacing

# They are in scikit-image's wheel, so nothing is downloaded: a person, a cat, a cup, a motorbike, a grey photographer.
PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "camera.png")
FOLDER = Path("demo-out")


def main() -> None:
    """Detect objects on the photos, and print what was found."""
    photos, results = FOLDER / "photos", FOLDER / "results"
    copy_photos(photos)
    console = open_console()
    console.print(f"$ rcnn detect {photos} --out {results} --draw --overwrite", highlight=False)
    detect(photos=[str(photos)], out=results, draw=True, overwrite=True)
    lines, _ = read_lines(results / DETECTIONS_FILE)
    console.print(found_table(lines))
    console.print(f"The pictures are in {results / PICTURES}", highlight=False)


def copy_photos(folder: Path) -> None:
    """Copy the photos that are missing into a folder.

    Raises:
        InputError: the installed scikit-image has no photos.
    """
    import skimage

    source = Path(skimage.__file__).parent / "data"
    present = [name for name in PHOTOS if (source / name).is_file()]
    if not present:
        raise InputError(f"{source}: the installed scikit-image has no photos")
    folder.mkdir(parents=True, exist_ok=True)
    for name in present:
        if not (folder / name).exists():
            with replacing(folder / name) as partial:
                shutil.copyfile(source / name, partial)


def found_table(lines: list[ResultLine], score_floor: float = DRAW_FLOOR) -> Table:
    """Return a table of the drawn detections: photo, class, score and box."""
    table = Table("photo", "found", "score", "box: x1, y1, x2, y2", box=None, pad_edge=False)
    for line in lines:
        strong = line.found.take(line.found.scores >= score_floor)
        if not len(strong):
            table.add_row(line.image, "nothing", "", "")
        for box, label, score in zip(strong.boxes, strong.labels, strong.scores, strict=True):
            table.add_row(line.image, line.names[label], f"{score:.2f}", ", ".join(f"{value:.0f}" for value in box))
    return table


if __name__ == "__main__":
    guarded(main, stopped=FROM_SCRATCH)
