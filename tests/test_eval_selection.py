"""Parts of a dataset: labels are renumbered, other classes left out, samples even and always the same."""

import json
from pathlib import Path

import numpy as np
import pytest

from eval.coco import CocoDataset
from eval.selection import Selection, pick_evenly
from eval.voc import VocDataset


@pytest.fixture
def coco(tmp_path: Path) -> CocoDataset:
    """Photo n holds one object of each of the classes in its place, and 2.jpg a crowd of dogs."""
    held = [["cat", "dog"], ["cup"], ["dog"], ["dog", "cat", "cup"], []]
    numbers = {"cat": 3, "dog": 7, "cup": 90}
    annotations = [
        {
            "id": len(held) * image + place + 1,
            "image_id": image + 1,
            "category_id": numbers[name],
            "bbox": [10 * place, 0, 5 + numbers[name], 4],
            "area": 4 * (5 + numbers[name]),
            "iscrowd": int(image == 2),
        }
        for image, names in enumerate(held)
        for place, name in enumerate(names)
    ]
    photos = [{"id": n + 1, "file_name": f"{n}.jpg", "width": 200, "height": 50} for n in range(len(held))]
    categories = [{"id": number, "name": name} for name, number in numbers.items()]
    file = tmp_path / "instances.json"
    file.write_text(json.dumps({"images": photos, "annotations": annotations, "categories": categories}))
    return CocoDataset(file)


def test_objects_of_ignored_classes_stay_and_do_not_count(coco: CocoDataset) -> None:
    part = Selection(coco, classes=["cup", "cat"], ignored=["Cat", "dog"])
    assert (part.classes, part.ignored) == (("cup", "cat"), ("cat", "dog"))
    truth = part.ground_truth("3.jpg")
    assert (truth.labels.tolist(), truth.ignore.tolist()) == ([1, 0], [True, False])
    with pytest.raises(ValueError, match="no class cow"):
        Selection(coco, ignored=["cow"])


def test_labels_follow_the_order_of_the_names(coco: CocoDataset) -> None:
    part = Selection(coco, classes=["CUP", "cat"])
    assert part.classes == ("cup", "cat")
    assert [part.ground_truth(name).labels.tolist() for name in part.image_ids] == [[1], [0], [], [1, 0], []]
    assert len(list(part)) == len(part) == 5
    truth, whole = part.ground_truth("3.jpg"), coco.ground_truth("3.jpg")
    assert np.array_equal(truth.boxes, whole.boxes[1:])
    assert np.array_equal(truth.area, whole.area[1:])
    assert truth.image_size == (50, 200)
    assert part.image_path("3.jpg") == coco.image_path("3.jpg")


def test_crowds_of_other_classes_go_and_of_chosen_ones_stay(coco: CocoDataset) -> None:
    assert Selection(coco, classes=["dog"]).ground_truth("2.jpg").ignore.tolist() == [True]
    assert Selection(coco, classes=["cat"]).ground_truth("2.jpg").ignore.tolist() == []


def test_without_a_choice_all_is_as_it_was(coco: CocoDataset) -> None:
    whole = Selection(coco)
    assert (whole.classes, whole.image_ids) == (coco.classes, coco.image_ids)
    for a, b in zip(whole, coco, strict=True):
        assert all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("boxes", "labels", "ignore", "area"))


def test_choosing_all_but_one_voc_class_is_what_the_reader_itself_leaves_out(tmp_path: Path) -> None:
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "ImageSets" / "Main" / "val.txt").write_text("a\n")
    objects = "".join(
        f"<object><name>{name}</name><bndbox><xmin>1</xmin><ymin>{row}</ymin><xmax>9</xmax><ymax>30</ymax></bndbox>"
        f"<difficult>{row % 2}</difficult></object>"
        for row, name in enumerate(["dog", "cat", "bus", "dog"], 1)
    )
    size = "<size><width>40</width><height>40</height></size>"
    (tmp_path / "Annotations" / "a.xml").write_text(f"<annotation>{size}{objects}</annotation>")
    chosen = Selection(VocDataset(tmp_path, "val"), classes=["dog", "bus"]).ground_truth("a")
    expected = VocDataset(tmp_path, "val", classes=["dog", "bus"]).ground_truth("a")
    for name in ("boxes", "labels", "ignore", "area"):
        assert np.array_equal(getattr(chosen, name), getattr(expected, name)), name
    assert chosen.labels.tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("classes", "complaint"),
    [
        (["dog", "bird", "fish"], "no class bird, fish: the classes are cat, dog, cup"),
        (["dog", "cat", "Dog"], "a class is named twice: dog, cat, Dog"),
        ([], "no class was named"),
    ],
)
def test_names_that_cannot_be_meant(coco: CocoDataset, classes: list[str], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Selection(coco, classes=classes)


def test_samples_are_even_and_in_order(coco: CocoDataset) -> None:
    part = Selection(coco, photos=2)
    assert part.image_ids == ("0.jpg", "2.jpg")
    with pytest.raises(ValueError, match=r"'1\.jpg' is not one of the 2"):
        part.ground_truth("1.jpg")
    names = [str(n) for n in range(978)]
    for count in (1, 7, 200, 977, 978, 2000):
        chosen = pick_evenly(names, count)
        assert len(chosen) == min(count, 978)
        steps = np.diff([int(name) for name in chosen])
        assert len(steps) == 0 or steps.max() - steps.min() <= 1
