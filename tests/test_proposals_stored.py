"""Proposals on disk: what goes in comes out, interrupted runs go on, and files of other programs are read."""

import json
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from proposals.baselines import Random
from proposals.generators import build
from proposals.stored.foreign import image_number, read_foreign
from proposals.stored.foreign_entries import ForeignError
from proposals.stored.generator import StoredProposals, open_boxes
from proposals.stored.reader import MANIFEST, ProposalStore, StoreError, file_key, pixel_key
from proposals.stored.writer import SHARD_PHOTOS, StoreWriter
from structures.locks import FolderInUse
from structures.records import Proposals

ROOT = Path(__file__).resolve().parent.parent
MADE = {"generator": "random", "parameters": {"count": 5, "seed": 0}, "exif": "apply"}


def photo(seed, shape=(6, 8)):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3)).astype(np.uint8)


def fill(folder, seeds, made=MADE, **facts):
    with StoreWriter(folder, made, facts) as writer:
        for seed in seeds:
            image = photo(seed)
            writer.add(f"sub/{seed}.jpg", pixel_key(image), f"{seed:032x}", Random(count=5, seed=seed)(image))
    return ProposalStore(folder)


def same(a, b):
    assert a.boxes.tolist() == b.boxes.tolist()
    assert a.scores.tolist() == b.scores.tolist()
    assert a.image_size == b.image_size
    assert [a.source_names[i] for i in a.source] == [b.source_names[i] for i in b.source]


def test_what_goes_in_comes_out(tmp_path):
    store = fill(tmp_path / "store", range(2 * SHARD_PHOTOS + 3))
    assert len(store) == 2 * SHARD_PHOTOS + 3
    assert len(list(store.folder.glob("shard-*.npz"))) == 3
    for seed in (0, SHARD_PHOTOS - 1, SHARD_PHOTOS, 2 * SHARD_PHOTOS + 2):
        expected = Random(count=5, seed=seed)(photo(seed))
        same(store.find(photo(seed)), expected)
        same(store.proposals_of(f"sub/{seed}.jpg"), expected)
    assert store.find(photo(10**6)) is None


def test_photos_of_the_same_pixels_never_get_the_boxes_of_each_other(tmp_path):
    image, (few, more) = photo(0), (Random(count=n, seed=n)(photo(0)) for n in (3, 5))
    with StoreWriter(tmp_path / "store", MADE, {}) as writer:
        for name, boxes in (("a.jpg", few), ("b.jpg", more), ("c.jpg", more)):
            writer.add(name, pixel_key(image), name, boxes)
    store = ProposalStore(tmp_path / "store")
    same(store.proposals_of("a.jpg"), few)
    with pytest.raises(StoreError, match=r"store: a\.jpg and c\.jpg have the same pixels, but other boxes"):
        store.find(image)
    with StoreWriter(tmp_path / "store", MADE, {}) as writer:
        writer.add("a.jpg", pixel_key(image), "new", more)
    same(ProposalStore(tmp_path / "store").find(image), more)


def test_manifest_says_how_the_boxes_were_made(tmp_path):
    store = fill(tmp_path / "store", range(3), command="rcnn propose")
    assert {key: store.manifest[key] for key in MADE} == MADE
    assert store.manifest["photos"] == 3
    assert store.manifest["boxes"] == sum(len(store.proposals_of(i)) for i in store.image_ids)
    assert store.manifest["command"] == "rcnn propose"


def test_going_on_adds_shards_and_keeps_the_old(tmp_path):
    fill(tmp_path / "store", range(3))
    store = fill(tmp_path / "store", range(3, 5))
    assert store.image_ids == tuple(f"sub/{i}.jpg" for i in range(5))
    assert store.manifest["photos"] == 5
    same(store.find(photo(1)), Random(count=5, seed=1)(photo(1)))


def test_a_changed_photo_replaces_its_boxes(tmp_path):
    fill(tmp_path / "store", [1])
    with StoreWriter(tmp_path / "store", MADE) as writer:
        writer.add("sub/1.jpg", pixel_key(photo(2)), "f", Random(count=5, seed=2)(photo(2)))
    store = ProposalStore(tmp_path / "store")
    assert len(store) == 1
    same(store.proposals_of("sub/1.jpg"), Random(count=5, seed=2)(photo(2)))


def test_other_parameters_are_refused(tmp_path):
    fill(tmp_path / "store", range(2))
    with pytest.raises(StoreError, match=r"another way \(parameters\)"):
        fill(tmp_path / "store", range(2), {**MADE, "parameters": {"count": 6, "seed": 0}})
    assert len(ProposalStore(tmp_path / "store")) == 2


def test_a_stopped_run_leaves_whole_shards(tmp_path):
    """What waits in memory is lost when a process dies; what is on disk stays readable, half a file is passed over."""
    with StoreWriter(tmp_path / "store", MADE) as writer:
        for seed in range(SHARD_PHOTOS + 1):
            writer.add(str(seed), pixel_key(photo(seed)), "f", Random(count=2, seed=seed)(photo(seed)))
        (tmp_path / "store" / ".shard-000001.npz.7.partial").write_bytes(b"half")
        (tmp_path / "store" / "film.mp4.partial").write_bytes(b"not ours")
        assert len(ProposalStore(tmp_path / "store")) == SHARD_PHOTOS
    assert len(ProposalStore(tmp_path / "store")) == SHARD_PHOTOS + 1
    StoreWriter(tmp_path / "store", MADE)
    assert [path.name for path in (tmp_path / "store").glob("*.partial")] == ["film.mp4.partial"]


DYING = """
import os, signal, sys
import numpy as np
import proposals.stored.writer as store_writer
from proposals.baselines import Grid

def half_a_shard(file, usual=np.savez, **columns):
    if columns["ids"][0] == "3":
        file.write(b"PK half a shard")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    usual(file, **columns)

store_writer.SHARD_PHOTOS, np.savez = 3, half_a_shard
with store_writer.StoreWriter(sys.argv[1], {"generator": "grid"}) as writer:
    for number in range(6):
        writer.add(str(number), str(number) * 32, "f", Grid()(np.zeros((20, 30, 3), np.uint8)))
"""


def test_killed_in_the_middle_of_a_shard(tmp_path):
    command = [sys.executable, "-c", DYING, str(tmp_path / "store")]
    killed = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, timeout=120)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert [path.name[:18] for path in (tmp_path / "store").glob("*.partial")] == [".shard-000001.npz."]
    assert ProposalStore(tmp_path / "store").image_ids == ("0", "1", "2")
    with StoreWriter(tmp_path / "store", {"generator": "grid"}) as writer:
        assert sorted(writer.known) == ["0", "1", "2"]
        writer.add("3", "3" * 32, "f", Random(count=5, seed=3)(photo(3)))
    assert not list((tmp_path / "store").glob("*.partial"))
    store = ProposalStore(tmp_path / "store")
    assert store.image_ids == ("0", "1", "2", "3")
    assert store.manifest["photos"] == 4
    same(store.proposals_of("3"), Random(count=5, seed=3)(photo(3)))


def test_two_runs_never_write_at_the_same_time(tmp_path):
    with StoreWriter(tmp_path / "store", MADE), pytest.raises(FolderInUse, match="another run is writing"):
        StoreWriter(tmp_path / "store", MADE)
    assert len(fill(tmp_path / "store", range(2))) == 2
    assert len(fill(tmp_path / "store", range(2, 4))) == 4


def test_a_run_that_came_between_the_check_and_the_lock_is_seen(tmp_path, monkeypatch):
    import proposals.stored.writer as store_writer

    lock = store_writer.lock_folder

    def late(folder):
        monkeypatch.setattr(store_writer, "lock_folder", lock)
        fill(folder, range(1))
        return lock(folder)

    monkeypatch.setattr(store_writer, "lock_folder", late)
    with pytest.raises(StoreError, match="another way"):
        StoreWriter(tmp_path / "store", {**MADE, "generator": "grid"})
    assert len(fill(tmp_path / "store", range(2))) == 2  # the lock is free again


def test_a_run_killed_before_its_manifest(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / ".manifest.json.7.partial").write_text("{")
    (tmp_path / "store" / ".DS_Store").write_text("of the desktop")
    assert len(fill(tmp_path / "store", range(2))) == 2


def test_zero_boxes_fractions_and_sources_survive(tmp_path):
    empty = Proposals(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), (4, 4))
    boxes = np.array([[0.25, 0.5, 3.75, 4], [0, 0, 1, 1]], np.float32)
    sources = np.array([1, 0], np.uint8)
    two = Proposals(boxes, np.array([0.5, 0.25], np.float32), (4, 5), sources, ("a", "b"))
    with StoreWriter(tmp_path / "store", MADE) as writer:
        writer.add("empty", "a" * 32, "f", empty)
        writer.add("two", "b" * 32, "f", two)
    store = ProposalStore(tmp_path / "store")
    same(store.proposals_of("empty"), empty)
    same(store.proposals_of("two"), two)


def test_large_coordinates_survive(tmp_path):
    large = Proposals(np.array([[0, 0, 70000, 3]], np.float32), np.ones(1, np.float32), (3, 70000))
    with StoreWriter(tmp_path / "store", MADE) as writer:
        writer.add("large", "a" * 32, "f", large)
    same(ProposalStore(tmp_path / "store").proposals_of("large"), large)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no proposals here"), ("{", "not readable"), ("[]", "format"), ('{"format": "x"}', "format")],
)
def test_other_folders_are_refused(tmp_path, content, message):
    if content is not None:
        (tmp_path / MANIFEST).write_text(content)
    else:
        (tmp_path / "holiday.jpg").write_bytes(b"")
    with pytest.raises(StoreError, match=message):
        ProposalStore(tmp_path)
    with pytest.raises(StoreError, match=message):
        StoreWriter(tmp_path, MADE)


def test_a_damaged_shard_is_named(tmp_path):
    fill(tmp_path / "store", range(2))
    (tmp_path / "store" / "shard-000000.npz").write_bytes(b"PK not a zip")
    with pytest.raises(StoreError, match=r"shard-000000\.npz: a damaged shard"):
        ProposalStore(tmp_path / "store")


def test_a_shard_that_cannot_be_reached_is_not_called_damaged(tmp_path, monkeypatch):
    fill(tmp_path / "store", range(2))

    def fail(*arguments, **options):
        raise PermissionError(13, "Permission denied", "shard-000000.npz")

    monkeypatch.setattr("proposals.stored.reader.read_arrays", fail)
    with pytest.raises(PermissionError):
        ProposalStore(tmp_path / "store")


def test_a_shard_with_pickles_is_refused(tmp_path):
    fill(tmp_path / "store", range(1))
    path = tmp_path / "store" / "shard-000000.npz"
    np.savez(path, ids=np.array([Bad()], object), pixels=np.zeros(1, "S1"), files=np.zeros(1, "S1"))
    with pytest.raises(StoreError, match="damaged"):
        ProposalStore(tmp_path / "store")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("ids", lambda column: column[:-1]),
        ("ids", lambda column: np.arange(len(column))),
        ("pixels", lambda column: column.astype("U32")),
        ("files", lambda column: np.array([b"\xff"] * len(column))),
        ("offsets", lambda column: column[::-1]),
        ("offsets", lambda column: column + 10**6),
        ("offsets", lambda column: column.astype(float)),
        ("boxes", lambda column: column[:, :3]),
        ("boxes", lambda column: column.astype("U5")),
        ("boxes", lambda column: column * np.float32("nan")),
        ("scores", lambda column: column[:-1]),
        ("scores", lambda column: column * np.float32("inf")),
        ("source", lambda column: column + np.uint8(200)),
        ("source_names", lambda column: column[:0]),
        ("sizes", lambda column: -column),
        ("sizes", lambda column: np.array(7)),
    ],
)
def test_columns_that_do_not_fit_together_are_a_damaged_shard(tmp_path, name, change):
    fill(tmp_path / "store", range(2))
    path = tmp_path / "store" / "shard-000000.npz"
    with np.load(path) as shard:
        columns = dict(shard)
    np.savez(path, **{**columns, name: change(columns[name])})
    with pytest.raises(StoreError, match=r"shard-000000\.npz: a damaged shard"):
        ProposalStore(tmp_path / "store").proposals_of("0.jpg")


def test_names_of_windows_are_understood(tmp_path):
    """As in results and annotations: in any file of proposals, and asked for in any spelling."""
    sides = [{"image_id": name, "bbox": [0, 0, 10, 20], "score": 1} for name in ("val\\1.jpg", "val\\sub\\2.jpg")]
    (tmp_path / "a.json").write_text(json.dumps(sides))
    found = open_boxes(tmp_path / "a.json")
    assert found.image_ids == ("val/1.jpg", "val/sub/2.jpg")
    for name in ("val/1.jpg", "val\\1.jpg", "1.jpg", "2.jpg"):
        assert found.boxes_of(name)[0].tolist() == [[0, 0, 10, 20]]
    (tmp_path / "b.json").write_text(json.dumps([*sides, {**sides[0], "image_id": "val/1.jpg"}]))
    assert len(open_boxes(tmp_path / "b.json").boxes_of("val/1.jpg")[0]) == 2  # two boxes of one photo


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="is a file"):
        StoreWriter(tmp_path / "file", MADE)


def test_keys_follow_content(tmp_path):
    assert pixel_key(photo(0)) == pixel_key(photo(0)[:, ::-1][:, ::-1])
    assert len({pixel_key(photo(0)), pixel_key(photo(1)), pixel_key(photo(0).reshape(8, 6, 3))}) == 3
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"1")
    assert file_key(tmp_path / "a") == file_key(tmp_path / "b")


def test_file_generator_gives_the_stored_boxes(tmp_path):
    fill(tmp_path / "my+store", range(3))
    generator = build(f"file:{tmp_path / 'my+store'}")
    assert generator.name == "file:my+store"
    assert generator.parameters["parameters"] == MADE["parameters"]
    same(generator(photo(2)), Random(count=5, seed=2)(photo(2)))
    with pytest.raises(StoreError, match="no boxes of this photo"):
        generator(photo(7))
    union = build(f"file:{tmp_path / 'my+store'}", extra={})
    assert union.name == generator.name


def test_file_generator_in_a_union(tmp_path):
    fill(tmp_path / "store", range(3))
    found = build(f"file:{tmp_path / 'store'}+grid")(photo(1))
    assert found.source_names == ("random", "grid")


# Files of other programs. Two photos; the boxes are (0, 0)-(10, 20) and (4, 5)-(8, 9) in our convention.

ONE, TWO = [0, 0, 10, 20], [4, 5, 8, 9]


def write_mat(path):
    from scipy.io import savemat

    boxes, names = np.empty((1, 2), object), np.empty((2, 1), object)
    boxes[0, 0] = np.array([[1, 1, 20, 10], [6, 5, 9, 8]], np.uint16)  # y1 x1 y2 x2, 1-based, inclusive
    boxes[0, 1] = np.zeros((0, 4))
    names[0, 0], names[1, 0] = "000001", "000002"
    savemat(path, {"boxes": boxes, "images": names})


def pickled(**changes):
    rows = [np.array([TWO, ONE], np.float32), np.zeros((0, 4), np.float32)]
    return {
        "ids": ["000001", "000002"],
        "boxes": rows,
        "objectness_logits": [np.array([-1, 3], np.float32), np.zeros(0, np.float32)],
        "bbox_mode": 0,
        **changes,
    }


def write_coco(path):
    sides = [{"image_id": 1, "bbox": [4, 5, 4, 4], "score": 0.1}, {"image_id": 1, "bbox": [0, 0, 10, 20], "score": 0.2}]
    path.write_text(json.dumps(sides))


def test_fast_rcnn_mat(tmp_path):
    write_mat(tmp_path / "a.mat")
    found = open_boxes(tmp_path / "a.mat")
    assert found.image_ids == ("000001", "000002")
    assert found.boxes_of("JPEGImages/000001.jpg")[0].tolist() == [ONE, TWO]
    assert found.boxes_of("000002")[0].shape == (0, 4)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_detectron2_pickle(tmp_path, protocol):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(pickled(), protocol=protocol))
    found = open_boxes(tmp_path / "a.pkl")
    boxes, scores = found.boxes_of("000001.jpg")
    assert boxes.tolist() == [ONE, TWO]
    assert scores.tolist() == [3, -1]
    assert found.boxes_of("000002")[0].shape == (0, 4)


def test_older_pickles_and_other_box_modes(tmp_path):
    content = pickled(indexes=[1, 2], bbox_mode=1, boxes=[np.array([[4, 5, 4, 4], [0, 0, 10, 20]]), np.zeros((0, 4))])
    content["scores"] = content.pop("objectness_logits")
    del content["ids"]
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content))
    assert open_boxes(tmp_path / "a.pkl").boxes_of("000001")[0].tolist() == [ONE, TWO]


def test_box_mode_as_detectron2_pickles_it(tmp_path):
    """BoxMode is an enum there; it is read as a number, without Detectron2."""
    text = pickle.dumps(pickled(bbox_mode="MODE"), protocol=2)
    mode = b"cdetectron2.structures.boxes\nBoxMode\nK\x01\x85R"
    assert text.count(b"X\x04\x00\x00\x00MODEq") == 1
    start = text.index(b"X\x04\x00\x00\x00MODEq")
    (tmp_path / "a.pkl").write_bytes(text[:start] + mode + b"q" + text[start + 10 :])
    corners = open_boxes(tmp_path / "a.pkl").boxes_of("000001")[0]
    assert corners.tolist() == [ONE, [4, 5, 12, 14]]


class Bad:
    """Would make a file if it were unpickled."""

    def __reduce__(self):
        return os.mkdir, ("harm",)


@pytest.mark.parametrize("where", ["ids", "boxes", "bbox_mode", "more"])
def test_a_pickle_with_code_is_refused(tmp_path, monkeypatch, where):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(pickled(**{where: [Bad()]})))
    with pytest.raises(ForeignError, match=r"a\.pkl.*mkdir.*was not run"):
        read_foreign(tmp_path / "a.pkl")
    assert not (tmp_path / "harm").exists()


def test_coco_results(tmp_path):
    write_coco(tmp_path / "a.json")
    assert open_boxes(tmp_path / "a.json").boxes_of("val/000000000001.jpg")[0].tolist() == [ONE, TWO]


def test_names_are_not_read_as_numbers():
    assert image_number("2007_000027.jpg") is None
    assert image_number("²") is None  # a digit, but no number


def test_the_number_in_a_file_name_is_not_the_number_of_a_photo(tmp_path):
    """Their photo 7 may be any file; only COCO's own names say the number."""
    write_coco(tmp_path / "a.json")
    found = open_boxes(tmp_path / "a.json")
    for name in ("1.jpg", "000001.jpg", "val/1.png"):
        with pytest.raises(ForeignError, match="others need their names"):
            found.boxes_of(name)
    for name in ("1", "000001", "000000000001.jpg"):
        assert found.boxes_of(name)[0].tolist() == [ONE, TWO]
    (tmp_path / "b.json").write_text((tmp_path / "a.json").read_text().replace('"image_id": 1', '"image_id": "1.jpg"'))
    assert open_boxes(tmp_path / "b.json").boxes_of("1.jpg")[0].tolist() == [ONE, TWO]


def test_other_ways_to_write_numbers_and_files(tmp_path):
    """139.0 is 139, and Windows puts a mark at the beginning of a file."""
    write_coco(tmp_path / "a.json")
    text = (tmp_path / "a.json").read_text().replace('"image_id": 1,', '"image_id": 1.0,')
    (tmp_path / "b.json").write_text(text, encoding="utf-8-sig")
    assert open_boxes(tmp_path / "b.json").boxes_of("000000000001.jpg")[0].tolist() == [ONE, TWO]


def test_a_photo_listed_twice_is_named(tmp_path):
    from scipy.io import savemat

    (tmp_path / "a.pkl").write_bytes(pickle.dumps(pickled(ids=["7", "7"])))
    write_mat(tmp_path / "a.mat")
    boxes, names = np.empty((1, 2), object), np.empty((2, 1), object)
    boxes[0, 0], boxes[0, 1], names[0, 0], names[1, 0] = np.zeros((0, 4)), np.zeros((0, 4)), "7", "7"
    savemat(tmp_path / "a.mat", {"boxes": boxes, "images": names})
    for name in ("a.pkl", "a.mat"):
        with pytest.raises(ForeignError, match=rf"{name}: .*photo 7 appears twice"):
            open_boxes(tmp_path / name)


def test_outside_boxes_become_proposals_by_name(tmp_path):
    write_coco(tmp_path / "a.json")
    stored = StoredProposals(tmp_path / "a.json")
    image = photo(0, (18, 9))
    found = stored.proposals_of("000000000001.jpg", image)
    assert found.boxes.tolist() == [[0, 0, 9, 18], [4, 5, 8, 9]]
    with pytest.raises(StoreError, match="turn it into a folder of stored proposals"):
        stored(image)


def test_two_photos_never_get_the_boxes_of_one_entry(tmp_path):
    write_coco(tmp_path / "a.json")
    stored, image = StoredProposals(tmp_path / "a.json"), photo(0, (18, 9))
    for _ in range(2):  # the same photo may come again
        assert len(stored.proposals_of("day/000000000001.jpg", image)) == 2
    complaint = r"a\.json: lists 1, which may be 'day/000000000001\.jpg' or 'night/000000000001\.jpg'"
    with pytest.raises(ForeignError, match=complaint):
        stored.proposals_of("night/000000000001.jpg", image)


def test_parameters_of_stored_boxes_tell_contents_and_cuts_apart(tmp_path):
    write_coco(tmp_path / "a.json")
    before = StoredProposals(tmp_path / "a.json").parameters
    (tmp_path / "a.json").write_text((tmp_path / "a.json").read_text().replace("0.1", "0.7"))
    assert StoredProposals(tmp_path / "a.json").parameters != before
    fill(tmp_path / "all", [1], {**MADE, "max_boxes": None})
    fill(tmp_path / "few", [1], {**MADE, "max_boxes": 3})
    assert StoredProposals(tmp_path / "all").parameters != StoredProposals(tmp_path / "few").parameters


def test_an_unknown_photo_is_named(tmp_path):
    write_coco(tmp_path / "a.json")
    with pytest.raises(ForeignError, match=r"no photo 'b\.jpg'"):
        open_boxes(tmp_path / "a.json").boxes_of("b.jpg")
    with pytest.raises(StoreError, match=r"no photo 'b\.jpg'"):
        fill(tmp_path / "store", range(2)).proposals_of("b.jpg")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "{", "not readable as JSON"),
        ("a.json", "[" * 100_000, "not readable as JSON"),
        ("a.json", '[{"image_id": true, "bbox": [1, 2, 3, 4]}]', "neither the name nor the number"),
        ("a.json", '[{"image_id": 1.5, "bbox": [1, 2, 3, 4]}]', "neither the name nor the number"),
        ("a.json", '{"a": 1}', "not a list"),
        ("a.json", '[{"bbox": [1, 2, 3, 4]}]', "entry 0"),
        ("a.json", '[{"image_id": 1, "bbox": [1, 2, 3]}]', "four numbers"),
        ("a.json", '[{"image_id": 1, "bbox": [1, 2, 3, "x"]}]', "entry 0: bbox .* must be numbers"),
        ("a.json", '[{"image_id": 1, "bbox": [1, 2, 3, 1e99]}]', "finite"),
        ("a.json", '[{"image_id": 1, "bbox": [1, 2, 3, 4], "score": NaN}]', "finite"),
        ("a.json", '[{"image_id": 1, "bbox": [1, 2, 3, 4], "score": 1e99}]', "finite"),
        ("a.json", f'[{{"image_id": 1, "bbox": [1, 2, 3, 4], "score": 1{"0" * 400}}}]', "image 1: int too large"),
        ("a.json", f'[{{"image_id": 1, "bbox": [1, 2, 3, 1{"0" * 400}]}}]', "image 1: int too large"),
        ("a.mat", "no matlab", "MATLAB"),
        ("a.pkl", "no pickle", "pickle"),
        ("a.txt", "", "known are"),
    ],
)
def test_broken_files_are_explained(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ForeignError, match=message) as caught:
        read_foreign(tmp_path / name)
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ids": ["1"]}, "1 ids, 2 entries"),
        ({"boxes": None}, "no list 'boxes'"),
        ({"bbox_mode": 3}, "bbox_mode 3"),
        ({"bbox_mode": None}, "bbox_mode None"),
        ({"bbox_mode": np.zeros(2)}, r"a\.pkl: bbox_mode a value of type Array is not known"),
        ({"boxes": [np.zeros((3, 4)), np.zeros((0, 4))]}, "3 boxes but 2 scores"),
        ({"boxes": [np.full((2, 4), np.nan), np.zeros((0, 4))]}, "finite"),
    ],
)
def test_broken_pickles_are_explained(tmp_path, changes, message):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(pickled(**changes)))
    with pytest.raises(ForeignError, match=message):
        read_foreign(tmp_path / "a.pkl")


def test_missing_files_raise_oserror(tmp_path):
    for name in ("a.mat", "a.pkl", "a.json"):
        with pytest.raises(FileNotFoundError):
            open_boxes(tmp_path / name)
