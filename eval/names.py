"""Which image of a dataset a name means: VOC names images by stem, COCO by file name, other programs by number."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath

from structures.records import Dataset


def forward(name: str) -> str:
    r"""Return a name with forward slashes: one that has only the others was written on Windows.

    >>> forward(r"val\1.jpg"), forward(r"a/b\c")
    ('val/1.jpg', 'a/b\\c')
    """
    return name if "/" in name else name.replace("\\", "/")


class ImageNames:
    """Finds the image of a dataset that a name means.

    A name is tried as it is, without its suffix, without its folders, and without both. An image may also be called by
    the last part of its own name, where no other image has the same.

    Args:
        dataset: the images.
        numbers: an image may also be called by its number: COCO's image id, or a stem of digits without zeros in front.
            Only a whole name is a number: 7.jpg never means the image with id 7.
    """

    def __init__(self, dataset: Dataset, *, numbers: bool = False) -> None:
        self._aliases = _short_names(dataset.image_ids)
        self._aliases.update({image_id: image_id for image_id in dataset.image_ids})
        self._numbers = _numbers(dataset) if numbers else {}

    def find(self, name: str) -> str | None:
        """Return the image id that a name means; None if there is none."""
        if name in self._numbers:
            return self._numbers[name]
        return next((self._aliases[spelling] for spelling in _spellings(name) if spelling in self._aliases), None)


def _short_names(image_ids: Sequence[str]) -> dict[str, str]:
    last_parts = [PurePosixPath(image_id).name for image_id in image_ids]
    counts = Counter(last_parts)
    return {last: image_id for last, image_id in zip(last_parts, image_ids, strict=True) if counts[last] == 1}


def _numbers(dataset: Dataset) -> dict[str, str]:
    given: Mapping[str, int] = getattr(dataset, "image_numbers", {}) or _stem_numbers(dataset.image_ids)
    return {str(number): image_id for image_id, number in given.items()}


def _stem_numbers(image_ids: Sequence[str]) -> dict[str, int]:
    digits = {image_id: int(image_id) for image_id in image_ids if image_id.isascii() and image_id.isdigit()}
    counts = Counter(digits.values())
    return {image_id: number for image_id, number in digits.items() if counts[number] == 1}


def _spellings(name: str) -> Iterator[str]:
    path = PurePosixPath(name)
    yield name
    if path.name:
        yield from (str(path.with_suffix("")), path.name, path.stem)
    if "\\" in name:  # written on Windows, perhaps
        yield from _spellings(name.replace("\\", "/"))


def match_names(names: Sequence[str], dataset: Dataset) -> tuple[dict[str, str], list[str]]:
    """Match the names in a file of another program, which may be numbers, with the images of a dataset.

    Returns:
        The name of every image id that has one, in the order of the names, and the names that no image has.

    Raises:
        ValueError: two names mean the same image, or no name means any.
    """
    images = ImageNames(dataset, numbers=True)
    found, extra = dict[str, str](), list[str]()
    for name in names:
        image_id = images.find(name)
        if image_id is None:
            extra.append(name)
        elif image_id in found:
            raise ValueError(f"{name} and {found[image_id]} are both image {image_id} of the ground truth")
        else:
            found[image_id] = name
    if not found:
        raise ValueError(f"no photo is in the ground truth, such as {', '.join(names[:3]) or '(the file is empty)'}")
    return found, extra
