"""Annotated photos as the tools of annotators leave them: folders of two photos, a and b, with one dog each."""

import json
from pathlib import Path

import PIL.Image

SIZE = (40, 100)  # height, width of all photos
BOX = [10, 4, 60, 24]  # of the one object on each photo of `name`
ROW = "1 0.35 0.35 0.5 0.5\n"  # the same
XML = (
    "<annotation><size><width>100</width><height>40</height></size><object><name>dog</name><bndbox>"
    "<xmin>11</xmin><ymin>5</ymin><xmax>60</xmax><ymax>24</ymax></bndbox></object></annotation>"
)


def photo(path: Path, size: tuple[int, int] = SIZE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new("RGB", size[::-1]).save(path)


def text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode())


def coco(path: Path, names: list[str]) -> None:
    images = [{"id": n, "file_name": name, "width": 100, "height": 40} for n, name in enumerate(names)]
    objects = [{"id": n, "image_id": n, "category_id": 1, "bbox": [10, 4, 50, 20]} for n in range(len(names))]
    root = {"id": 0, "name": "dog", "supercategory": "none"}  # as Roboflow has it
    categories = [root, {"id": 1, "name": "dog", "supercategory": "dog"}]
    text(path, json.dumps({"images": images, "annotations": objects, "categories": categories}))


def labelimg_side_by_side(root: Path) -> None:
    for name in "ab":
        photo(root / f"{name}.jpg")
        text(root / f"{name}.xml", XML)


def labelimg_two_folders(root: Path) -> None:
    for name in "ab":
        photo(root / "my photos" / f"{name}.jpg")
        text(root / "my boxes" / f"{name}.xml", XML)


def labelimg_yolo(root: Path) -> None:
    for name in "ab":
        photo(root / f"{name}.jpg")
        text(root / f"{name}.txt", ROW)
    text(root / "classes.txt", "cat\ndog\n")


def voc_lists(root: Path) -> None:
    for name in "ab":
        photo(root / "JPEGImages" / f"{name}.jpg")
        text(root / "Annotations" / f"{name}.xml", XML)
    text(root / "ImageSets/Main/val.txt", "a\nb\n")


def cvat_voc(root: Path) -> None:
    voc_lists(root)
    (root / "ImageSets/Main/val.txt").rename(root / "ImageSets/Main/default.txt")
    text(root / "ImageSets/Main/hot_dog_default.txt", "a  1\nb -1\n")  # one per class
    text(root / "labelmap.txt", "# label:color_rgb:parts:actions\nbackground:0,0,0::\ndog:1,2,3::\n")


def cvat_subsets_of_voc(root: Path) -> None:
    voc_lists(root)
    (root / "ImageSets/Main/val.txt").rename(root / "ImageSets/Main/Validation.txt")
    text(root / "ImageSets/Main/Train.txt", "a\n")


def cvat_subsets_of_coco(root: Path) -> None:
    for name in "ab":
        photo(root / f"images/Validation/{name}.jpg")
    coco(root / "annotations/instances_Validation.json", ["a.jpg", "b.jpg"])
    coco(root / "annotations/instances_Train.json", ["c.jpg"])


def cvat_subsets_of_yolo(root: Path) -> None:
    ultralytics(root, split="Validation")
    text(root / "data.yaml", "Train: Train.txt\nValidation: Validation.txt\nnames:\n  0: cat\n  1: dog\npath: .\n")
    text(root / "Train.txt", "data/images/Train/c.jpg\n")
    text(root / "Validation.txt", "data/images/Validation/a.jpg\ndata/images/Validation/b.jpg\n")


def cvat_yolo(root: Path) -> None:
    for name in "ab":
        photo(root / "obj_train_data" / f"{name}.jpg")
        text(root / "obj_train_data" / f"{name}.txt", ROW)
    text(root / "obj.names", "cat\ndog\n")
    text(root / "obj.data", "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n")
    text(root / "train.txt", "data/obj_train_data/a.jpg\ndata/obj_train_data/b.jpg\n")


def cvat_ultralytics(root: Path) -> None:
    ultralytics(root, split="train")
    text(root / "data.yaml", "names:\n  0: cat\n  1: dog\npath: .\ntrain: train.txt\n")
    text(root / "train.txt", "data/images/train/a.jpg\ndata/images/train/b.jpg\n")


def cvat_coco(root: Path) -> None:
    for name in "ab":
        photo(root / "images" / f"{name}.jpg")
    coco(root / "annotations/instances_default.json", ["a.jpg", "b.jpg"])


def ultralytics(root: Path, split: str = "val") -> None:
    for name in "ab":
        photo(root / "images" / split / f"{name}.jpg")
        text(root / "labels" / split / f"{name}.txt", ROW)
    text(
        root / "data.yaml", f"path: /somewhere/else\ntrain: images/train\n{split}: images/{split}\nnames: [cat, dog]\n"
    )


def folders_alone(root: Path) -> None:
    ultralytics(root)
    (root / "data.yaml").unlink()
    text(root / "labels/classes.txt", "cat\ndog\n")


def roboflow_yolo(root: Path) -> None:
    for name in "ab":
        photo(root / "valid/images" / f"{name}.jpg")
        text(root / "valid/labels" / f"{name}.txt", ROW)
    text(root / "data.yaml", "train: ../train/images\nval: ../valid/images\n\nnc: 2\nnames: ['cat', 'dog']\n")


def roboflow_darknet(root: Path) -> None:
    for split in ("train", "valid"):
        for name in "ab":
            photo(root / split / f"{name}.jpg")
            text(root / split / f"{name}.txt", ROW)
        text(root / split / "_darknet.labels", "cat\ndog\n")
    text(root / "README.roboflow.txt", "exported\n")


def roboflow_voc(root: Path) -> None:
    for split in ("train", "valid"):
        labelimg_side_by_side(root / split)


def roboflow_coco(root: Path) -> None:
    for split in ("train", "valid"):
        for name in "ab":
            photo(root / split / f"{name}.jpg")
        coco(root / split / "_annotations.coco.json", ["a.jpg", "b.jpg"])


def windows(root: Path) -> None:
    """Byte order marks, CRLF and backslashes, as programs there write them."""
    cvat_yolo(root)
    text(root / "obj.data", "\ufeffclasses = 2\r\ntrain = data\\train.txt\r\nnames = data\\obj.names\r\n")
    text(root / "train.txt", "\ufeffC:\\work\\obj_train_data\\a.jpg\r\nC:\\work\\obj_train_data\\b.jpg\r\n")
    text(root / "obj.names", "\ufeffcat\r\ndog\r\n")
    text(root / "obj_train_data/a.txt", "\ufeff" + ROW.strip() + "\r\n")
