"""Films are folders of frames: found, counted, decoded in order, detected on, drawn, and gone on with."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from detect.runs import films
from detect.runs.films import Films, camera_frames, count_frames, frames_of, truncated
from detect.runs.frames import film_of
from detect.runs.photos import Photo, SourceError
from structures.errors import InputError
from structures.files import file_digest
from structures.images import ImageError
from tests.test_detect_command import entries, propose, rcnn, weights

__all__ = ["propose", "rcnn", "weights"]  # fixtures


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for level in range(9):
        writer.write(np.full((48, 64, 3), 25 * level, np.uint8))
    writer.release()
    return path


def test_frames_have_names_and_come_in_order(film: Path) -> None:
    frames = frames_of(Photo("film.avi", film), 4)
    assert [frame.image_id for frame in frames] == ["film.avi/000000.jpg", "film.avi/000004.jpg", "film.avi/000008.jpg"]
    assert film_of(frames[1].path) == (film, 4)
    assert film_of(film.parent / "000004.jpg") is None
    films = Films()
    for number in (0, 1, 4, 8, 2, 2):
        assert abs(films(film, number).mean() - 25 * number) < 4
    films.close()
    with pytest.raises(ImageError, match="frame 9 cannot be decoded"):
        films(film, 9)
    with pytest.raises(ImageError, match="more than 100 pixels"):
        Films(max_pixels=100)(film, 0)
    assert films(film, 0).dtype == np.uint8


def test_films_that_are_none_or_cut_off(film: Path, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no film")
    with pytest.raises(SourceError, match=r"text\.mp4: not a film"):
        count_frames(tmp_path / "text.mp4")
    assert (count_frames(film), truncated(film)) == (9, "")
    cut = tmp_path / "cut.avi"
    cut.write_bytes(film.read_bytes()[: film.stat().st_size // 2])
    try:
        found = count_frames(cut)
    except SourceError:  # some versions of OpenCV open no film without its index
        return
    assert found < 9


@pytest.mark.parametrize(
    "content", [b"ffconcat version 1.0\nfile film.avi\n", b"#EXTM3U\n#EXTINF:9,\nfilm.avi\n#EXT-X-ENDLIST\n", None]
)
def test_pictures_and_lists_of_other_files_are_no_films(film: Path, tmp_path: Path, content: bytes | None) -> None:
    """OpenCV would open them, whatever their names are: other files, and pictures without our limits."""
    disguised, still = tmp_path / "a001.mp4", cv2.imencode(".png", np.zeros((9, 8, 3), np.uint8))[1].tobytes()
    disguised.write_bytes(content or still)
    with pytest.raises(SourceError, match=r"a001\.mp4: not a film"):
        count_frames(disguised)


def test_a_film_with_too_large_frames_is_not_decoded(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Never:
        def __getattr__(self, name: str) -> Any:
            return getattr(opened, name)

        def grab(self) -> bool:
            raise AssertionError("decoded")

        retrieve = read = grab

    opened = cv2.VideoCapture(str(film))
    monkeypatch.setattr(cv2, "VideoCapture", lambda place: Never())
    with pytest.raises(ImageError, match="more than 3071 pixels"):
        Films(max_pixels=64 * 48 - 1)(film, 0)


def test_a_film_that_cannot_be_written_whole_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenCV does not say if the disk is full."""
    pictures = [tmp_path / f"{number}.png" for number in range(3)]
    for picture in pictures:
        cv2.imwrite(str(picture), np.zeros((48, 64, 3), np.uint8))
    films._encode(tmp_path / "whole.mp4", pictures, 25)
    assert count_frames(tmp_path / "whole.mp4") == 3

    class Full:
        """A writer of films on a disk that has room for the first frame alone."""

        def __init__(self, *arguments: Any) -> None:
            self.inner, self.left = writer(*arguments), 1

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

        def write(self, pixels: Any) -> None:
            self.left -= 1
            if self.left >= 0:
                self.inner.write(pixels)

    writer = cv2.VideoWriter
    Full.fourcc = writer.fourcc  # type: ignore[attr-defined]
    monkeypatch.setattr(cv2, "VideoWriter", Full)
    with pytest.raises(InputError, match="could not be written whole; is there room in"):
        films._encode(tmp_path / "cut.mp4", pictures, 25)


def test_a_missing_camera() -> None:
    with pytest.raises(SourceError, match="camera:99: there is no such camera"):
        camera_frames("camera:99", 2)
    with pytest.raises(ImageError, match="camera:99: there is no such camera"):
        Films()(Path("camera:99"), 0)


def test_a_camera_that_is_not_there_is_one_line_before_any_work(
    rcnn: Callable[..., int], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert rcnn("camera:99", "--out", tmp_path / "out") == 2
    assert capfd.readouterr().err == "rcnn: camera:99: there is no such camera, or it is in use\n"
    assert not (tmp_path / "out").exists()


def test_frames_of_a_camera_are_numbered(monkeypatch: pytest.MonkeyPatch) -> None:
    class Camera:
        def release(self) -> None: ...

    monkeypatch.setattr("detect.runs.films._open", lambda path: Camera())
    frames = camera_frames("camera:1", 2)
    assert [frame.image_id for frame in frames] == ["camera-1/000000.jpg", "camera-1/000001.jpg"]
    assert film_of(frames[1].path) == (Path("camera:1"), 1)


def test_a_film_is_detected_on_drawn_and_gone_on_with(rcnn: Callable[..., int], film: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert rcnn(film, "--out", out, "--draw", "--every", 2, "--together", 3, "--profile") == 0
    found = entries(out)
    assert list(found) == [f"film.avi/{number:06d}.jpg" for number in range(0, 9, 2)]
    assert found["film.avi/000008.jpg"]["labels"][0] == "bright"
    assert len({entry["file_key"] for entry in found.values()}) == 1
    assert count_frames(out / "films/film.avi.mp4") == 5
    record = json.loads((out / "run.json").read_text())["runs"][-1]
    assert {"read", "propose", "classify", "suppress", "write"} <= record["profile"].keys()
    assert list(record["start"]) == ["import", "load", "first photo"]
    assert all(seconds > 0 for seconds in record["start"].values())
    lines = (out / "detections.jsonl").read_text().splitlines(keepends=True)
    (out / "detections.jsonl").write_text("".join(lines[:2]))
    assert rcnn(film, "--out", out, "--every", 2) == 0
    assert entries(out) == found


def test_a_film_that_is_as_it_was_is_not_read_again_and_another_is_refused(
    rcnn: Callable[..., int],
    film: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, read = tmp_path / "out", list[Path]()
    assert rcnn(film, "--out", out, "--every", 4) == 0

    def digest(path: Path) -> str:
        read.append(path)
        return file_digest(path)

    monkeypatch.setattr("structures.file_digests.file_digest", digest)
    assert rcnn(film, "--out", out, "--every", 4) == 0
    assert read == []
    os.utime(film, ns=(0, 5))
    for _ in range(2):
        assert rcnn(film, "--out", out, "--every", 4) == 0
        assert read == [film]  # once for all frames, and known by its new time
    film.write_bytes(film.read_bytes() + b"more")
    assert rcnn(film, "--out", out, "--every", 4) == 2
    assert "has results of other photos with the names of 3 images (film.avi/000000.jpg" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [(("--every", 2), "--every needs a film"), (("--frames", 2), "--frames needs a camera")],
)
def test_options_of_films_without_one(
    rcnn: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[Any, ...], complaint: str
) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((9, 9, 3), np.uint8))
    assert rcnn(tmp_path / "a.png", "--out", tmp_path / "out", *words) == 2
    assert complaint in capsys.readouterr().err
