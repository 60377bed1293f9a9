"""Which annotations of a folder of VOC's XML belong to a split, and where they and their photos lie.

Known are VOC's own layout (Annotations, JPEGImages, ImageSets/Main), which CVAT exports too; a folder for each split
with photos and XML side by side, as Roboflow exports it; and LabelImg's: all photos and XML side by side, or in two
folders.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.layout import SPLITS, find_photo, find_split, folders_in, photo_folders, read_list
from eval.notes import Notes
from eval.voc_xml import VocError
from structures.images import SUFFIXES

ANNOTATIONS, LISTS, PHOTOS = "Annotations", "ImageSets/Main", "JPEGImages"
USUAL = ("Annotations", "annotations", "xml", "labels")  # folders of XML


@dataclass(frozen=True)
class VocLayout:
    """Where a split lies.

    Attributes:
        annotations: folder of the XML files.
        photos: folders of the photos, in the order in which they are searched.
        image_ids: names of the images, in the order of the list, or else sorted.
        split: name of the list or folder; "" where all annotations of the folder are taken.
    """

    annotations: Path
    photos: Sequence[Path]
    image_ids: Sequence[str]
    split: str = ""

    def annotation(self, image_id: str) -> Path:
        """Return the XML file of an image."""
        return self.annotations / f"{image_id}.xml"

    def photo(self, image_id: str) -> Path:
        """Return the photo of an image: the .jpg, or else another picture of that name."""
        return find_photo(self.photos, image_id)

    def unlabelled(self) -> list[Path]:
        """Return the photos next to annotated ones that have no XML file."""
        found = {path.with_suffix("") for path in map(self.photo, self.image_ids) if path.exists()}
        there = (path for folder in sorted({path.parent for path in found}) for path in sorted(folder.iterdir()))
        return [path for path in there if path.suffix.lower() in SUFFIXES and path.with_suffix("") not in found]


def has_xml(folder: Path) -> bool:
    """Say whether there is an XML file in a folder, in one of the usual names in it, or in folders below it."""
    return folder.is_dir() and any(True for pattern in ("*.xml", "*/*.xml") for _ in folder.glob(pattern))


def has_lists(root: Path) -> bool:
    """Say whether a folder has VOC's image lists, or should have them."""
    return (root / LISTS).is_dir()


def has_split(root: Path, split: str) -> bool:
    """Say whether a folder has an image list of this name, in one of its spellings; without lists, such a folder."""
    return find_split(_splits(root), split) is not None


def _splits(root: Path) -> list[str]:
    """Return the names that splits may have: of the lists, or else of the folders with XML in or below them."""
    return _lists(root) if has_lists(root) else [folder.name for folder in folders_in(root) if has_xml(folder)]


def _lists(root: Path) -> list[str]:
    return sorted(path.stem for path in (root / LISTS).glob("*.txt"))


def _of_all_classes(lists: Sequence[str]) -> list[str]:
    """Return the lists of whole splits: VOC and CVAT also write CLASS_SPLIT for each class.

    >>> _of_all_classes(["default", "hot_dog_default", "my_list"])
    ['default', 'my_list']
    """
    return [name for name in lists if not any(name.endswith(f"_{other}") for other in lists)]


def splits_of(root: Path) -> list[str]:
    """Return the names of the usual splits of a folder; empty where there are none of these names."""
    there = _splits(root)
    return [name for split in SPLITS if (name := find_split(there, split))]


def voc_layout(root: Path, split: str | None, usual: str, images: Path | None, notes: Notes) -> VocLayout:
    """Find a split in a folder.

    Args:
        root: the folder.
        split: name of the list, or of the folder of the split; None takes the usual one, or the only one there is.
        usual: name of the split where none is named.
        images: folder of the photos, if they are in none of the usual ones.
        notes: gets a note of what was chosen without being asked for.

    Raises:
        VocError: there is no split of that name, or its list is empty; says what there is.
    """
    if has_lists(root) or (root / ANNOTATIONS).is_dir():
        return _by_list(root, split, usual, images, notes)
    name = find_split(_splits(root), split or usual)
    if name is not None:
        return _whole(root / name, images, name, notes)
    folders = _folders_of_xml(root)
    if split is None and (any(root.glob("*.xml")) or len(folders) == 1):
        return _whole(root, images, "", notes)
    there = f"there are {', '.join(folders[:20])}" if folders else f"{root} is not a VOC folder"
    raise VocError(f"{root}: no split {split or usual!r}: neither {LISTS} nor a folder of that name; {there}")


def _folders_of_xml(root: Path) -> list[str]:
    return [folder.name for folder in folders_in(root) if any(folder.glob("*.xml"))]


def _by_list(root: Path, split: str | None, usual: str, images: Path | None, notes: Notes) -> VocLayout:
    lists, wanted = _lists(root), split or usual
    if split is None and not has_lists(root):
        return _whole(root / ANNOTATIONS, images, "", notes)
    name, whole = find_split(lists, wanted) or wanted, _of_all_classes(lists)
    if split is None and name not in lists and len(whole) == 1:  # CVAT's `default`, for example
        [name] = whole
        notes.add(f"list {name!r} read, as there is no {wanted!r}", root / LISTS)
    folder = root / ANNOTATIONS
    ids = _read_split(root, folder, name, notes)
    return VocLayout(folder, _photos(folder, images), ids, name)


def _photos(annotations: Path, images: Path | None) -> list[Path]:
    return [images] if images is not None else [annotations.parent / PHOTOS, *photo_folders(annotations)]


def _whole(root: Path, images: Path | None, split: str, notes: Notes) -> VocLayout:
    """Take all XML files: those in the folder itself, or those of the one folder in it that has them."""
    folder = root if any(root.glob("*.xml")) else _only_folder(root)
    ids = [path.relative_to(folder).with_suffix("").as_posix() for path in sorted(folder.rglob("*.xml"))]
    nearby = [] if folder == root else _siblings(folder)  # of two folders in one, not of one split's folder
    photos = [images] if images is not None else [*photo_folders(folder), *nearby]
    layout = VocLayout(folder, photos, ids, split)
    if without := layout.unlabelled():
        notes.add("photo without an annotation left out", without[0], len(without))
    return layout


def _only_folder(root: Path) -> Path:
    found = [root / name for name in (*USUAL, *_folders_of_xml(root)) if any((root / name).glob("*.xml"))]
    if not found:
        raise VocError(f"{root}: no XML file in it or in a folder below it")
    return found[0]


def _siblings(folder: Path) -> list[Path]:
    """Return the folders next to one of annotations, whatever their names: photos may be there."""
    return [each for each in folders_in(folder.parent) if each != folder]


def _read_split(root: Path, annotations: Path, split: str, notes: Notes) -> tuple[str, ...]:
    path = root / LISTS / f"{split}.txt"
    if not path.is_file():
        known = ", ".join(_of_all_classes(_lists(root))[:20])
        raise VocError(
            f"{path}: no such image list; {f'there are {known}' if known else f'{root} is not a VOC folder'}"
        )
    ids = [_image_id(line, annotations) for line in read_list(path, VocError)]
    if not ids:
        raise VocError(f"{path}: the image list is empty")
    unique = tuple(dict.fromkeys(ids))
    if len(unique) < len(ids):
        notes.add("image listed more than once, counted once", path, len(ids) - len(unique))
    return unique


def _image_id(line: str, annotations: Path) -> str:
    """Drop the second column (-1, 0, 1) of the lists by class; names may hold spaces."""
    columns = line.split()
    if len(columns) == 1 or columns[-1] not in ("-1", "0", "1") or (annotations / f"{line}.xml").exists():
        return line
    return line[: -len(columns[-1])].strip()
