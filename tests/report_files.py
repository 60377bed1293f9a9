"""A small run whose photos and classes have names that try to be markup, and the page about it."""

import json
from pathlib import Path

import PIL.Image
from typer.testing import CliRunner

from detect.commands.eval import app

HOSTILE_CLASS = '<marquee onstart=hack()>"\u202ecat\x1b[2J'
HOSTILE_PHOTO = "</script><img src=x onerror='window.hacked=1'>\u202e.png"
PLAIN_PHOTO = "plain.png"
DOG, CAT = [10, 10, 50, 40], [60, 10, 100, 70]


def hostile_run(folder: Path, *options: str, against: bool = False) -> None:
    """Write two photos, their COCO file, results and report.html with report.json about them.

    Of two objects of the hostile class one is found; there is a false dog in the hostile photo, and a true one in the
    plain photo. A second run found nothing.
    """
    for name in (HOSTILE_PHOTO, PLAIN_PHOTO):
        (folder / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.new("RGB", (120, 80), "steelblue").save(folder / "photos" / name)
    truth = folder / "instances.json"
    truth.write_text(json.dumps(_annotations()), encoding="utf-8")
    lines = [
        _line(HOSTILE_PHOTO, (CAT, HOSTILE_CLASS, 0.9), ([0, 60, 20, 80], "dog", 0.95)),
        _line(PLAIN_PHOTO, (DOG, "dog", 0.8)),
    ]
    _write(folder / "run", lines)
    words = ["detections", folder / "run", "--ground-truth", truth, "--images", folder / "photos"]
    if against:
        _write(folder / "other", [_line(HOSTILE_PHOTO), _line(PLAIN_PHOTO)])
        words += ["--against", folder / "other"]
    words += ["--html", folder / "report.html", "--json", folder / "report.json", *options]
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output


def _annotations() -> dict[str, object]:
    boxes = [(1, 1, CAT), (1, 1, DOG), (2, 2, DOG)]  # photo, class, box
    return {
        "images": [
            {"id": number, "file_name": name, "width": 120, "height": 80}
            for number, name in enumerate((HOSTILE_PHOTO, PLAIN_PHOTO), 1)
        ],
        "categories": [{"id": 1, "name": HOSTILE_CLASS}, {"id": 2, "name": "dog"}],
        "annotations": [
            {"id": row, "image_id": photo, "category_id": label, "bbox": _sides(box), "area": 1200, "iscrowd": 0}
            for row, (photo, label, box) in enumerate(boxes, 1)
        ],
    }


def _sides(box: list[int]) -> list[int]:
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]


def _line(photo: str, *found: tuple[list[int], str, float]) -> dict[str, object]:
    boxes, labels, scores = ([each[at] for each in found] for at in range(3))
    return {"image": photo, "width": 120, "height": 80, "boxes": boxes, "labels": labels, "scores": scores}


def _write(folder: Path, lines: list[dict[str, object]]) -> None:
    folder.mkdir()
    (folder / "detections.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
