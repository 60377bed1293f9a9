"""Rows of results as Parquet, one per photo; the row of a photo that failed has only its error.

Numbers are kept exactly, so that lines made from a shard equal those of `rcnn detect`.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from detect.scaling.places import EXTRA, open_parquet
from structures.boxes import as_boxes
from structures.errors import InputError
from structures.extras import installed
from structures.records import Detections, Proposals

DETECT, PROPOSE = "detect", "propose"
WORK = b"googlenet-rcnn"  # key in the metadata of the file, whose value is DETECT or PROPOSE
Row = dict[str, Any]


class ShardError(InputError):
    """A shard cannot be used; the message names it."""


def schema_of(work: str) -> Any:
    """Return the schema of a shard of detections or of proposals."""
    arrow = installed("pyarrow", extra=EXTRA)
    number, text = arrow.float32(), arrow.string()
    own = {"labels": arrow.list_(text)} if work == DETECT else {"pixels": text}
    columns = {
        "image": text,
        "width": arrow.int32(),
        "height": arrow.int32(),
        "boxes": arrow.list_(arrow.list_(number, 4)),
        "scores": arrow.list_(number),
        "sources": arrow.list_(text),
        **own,
        "file_key": text,
        "error": text,
    }
    return arrow.schema(list(columns.items()), metadata={WORK: work.encode()})


def found_row(image_id: str, found: Detections, file_key: str) -> Row:
    """Return the row of a photo's detections."""
    return {**_boxes_row(image_id, found, file_key), "labels": found.names()}


def proposed_row(image_id: str, proposals: Proposals, pixels: str, file_key: str) -> Row:
    """Return the row of a photo's proposals."""
    return {**_boxes_row(image_id, proposals, file_key), "pixels": pixels}


def _boxes_row(image_id: str, record: Detections | Proposals, file_key: str) -> Row:
    height, width = record.image_size
    return {
        "image": _text(image_id),
        "width": int(width),
        "height": int(height),
        "boxes": record.boxes.tolist(),
        "scores": record.scores.tolist(),
        "sources": [record.source_names[source] for source in record.source],
        "file_key": file_key,
    }


def failed_row(image_id: str, error: str) -> Row:
    """Return the row of a photo that could not be processed."""
    return {"image": _text(image_id), "error": _text(error)}


def _text(text: str) -> str:
    """Return a text that Parquet can hold, with bytes of file names that are not UTF-8 escaped."""
    return text.encode(errors="backslashreplace").decode()


def detections_of(row: Row, classes: Sequence[str]) -> Detections:
    """Return the record that a row was made of.

    Raises:
        ShardError: it holds what we never write.
    """
    with _of_row(row):
        names, source = _sources(row)
        labels = np.array([classes.index(label) for label in row["labels"]], np.int64)
        boxes, scores, size = as_boxes(row["boxes"]), np.array(row["scores"], np.float32), (row["height"], row["width"])
        return Detections(boxes, labels, scores, size, source, names, tuple(classes))


def proposals_of(row: Row) -> Proposals:
    """Return the record that a row was made of; errors as of `detections_of`."""
    with _of_row(row):
        names, source = _sources(row)
        boxes, scores, size = as_boxes(row["boxes"]), np.array(row["scores"], np.float32), (row["height"], row["width"])
        return Proposals(boxes, scores, size, source, names)


@contextmanager
def _of_row(row: Row) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, ArithmeticError) as error:
        raise ShardError(f"the shards' row of {row['image']}: not as rcnn writes it: {error}") from None


def _sources(row: Row) -> tuple[tuple[str, ...], Any]:
    names = tuple(dict.fromkeys(row["sources"])) or ("",)
    if None in names:
        raise InputError("a box without a source")
    return names, np.array([names.index(name) for name in row["sources"]], np.uint8)


def to_parquet(rows: Sequence[Row], work: str) -> bytes:
    """Return the bytes of a shard; the same rows give the same bytes with the same version of pyarrow."""
    arrow = installed("pyarrow", extra=EXTRA)
    stream = io.BytesIO()
    table = arrow.Table.from_pylist(list(rows), schema=schema_of(work))
    parquet = installed("pyarrow.parquet", extra=EXTRA)
    parquet.write_table(table, stream, compression="zstd", write_page_checksum=True)
    return stream.getvalue()


def read_rows(place: str, columns: Sequence[str] | None = None, *, work: str | None = None) -> Iterator[Row]:
    """Yield the rows of a shard.

    Args:
        place: path or address.
        columns: columns to read, `image` among them; None reads all.
        work: what the rows must be of: DETECT or PROPOSE; None takes either.

    Raises:
        ShardError: the file is damaged, or not a shard.
    """

    def damaged(reason: str) -> ShardError:
        return ShardError(f"{place}: a damaged shard ({reason}); remove it, and it is made again")

    with open_parquet(place, damaged) as file:
        done = (file.schema_arrow.metadata or {}).get(WORK, b"").decode(errors="replace")
        if done not in (DETECT, PROPOSE) or not file.schema_arrow.equals(schema_of(done)):
            raise ShardError(f"{place}: not a shard that rcnn wrote")
        if work is not None and done != work:
            raise ShardError(f"{place}: a shard of rcnn scale {done}, where one of {work} was expected")
        rows = file.read(columns=None if columns is None else list(columns)).to_pylist()
    for row in rows:
        whole = row.get("error", "") is None  # else the photo failed, or not all columns were read
        lacks = [name for name in (row if whole else ["image"]) if row[name] is None and name != "error"]
        if lacks:
            raise ShardError(f"{place}: a row without {', '.join(lacks)}")
        yield row
