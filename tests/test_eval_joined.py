"""Several datasets as one: every photo under a name of its own, the same objects, and the same classes."""

from pathlib import Path

import numpy as np
import pytest

from eval.joined import JoinedDataset, folder_names
from eval.voc import VocDataset
from tests.shapes import draw_photo, write_voc


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Two folders with two photos each, of the same names: 000 and 001."""
    both = [tmp_path / "one", tmp_path / "deep" / "two"]
    write_voc(both[0], "train", range(2))
    write_voc(both[1], "train", range(2, 4), named=range(2))
    return both


def join(folders: list[Path]) -> JoinedDataset:
    return JoinedDataset(
        {name: VocDataset(each, "train") for name, each in zip(folder_names(folders), folders, strict=True)}
    )


def test_photos_of_equal_names_stay_apart(folders: list[Path]) -> None:
    joined = join(folders)
    assert list(joined.image_ids) == ["one/000", "one/001", "deep/two/000", "deep/two/001"]
    assert [truth.image_id for truth in joined] == list(joined.image_ids)
    assert len(joined) == 4
    assert joined.split == "train"
    for number, image_id in enumerate(joined.image_ids):
        expected = [(corners, name) for name, corners in draw_photo(number)[1]]
        truth = joined.ground_truth(image_id)
        assert [joined.classes[label] for label in truth.labels] == [name for _, name in expected]
        assert np.array_equal(truth.boxes, [[*box[:2], box[2] + 1, box[3] + 1] for box, _ in expected])
        assert joined.image_path(image_id) == folders[number // 2] / "JPEGImages" / f"{number % 2:03}.png"


def test_oddities_of_the_parts_are_reported(folders: list[Path]) -> None:
    file = folders[1] / "Annotations" / "001.xml"
    file.write_text(file.read_text().replace("<width>96", "<width>0"))
    assert join(folders).notes == [f"1 image with a missing or wrong <size> ({file})"]


def test_other_classes_are_refused(folders: list[Path]) -> None:
    file = folders[1] / "Annotations" / "000.xml"
    file.write_text(file.read_text().replace("<name>disc", "<name>ball"))
    with pytest.raises(ValueError, match="one and deep/two have different classes: only deep/two has ball"):
        join(folders)


def test_another_order_of_classes_is_refused(folders: list[Path]) -> None:
    parts = {str(at): VocDataset(folders[0], "train", names) for at, names in enumerate([["a", "b"], ["b", "a"]])}
    with pytest.raises(ValueError, match="have different classes: the same ones, in another order"):
        JoinedDataset(parts)


def test_a_photo_that_is_not_there(folders: list[Path]) -> None:
    for look in (join(folders).ground_truth, join(folders).image_path):
        with pytest.raises(ValueError, match="no image '000' in one or deep/two"):
            look("000")


def test_a_folder_named_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "again").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="again: is named twice"):
        folder_names([tmp_path, tmp_path / "again"])


def test_a_folder_in_another_has_a_name(tmp_path: Path) -> None:
    assert folder_names([tmp_path, tmp_path / "more"]) == [".", "more"]
