"""Results on disk: OUT/detections.jsonl and OUT/skipped.jsonl, with one line per photo, written when it is done.

A killed run leaves at worst half a line at the end. The next run cuts that off, skips photos that are done, and tries
again those that failed.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from detect.found import as_entry
from detect.runs.record import RUN_FILE, RunError, read_run
from eval.region_layout import INDEX_FILE, REGIONS_FILE
from eval.results import DETECTIONS_FILE, ResultsError, require_line
from structures.file_digests import FileDigests, Stamp
from structures.line_files import LineFile
from structures.own_files import inside
from structures.records import Detections

SKIPPED_FILE = "skipped.jsonl"


class ResultsFolder:
    """Adds to the results in one folder.

    Args:
        folder: made if it is missing.
        overwrite: whether to discard earlier results.

    Attributes:
        folder: the folder.
        done: image ids of photos with results, also of earlier runs -> `proposals.stored.reader.file_key`; "" if it was
            not noted.
        files: notes of the photos' files, to recognise changes.
        skipped: image ids of photos that could not be processed -> reason.

    Raises:
        FileRefused: another run is writing here, a line was not written by `rcnn detect`, or there are results without
            a run.json. Nothing is changed in these cases.
    """

    def __init__(self, folder: Path, *, overwrite: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.done, self.skipped = folder, dict[str, str](), dict[str, str]()
        _require_own(folder)
        self.files = FileDigests(folder)
        self._detections = LineFile(
            inside(folder, DETECTIONS_FILE), ("image", "width"), self._read_done, overwrite=overwrite
        )
        try:
            skips = inside(folder, SKIPPED_FILE)
            self._skips = LineFile(skips, ("image", "reason"), self._read_skip, overwrite=overwrite)
        except BaseException:
            self._detections.close()
            raise

    def __enter__(self) -> "ResultsFolder":
        return self

    def __exit__(self, *exception: object) -> None:
        self._detections.close()
        self.files.write()
        self._skips.replace([{"image": image_id, "reason": reason} for image_id, reason in self.skipped.items()])
        self._skips.close(keep_empty=False)

    def write(
        self, image_id: str, found: Detections, classes: Sequence[str], key: str = "", stamp: Stamp | None = None
    ) -> None:
        """Write the detections of a photo, with the key of its file, and the file's stamp from before it was read."""
        self._detections.add(as_entry(image_id, found, classes) | ({"file_key": key} if key else {}))
        self.done[image_id] = key
        self.skipped.pop(image_id, None)
        if key and stamp is not None:
            self.files.add(image_id, stamp, key)

    def skip(self, image_id: str, reason: str) -> None:
        """Note a photo that could not be processed."""
        if self.skipped.get(image_id) != reason:
            self._skips.add({"image": image_id, "reason": reason})
        self.skipped[image_id] = reason

    def changed(self, photos: Iterable[tuple[str, str | Path]]) -> list[str]:
        """Return the image ids of photos whose content differs from that of the results; missing photos are ignored.

        Args:
            photos: image id and file of each photo.
        """
        known = ((image_id, path) for image_id, path in photos if self.done.get(image_id))
        return [image_id for image_id, key in self.files.digests(known) if key not in ("", self.done[image_id])]

    def _read_done(self, entry: Any, place: str) -> None:
        image_id = require_line(entry, place)
        if image_id in self.done:
            raise ResultsError(f"{place}: a second line for {image_id}")
        self.done[image_id] = str(entry.get("file_key") or "")

    def _read_skip(self, entry: Any, place: str) -> None:
        if entry.keys() != {"image", "reason"} or not all(isinstance(value, str) for value in entry.values()):
            raise ResultsError(f"{place}: expected a photo and a reason")
        if entry["image"] not in self.done:
            self.skipped[entry["image"]] = entry["reason"]


def _require_own(folder: Path) -> None:
    """Refuse files with the names of results that were not written by `rcnn detect`."""
    if read_run(folder) is None:
        for path in (folder / name for name in (DETECTIONS_FILE, SKIPPED_FILE, INDEX_FILE, REGIONS_FILE)):
            if path.is_file() and path.stat().st_size:
                raise RunError(
                    f"{path}: exists, but there is no {RUN_FILE} to show that rcnn detect wrote it; "
                    "name another `out`, or move it away"
                )
