"""Sources, shards, folders and the work of `rcnn scale`, without a cluster; tests/test_scaling_ray.py has one."""

import io
import json
import math
import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as tries
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from detect.runs.photos import find_photos
from detect.runs.propose import ProposalJob, build_for_many, propose_to_folder
from detect.runs.record import RunRecord
from detect.scaling import reading
from detect.scaling.cluster import Processes, share_out, waits
from detect.scaling.connection import connected, quiet_threads
from detect.scaling.plan import groups_of, missing
from detect.scaling.run import Scale
from detect.scaling.work import ON_CPU, Networks, Reading, Work, photos_table
from proposals.stored.reader import ProposalStore
from structures.errors import InputError
from structures.files import FileRefused, digest
from structures.images import ImageError
from tests.ray_cluster import free_port

arrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install 'googlenet-rcnn[ray]'")
fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed: pip install 'googlenet-rcnn[ray]'")
from detect.scaling import collect as collecting  # noqa: E402
from detect.scaling import run as scaling  # noqa: E402
from detect.scaling.folder import open_folder  # noqa: E402
from detect.scaling.shards import failed_row, read_rows, to_parquet  # noqa: E402
from detect.scaling.sources import NOT_A_ROW, find_source  # noqa: E402

QUICK: dict[str, Any] = {"proposals": "grid", "max_boxes": 6}  # needs no network


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Return a folder with five small files, one of which is not a photo."""
    folder = tmp_path / "photos"
    for number, name in enumerate(["a.png", "b.png", "sub/c.png", "sub/d.png"]):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (40 + number, 60, 3), np.uint8)
        Image.fromarray(pixels).save(folder / name)
    (folder / "broken.png").write_bytes(b"no photo")
    return folder


@pytest.fixture
def memory() -> Iterator[Any]:
    """Return a file system in memory, empty at first."""
    fs = fsspec.filesystem("memory")
    yield fs
    for path in fs.ls("/", detail=False):
        fs.rm(path, recursive=True)


def upload(fs: Any, folder: Path, to: str) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            fs.pipe_file(f"{to}/{path.relative_to(folder).as_posix()}", path.read_bytes())


def places(source: Any) -> list[tuple[str, int]]:
    return [source.place(number) for number in range(len(source))]


# Sources


NAMES = ("a.png", "b.png", "broken.png", "sub/c.png", "sub/d.png")


def test_a_folder_is_read_as_detect_reads_it(photos: Path, tmp_path: Path) -> None:
    found = find_source(str(photos), leave_out=str(tmp_path / "out"))
    assert tuple(found.names) == tuple(find_photos([str(photos)]).names) == NAMES
    assert places(found)[3] == (str(photos / "sub/c.png"), NOT_A_ROW)
    assert tuple(find_source(f"file://{photos}", leave_out="out").names) == NAMES


def test_object_storage_has_the_names_of_a_folder(photos: Path, memory: Any) -> None:
    upload(memory, photos, "/bucket/photos")
    memory.pipe_file("/bucket/photos/.hidden/x.png", b"")
    memory.pipe_file("/bucket/photos/notes.txt", b"")
    found = find_source("memory://bucket/photos", leave_out="out")
    assert tuple(found.names) == NAMES
    assert places(found)[0] == ("memory:///bucket/photos/a.png", NOT_A_ROW)
    [(one, _)] = places(find_source("memory://bucket/photos/sub/c.png", leave_out="out"))
    assert one.endswith("/bucket/photos/sub/c.png")


def test_lists_name_paths_or_addresses(photos: Path, tmp_path: Path, memory: Any) -> None:
    upload(memory, photos, "/bucket/photos")
    list_file = tmp_path / "list.txt"
    list_file.write_text("photos/sub/c.png\n\nphotos/a.png\n")
    assert find_source(str(list_file), leave_out="out").names == ("a.png", "sub/c.png")
    list_file.write_text("memory://bucket/photos/sub/c.png\nmemory://bucket/photos/a.png\n")
    assert find_source(f"@{list_file}", leave_out="out").names == ("a.png", "sub/c.png")
    memory.pipe_file("/bucket/list.txt", b"photos/a.png\nphotos/sub/c.png\nphotos/a.png\n")
    found = find_source("memory://bucket/list.txt", leave_out="out")
    assert found.names == ("a.png", "sub/c.png")
    assert reading.SourceReader(exif="apply", max_pixels=10**6)(reading.Placed("a.png", *found.place(0))).shape == (
        40,
        60,
        3,
    )


def table_of(photos: Path, **columns: Any) -> Any:
    return arrow.table({name: values for name, values in columns.items()})


def write_parquet(table: Any, path: Path, rows: int = 2) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    import pyarrow.parquet

    pyarrow.parquet.write_table(table, path, row_group_size=rows)
    return str(path)


@pytest.mark.parametrize("layout", ["bytes", "bytes and path", "image"])
def test_parquet_holds_photos(photos: Path, tmp_path: Path, layout: str) -> None:
    content = [(photos / name).read_bytes() for name in NAMES]
    columns: dict[str, Any] = {"bytes": content}
    if layout == "bytes and path":
        columns["path"] = list(NAMES)
    if layout == "image":
        columns = {"image": [{"bytes": each, "path": name} for each, name in zip(content, NAMES, strict=True)]}
    for number, part in enumerate([slice(0, 2), slice(2, 5)]):
        table = arrow.table({name: values[part] for name, values in columns.items()})
        write_parquet(table, tmp_path / f"data/{number}.parquet")
    found = find_source(str(tmp_path / "data"), leave_out="out")
    numbered = ("0/000000000", "0/000000001", "1/000000000", "1/000000001", "1/000000002")
    assert tuple(found.names) == (numbered if layout == "bytes" else NAMES)
    read = reading.SourceReader(exif="apply", max_pixels=10**6)
    for number, name in enumerate(NAMES):
        photo = reading.Placed(found.names[number], *found.place(number))
        if name == "broken.png":
            with pytest.raises(ImageError, match=r"1\.parquet: row 0: not a picture in a known format"):
                read(photo)
            continue
        assert np.array_equal(read(photo), np.asarray(Image.open(photos / name)))
        assert read.key_of(photo) == digest(content[number])


def test_parquet_holds_paths(photos: Path, tmp_path: Path) -> None:
    file = write_parquet(arrow.table({"path": ["photos/sub/c.png", str(photos / "a.png")]}), tmp_path / "x.parquet")
    found = find_source(file, leave_out="out")
    assert (found.root, found.names) == (str(photos), ("a.png", "sub/c.png"))


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        ({"picture": [b""]}, "expected a column 'bytes' with photos, or 'path' with texts; its columns are picture"),
        ({"bytes": ["text"]}, "its columns are bytes"),
        ({"bytes": [b"", b""], "path": ["a", "a"]}, "two rows have the same path"),
        ({"path": ["s3://a/b.png", "/c.png"]}, "photos at  and s3; make a list for each"),
    ],
)
def test_parquet_that_names_no_photos_is_refused(tmp_path: Path, columns: dict[str, Any], complaint: str) -> None:
    file = write_parquet(arrow.table(columns), tmp_path / "x.parquet")
    with pytest.raises(InputError, match=complaint):
        find_source(file, leave_out="out")


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("nowhere://bucket", "nowhere://: Protocol not known"),
        ("memory://empty", "no pictures there"),
        ("missing", "no such file or folder"),
        ("empty.txt", "empty list"),
        ("bad.parquet", "not readable as Parquet"),
    ],
)
def test_sources_without_photos_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, complaint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.txt").write_text("\n")
    Path("bad.parquet").write_bytes(b"PAR?")
    with pytest.raises(InputError, match=complaint):
        find_source(source, leave_out="out")


SOUND_ROW = {"image": "a.jpg", "width": 9, "height": 8, "boxes": [[0.0, 1.0, 2.0, 3.0]], "scores": [0.5]}
SOUND_ROW |= {"sources": ["grid"], "labels": ["cat"], "file_key": "0" * 32, "error": None}
SHARD = to_parquet([{**SOUND_ROW, "image": f"{number}.jpg"} for number in range(20)], "detect")


@tries(max_examples=60, deadline=None)
@given(at=st.integers(0, len(SHARD) - 1), change=st.integers(1, 255), end=st.none() | st.integers(0, len(SHARD)))
def test_damage_to_a_shard_is_noticed_wherever_it_is(at: int, change: int, end: int | None) -> None:
    content = bytearray(SHARD)
    content[at] ^= change
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "photos.parquet")
        place.write_bytes(content[:end])
        with suppress(InputError):  # a few bytes mean nothing
            assert to_parquet(list(read_rows(str(place))), "detect") == SHARD
        with suppress(InputError):
            find_source(str(place), leave_out="out")


def test_a_number_of_rows_that_is_not_true_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the byte that has it is damaged; checksums are of the pages alone."""
    file = write_parquet(arrow.table({"bytes": [b"1", b"2"], "path": ["a", "b"]}), tmp_path / "x.parquet")
    import pyarrow.parquet

    true = pyarrow.parquet.ParquetFile.metadata.fget

    class Told:
        num_rows = 1

        def __init__(self, file: Any) -> None:
            self.true = true(file)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.true, name)

    monkeypatch.setattr(pyarrow.parquet.ParquetFile, "metadata", property(Told))
    with pytest.raises(InputError, match="it states 1 row, but has 2"):
        find_source(file, leave_out="out")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labels": ["dog"]}, "not as rcnn writes it"),
        ({"labels": [None]}, "not as rcnn writes it"),
        ({"sources": [None]}, "a box without a source"),
        ({"boxes": [None]}, "shard"),  # pyarrow 17 cannot even read this, and says so in other words
        ({"boxes": [[math.nan] * 4]}, "not as rcnn writes it"),
        ({"boxes": [[0, 0, 1, 1]] * 2}, "not as rcnn writes it"),
        ({"width": None}, "without width"),
        ({"file_key": None}, "without file_key"),
        ({"image": None}, "without image"),
        ({"image": None, "error": "damaged"}, "without image"),
    ],
)
def test_a_row_that_we_never_write_is_named(
    tmp_path: Path, rcnn: Callable[..., int], capsys: pytest.CaptureFixture[str], change: dict[str, Any], said: str
) -> None:
    RunRecord(tmp_path / "shards", {"classes": ["cat"]}).finish()
    name = f"photos-000000000-{'0' * 32}.parquet"
    (tmp_path / "shards" / name).write_bytes(
        to_parquet([SOUND_ROW, {**SOUND_ROW, "image": "b.jpg", **change}], "detect")
    )
    assert rcnn("scale", "collect", tmp_path / "shards", "--out", tmp_path / "out") == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "names no classes"),
        ({"classes": 3}, "names no classes"),
        ({"classes": ["cat", 1]}, "names no classes"),
        ({"generator": "grid"}, "a shard of rcnn scale detect, where one of propose was expected"),
    ],
)
def test_a_record_that_does_not_fit_the_shards_is_named(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    RunRecord(tmp_path / "shards", settings).finish()
    (tmp_path / "shards" / f"photos-000000000-{'0' * 32}.parquet").write_bytes(SHARD)
    with pytest.raises(InputError, match=said):
        collecting.collect(str(tmp_path / "shards"), tmp_path / "out")


def test_photos_in_no_shard_are_counted(
    tmp_path: Path, rcnn: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "shards"
    run = RunRecord(out, {"classes": ["cat"]})
    run.update(photos=22)
    assert rcnn("scale", "collect", out, "--out", tmp_path / "out") == 2
    assert "shards: there are no shards; run rcnn scale again" in capsys.readouterr().err
    (out / f"photos-000000000-{'0' * 32}.parquet").write_bytes(SHARD)
    assert rcnn("scale", "collect", out, "--out", tmp_path / "out") == 1
    assert "2 photos of the last run are in no shard; run it again" in capsys.readouterr().err
    run.finish(photos=20)
    assert rcnn("scale", "collect", out, "--out", tmp_path / "out") == 0


def test_photos_are_not_looked_for_where_the_results_go(photos: Path) -> None:
    with pytest.raises(InputError, match="is the folder of the results, which is not searched; name another `out`"):
        find_source(str(photos), leave_out=str(photos))


def test_parquet_of_others_is_no_shard(tmp_path: Path) -> None:
    table = arrow.table(
        {"image": ["a.jpg"]}, schema=arrow.schema([("image", arrow.string())], {b"googlenet-rcnn": b"detect"})
    )
    with pytest.raises(InputError, match="not a shard that rcnn wrote"):
        list(read_rows(write_parquet(table, tmp_path / "x.parquet")))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names here")
@pytest.mark.parametrize("name", ["pipe.parquet", "pipe.txt"])
def test_no_pipe_is_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(OSError, match="not a regular file"):
        find_source(str(tmp_path / name), leave_out="out")


@pytest.mark.parametrize("scheme", ["file://", "FILE://", "local://"])
def test_an_address_on_this_machine_is_a_folder_with_its_rules(tmp_path: Path, scheme: str) -> None:
    (tmp_path / f"photos-000000000-{'0' * 32}.parquet").write_bytes(b"of the user")
    with open_folder(f"{scheme}{tmp_path}") as folder, pytest.raises(FileRefused, match="not written by rcnn"):
        folder.shards()


def test_results_cannot_go_to_the_parquet_files_of_the_photos(tmp_path: Path) -> None:
    write_parquet(arrow.table({"bytes": [b""]}), tmp_path / "x.parquet")
    with pytest.raises(InputError, match="name another `out`"):
        find_source(str(tmp_path), leave_out=str(tmp_path))


def test_storage_is_asked_again_before_a_photo_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    class Busy:
        def cat_file(self, path: str, end: int) -> bytes:
            calls.append(end)
            raise OSError("slow down")

    monkeypatch.setattr(reading, "file_system", lambda address: (Busy(), address))
    monkeypatch.setattr(reading, "WAIT_SECONDS", 0.0)
    with pytest.raises(ImageError, match=r"s3://b/a\.png: cannot be read: slow down"):
        reading.SourceReader(exif="apply", max_pixels=10)(reading.Placed("a.png", "s3://b/a.png"))
    assert calls == [81] * reading.TRIES


def test_a_file_that_is_too_large_is_not_read_whole(memory: Any) -> None:
    memory.pipe_file("/b/a.png", b"x" * 1000)
    with pytest.raises(ImageError, match="more than 80 bytes"):
        reading.SourceReader(exif="apply", max_pixels=10)(reading.Placed("a.png", "memory://b/a.png"))


# Plans


@given(st.lists(st.text(max_size=3), unique=True, max_size=20), st.integers(1, 5), st.data())
def test_every_photo_is_in_one_shard_whatever_is_there(names: list[str], size: int, data: st.DataObject) -> None:
    """Also when photos were added since, or shards had another size."""
    earlier = data.draw(st.lists(st.sampled_from(names), unique=True)) if names else []
    shards = {group.shard: [earlier[n] for n in group.photos] for group in groups_of(earlier, range(len(earlier)), 2)}
    left = missing(names, size, shards, shards.__getitem__)
    done = [name for own in shards.values() for name in own]
    assert sorted([*done, *(names[n] for group in left for n in group.photos)]) == sorted(names)
    assert all(len(group.photos) <= size for group in left)
    assert len({group.shard for group in left} | set(shards)) == len(left) + len(shards)


def test_the_same_photos_give_the_same_shards_and_none_is_read() -> None:
    names = [f"{n}.jpg" for n in range(10)]
    first, *rest = missing(names, 4, (), lambda shard: pytest.fail("was read"))
    assert [len(group.photos) for group in (first, *rest)] == [4, 4, 2]
    again = missing(names, 4, {first.shard}, lambda shard: pytest.fail("was read"))
    assert again == rest


@pytest.mark.parametrize(
    ("resources", "options", "expected"),
    [
        ({"CPU": 12}, {}, (10, 1, 2, 0.0, 1.0)),
        ({"CPU": 1}, {}, (1, 1, 1, 0.0, 0.5)),
        ({"CPU": 64, "GPU": 8}, {}, (8, 14, 4, 1.0, 1.0)),
        ({"CPU": 64, "GPU": 8}, {"gpu": False}, (54, 3, 4, 0.0, 0.9696)),
        ({"CPU": 8, "GPU": 1}, {"workers": 2, "readers": 3}, (2, 1, 3, 0.5, 1.0)),
        ({"CPU": 8}, {"networks": False}, (0, 2, 4, 0.0, 1.0)),
    ],
)
def test_clusters_are_shared_out(
    resources: dict[str, float], options: dict[str, Any], expected: tuple[float, ...]
) -> None:
    shared = share_out(resources, **{"gpu": True, "networks": True, "workers": None, "readers": None, **options})
    assert tuple(vars(shared).values()) == expected
    asked = shared.workers * (not shared.gpus) + shared.readers * shared.threads
    assert asked * shared.cpus <= resources["CPU"] + 1e-9 or shared.gpus


# The work, with a cluster that is this process


class Cluster:
    """A stand-in for the module of Ray, which notes how it was begun."""

    exceptions = None

    def __init__(self, error: Exception | None = None, **free: float) -> None:
        self.error, self.free, self.begun = error, free, list[tuple[tuple[str, ...], bool]]()

    def is_initialized(self) -> bool:
        return False

    def init(self, *address: str, include_dashboard: bool = True, **more: object) -> None:
        self.begun.append((address, include_dashboard))
        if self.error:
            raise self.error

    def shutdown(self) -> None: ...

    def available_resources(self) -> dict[str, float]:
        return self.free


def begun_on(monkeypatch: pytest.MonkeyPatch, cluster: Cluster, on: str) -> None:
    monkeypatch.setattr("detect.scaling.connection.installed", lambda name, extra: cluster)
    monkeypatch.setattr("detect.scaling.connection._require_answer", lambda on: None)
    with connected(on):
        pass


def test_a_cluster_that_another_command_started_for_itself_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray takes any cluster that runs here for "auto"; without an address only one of `ray start`, or RAY_ADDRESS."""
    cluster = Cluster()
    begun_on(monkeypatch, cluster, "ray")
    begun_on(monkeypatch, cluster, "ray://head:10001")
    assert cluster.begun == [((), False), (("ray://head:10001",), True)]


@pytest.mark.parametrize(
    ("on", "error", "said"),
    [
        ("ray", ConnectionError("no answer\nthere"), "`on` ray: the cluster cannot be reached: no answer there"),
        ("ray", Exception("too slow"), "`on` ray: a cluster cannot be started here: too slow"),
        ("ray://head:1", ConnectionError("no answer"), "`on` ray://head:1: the cluster cannot be reached: no answer"),
        (
            "ray://head:1",
            RuntimeError("Version mismatch: The cluster has\n    Ray: 2.1.0"),
            "`on` ray://head:1: the cluster cannot be used: Version mismatch: The cluster has Ray: 2.1.0",
        ),
    ],
)
def test_a_cluster_that_is_not_there_is_one_line(
    monkeypatch: pytest.MonkeyPatch, on: str, error: Exception, said: str
) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(said)}"):
        begun_on(monkeypatch, Cluster(error), on)


@pytest.mark.parametrize("on", ["ray://127.0.0.1:{port}", "ray://[::1]:{port}", "ray://127.0.0.1:99999"])
def test_an_address_at_which_nothing_listens_is_one_line_at_once(monkeypatch: pytest.MonkeyPatch, on: str) -> None:
    cluster = Cluster()
    monkeypatch.setattr("detect.scaling.connection.installed", lambda name, extra: cluster)
    address = on.format(port=free_port())
    with pytest.raises(InputError, match=f"^`on` {re.escape(address)}: nothing answers there: "), connected(address):
        pass
    assert cluster.begun == []


@pytest.mark.parametrize("on", ["", "ray:", "ray://", "ray://head", "ray://head:port", "ray://a:b@head:1", "Ray"])
def test_only_addresses_of_rays_client_are_taken(on: str) -> None:
    with pytest.raises(InputError, match=r"must be ray or ray://HOST:PORT$"), connected(on):
        pass


def test_it_says_that_others_hold_the_cluster() -> None:
    two = Processes(workers=2, readers=1, threads=2, gpus=0.0, cpus=0.5)
    assert waits(Cluster(CPU=2.0), two) == ""
    assert "1.5 of 2 CPU free" in waits(Cluster(CPU=1.5), two)
    assert "0 of 2 CPU free" in waits(Cluster(), two)
    card = Processes(workers=2, readers=1, threads=2, gpus=0.5, cpus=0.5)
    assert waits(Cluster(CPU=1.0, GPU=1.0), card) == ""
    assert "0.5 of 1 GPU free" in waits(Cluster(CPU=1.0, GPU=0.5), card)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Run what a cluster would in this process; return the names of the groups that were worked on."""
    worked = list[str]()

    class Ray:
        def __enter__(self) -> "Ray":
            return self

        def __exit__(self, *error: object) -> None: ...

        def cluster_resources(self) -> dict[str, float]:
            return {"CPU": 2}

        available_resources = cluster_resources

    def run(ray: Any, work: Work, processes: Any, tables: Any) -> Iterator[Any]:
        read, networks = Reading(work), Networks(work)
        for table in reversed([*tables]):  # in any order
            worked.append(str(table["group"][0].as_py()))
            for begun in read(table):
                yield networks(begun) if work.in_steps else begun

    monkeypatch.setattr(scaling, "connected", lambda on: Ray())
    monkeypatch.setattr(scaling, "run", run)
    return worked


def quiet() -> Console:
    return Console(file=io.StringIO())


def test_detections_are_those_of_one_process_to_the_last_byte(
    photos: Path, tmp_path: Path, here: list[str], rcnn: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--proposals", "grid", "--max-boxes", 6, "--device", "cpu", "--engine", "torch", "--dtype", "float32"]
    assert rcnn("detect", photos, "--out", tmp_path / "one", *options, "--score", 0.001) == 1
    assert rcnn("scale", "detect", photos, "--out", tmp_path / "shards", *options, "--score", 0.001, "--shard", 2) == 1
    assert "1 photo failed in this run" in capsys.readouterr().err
    assert len(here) == 3
    assert rcnn("scale", "collect", tmp_path / "shards", "--out", tmp_path / "many") == 0
    assert "4 photos with results, 1 without" in capsys.readouterr().out
    for name in ("detections.jsonl", "skipped.jsonl"):
        assert (tmp_path / "many" / name).read_bytes() == (tmp_path / "one" / name).read_bytes(), name
    one, many = (json.loads((tmp_path / name / "run.json").read_text()) for name in ("one", "many"))
    assert one["settings"] == many["settings"]
    assert many["runs"][0]["placement"] == one["runs"][0]["placement"]
    assert rcnn("detect", photos, "--out", tmp_path / "many", *options, "--score", 0.001) == 1  # it can be gone on with


def test_a_rerun_goes_on_where_shards_are_missing(photos: Path, tmp_path: Path, here: list[str]) -> None:
    out = tmp_path / "out"
    scale = Scale(shard_photos=2)
    scaling.propose_at_scale(str(photos), str(out), scale=scale, console=quiet(), **QUICK)
    shards = {path.name: path.read_bytes() for path in out.glob("*.parquet")}
    gone = sorted(shards)[1]
    (out / gone).unlink()
    here.clear()
    again = scaling.propose_at_scale(str(photos), str(out), scale=scale, console=quiet(), **QUICK)
    assert (again.before, again.fresh, again.shards, len(here)) == (3, 1, 1, 1)
    assert {path.name: path.read_bytes() for path in out.glob("*.parquet")} == shards
    Image.new("RGB", (50, 40)).save(photos / "0.png")  # all numbers of photos change; their results stay
    more = scaling.propose_at_scale(str(photos), str(out), scale=scale, console=quiet(), **QUICK)
    assert (more.photos, more.before, more.fresh) == (6, 5, 1)
    assert collecting.collect(str(out), tmp_path / "boxes").photos == 5
    assert not list(out.glob(".*.partial"))


def test_other_settings_are_refused(photos: Path, tmp_path: Path, here: list[str]) -> None:
    scaling.propose_at_scale(str(photos), str(tmp_path / "out"), console=quiet(), **QUICK)
    here.clear()
    with pytest.raises(InputError, match=r"results with other settings \(`exif`.*; name another `out`, or remove this"):
        scaling.propose_at_scale(str(photos), str(tmp_path / "out"), console=quiet(), **QUICK, exif="ignore")
    assert not here


def test_a_shard_that_is_not_ours_is_never_written_over(photos: Path, tmp_path: Path, here: list[str]) -> None:
    out = tmp_path / "out"
    scaling.propose_at_scale(str(photos), str(out), console=quiet(), **QUICK)
    [shard] = out.glob("*.parquet")
    (tmp_path / "other").mkdir()
    theirs = tmp_path / "other" / shard.name
    theirs.write_bytes(b"theirs")
    with pytest.raises(FileRefused, match="was not written by rcnn"):
        scaling.propose_at_scale(str(photos), str(tmp_path / "other"), console=quiet(), **QUICK)
    assert theirs.read_bytes() == b"theirs"


def test_unfinished_shards_of_killed_runs_are_removed(photos: Path, tmp_path: Path, here: list[str]) -> None:
    out = tmp_path / "out"
    scaling.propose_at_scale(str(photos), str(out), console=quiet(), **QUICK)
    [shard] = out.glob("*.parquet")
    left, theirs = out / f".{shard.name}.1.partial", out / ".other.1.partial"
    left.touch()
    theirs.touch()
    scaling.propose_at_scale(str(photos), str(out), console=quiet(), **QUICK)
    assert (left.exists(), theirs.exists()) == (False, True)


def test_object_storage_gives_and_takes_the_same(photos: Path, tmp_path: Path, here: list[str], memory: Any) -> None:
    upload(memory, photos, "/bucket/photos")
    scale = Scale(shard_photos=2)
    scaling.propose_at_scale(str(photos), str(tmp_path / "out"), scale=scale, console=quiet(), **QUICK)
    for _ in range(2):
        done = scaling.propose_at_scale(
            "memory://bucket/photos", "memory://bucket/out", scale=scale, console=quiet(), **QUICK
        )
    assert (done.before, done.shards) == (5, 0)
    names = sorted(path.name for path in (tmp_path / "out").glob("*.parquet"))
    there = sorted(Path(path).name for path in memory.ls("/bucket/out", detail=False))
    assert there == [*names, "run.json"]
    for name in names:
        stored, own = (list(read_rows(f"{place}/{name}")) for place in ("memory://bucket/out", tmp_path / "out"))
        for row in (*stored, *own):
            row["error"] = row["error"] and Path(row["error"]).name  # the places differ
        assert stored == own
    assert len(json.loads(memory.cat_file("/bucket/out/run.json"))["runs"]) == 2
    assert collecting.collect("memory://bucket/out", tmp_path / "boxes").photos == 4
    with pytest.raises(InputError, match="other settings"):
        scaling.propose_at_scale(str(photos), "memory://bucket/out", console=quiet(), **QUICK, exif="ignore")


@pytest.mark.parametrize("name", ["selective-search", "multibox"])
def test_proposals_become_the_store_of_one_process(
    photos: Path, tmp_path: Path, here: list[str], name: str, torch_engine: None
) -> None:
    done = scaling.propose_at_scale(
        str(photos), str(tmp_path / "out"), proposals=name, max_boxes=9, device="cpu", console=quiet()
    )
    assert (done.fresh, len(done.failed)) == (4, 1)
    assert collecting.collect(str(tmp_path / "out"), tmp_path / "many").failed == 1
    job = ProposalJob(find_photos([str(photos)]), tmp_path / "one", max_boxes=9)
    propose_to_folder(job, build_for_many(name), quiet())
    one, many = ProposalStore(tmp_path / "one"), ProposalStore(tmp_path / "many")
    assert one.image_ids == many.image_ids
    for photo in one.photos.values():
        theirs = many.photos[photo.image_id]
        assert (photo.pixels, photo.file) == (theirs.pixels, theirs.file)
        for a, b in zip(one.boxes_of(photo.image_id), many.boxes_of(photo.image_id), strict=True):
            assert np.array_equal(a, b)
    keys = ("generator", "parameters", "exif", "max_boxes")
    assert [one.manifest[key] for key in keys] == [many.manifest[key] for key in keys]


def test_a_photo_that_the_networks_fail_on_has_a_row_with_its_error(photos: Path, monkeypatch: Any) -> None:
    work = Work("detect", {"proposals": "grid", "max_boxes": 6}, placement=ON_CPU)
    rows = [
        {"name": name.encode(), "path": str(photos / name).encode(), "row": -1, "group": 0, "at": at}
        for at, name in enumerate(NAMES)
    ]
    begun = arrow.concat_tables(list(Reading(work)(photos_table(rows))))
    networks = Networks(work)
    classify = networks._loaded.stages

    def failing(*arguments: Any) -> Any:
        stages = classify(*arguments)

        def work_on(group: Any) -> Any:
            if any(photo.image.shape[0] == 41 for photo in group):
                raise RuntimeError("odd")
            return stages[2].work(group)

        return [*stages[:2], type(stages[2])("classify", work_on), *stages[3:]]

    object.__setattr__(networks._loaded, "stages", failing)
    found = networks(begun).to_pylist()
    errors = [row["error"] and row["error"].removeprefix(f"{photos}/") for row in found]
    assert errors == [None, "b.png: not classified: RuntimeError: odd", "broken.png: not a picture in a known format",
                      None, None]  # fmt: skip
    assert found[0]["placement"].startswith("torch float32 on cpu")


def test_machines_with_other_weights_are_refused(photos: Path) -> None:
    settings = dict(Work("detect", {"proposals": "grid"}).load(ON_CPU).settings)
    Work("detect", {"proposals": "grid"}, settings).load(ON_CPU)
    with pytest.raises(InputError, match="has other weights"):
        Work("detect", {"proposals": "grid"}, {**settings, "weights": ["other sha256:0"]}).load(ON_CPU)


# Shards and words


def test_rows_give_detections_back_exactly(tmp_path: Path) -> None:
    with open_folder(str(tmp_path / "out")) as folder:
        RunRecord(folder.record, {})
        folder.write("a.parquet", to_parquet([failed_row("a\udcfc.png", "why")], "detect"))
    [row] = read_rows(str(tmp_path / "out" / "a.parquet"))
    assert (row["image"], row["error"], row["boxes"]) == ("a\\udcfc.png", "why", None)


def with_rows(content: bytes, rows: int, claimed: int) -> bytes:
    """Return a Parquet file whose footer, in Thrift's compact form, claims another number of rows in all."""
    length = int.from_bytes(content[-8:-4], "little")
    footer, number = content[-8 - length : -8], bytearray()
    while claimed * 2 >> 7 * len(number):  # zigzag, then seven bits per byte
        number.append(claimed * 2 >> 7 * len(number) & 0x7F | 0x80)
    number[-1] &= 0x7F
    before, after = b"\x16" + bytes([2 * rows]) + b"\x19", b"\x16" + bytes(number) + b"\x19"
    assert before in footer
    footer = footer.replace(before, after, 1)
    return content[: -8 - length] + footer + len(footer).to_bytes(4, "little") + content[-4:]


def test_parquet_that_claims_more_rows_than_bytes_is_refused(tmp_path: Path) -> None:
    """A list of their names would fill the memory."""
    parquet = pytest.importorskip("pyarrow.parquet")
    stream = io.BytesIO()
    parquet.write_table(arrow.table({"bytes": [b"a", b"b"]}), stream)
    assert with_rows(stream.getvalue(), 2, 2) == stream.getvalue()
    (tmp_path / "photos.parquet").write_bytes(with_rows(stream.getvalue(), 2, 2**50))
    with pytest.raises(InputError, match=r"photos\.parquet: not readable .* claims to have 1125899906842624 rows"):
        find_source(str(tmp_path / "photos.parquet"), leave_out="out")
    shard = to_parquet([failed_row("a.jpg", "why")], "detect")
    (tmp_path / "shard.parquet").write_bytes(with_rows(shard, 1, 2**50))
    with pytest.raises(InputError, match=r"shard\.parquet: a damaged shard \(it claims"):
        list(read_rows(str(tmp_path / "shard.parquet")))


def test_a_damaged_shard_is_named(photos: Path, tmp_path: Path, here: list[str]) -> None:
    scaling.propose_at_scale(str(photos), str(tmp_path / "out"), console=quiet(), **QUICK)
    [shard] = (tmp_path / "out").glob("*.parquet")
    shard.write_bytes(shard.read_bytes()[:-20])
    with pytest.raises(InputError, match=f"{shard}: a damaged shard"):
        collecting.collect(str(tmp_path / "out"), tmp_path / "boxes")
    with pytest.raises(InputError, match="this folder was not written by rcnn scale"):
        collecting.collect(str(photos), tmp_path / "boxes2")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--on", "spark"], "rcnn: --on 'spark' must be ray or ray://HOST:PORT\n"),
        (["--weights", "none"], "rcnn: --weights none: no such file"),
    ],
)
def test_what_cannot_be_used_is_one_line(
    photos: Path, tmp_path: Path, rcnn: Callable[..., int], capsys: Any, words: list[str], said: str
) -> None:
    assert rcnn("scale", "detect", photos, "--out", tmp_path / "out", "--proposals", "grid", *words) == 2
    assert said in capsys.readouterr().err


def test_without_ray_one_line_says_how_to_install_it(
    photos: Path, tmp_path: Path, rcnn: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert rcnn("scale", "detect", photos, "--out", tmp_path / "out", "--proposals", "grid") == 2
    assert capsys.readouterr().err.endswith("rcnn: ray is not installed: pip install 'googlenet-rcnn[ray]'\n")


@pytest.mark.parametrize(("module", "said"), [("ray.data.x", 0), ("ray", 0), ("rays", 1), ("detect.x", 1)])
def test_threads_of_ray_alone_end_without_a_traceback(monkeypatch: pytest.MonkeyPatch, module: str, said: int) -> None:
    ended: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", ended.append)
    names: dict[str, Any] = {"__name__": module}
    exec("def run():\n    raise ConnectionError('gone')", names)
    with quiet_threads():
        thread = threading.Thread(target=names["run"])
        thread.start()
        thread.join()
    assert len(ended) == said
    assert threading.excepthook == ended.append
