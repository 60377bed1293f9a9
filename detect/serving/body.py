"""Reads the photo in the body of a request, raw or as a form, within limits of size and time."""

import asyncio
from contextlib import suppress
from email.message import Message

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from detect.serving.jobs import Limits

FORM = "multipart/form-data"
FIELD = "photo"
MOST_HEAD = 4096  # bytes in the headers of a form's part
MOST_NAME = 255  # characters in a photo's name
SURPLUS = 4  # up to this many times the largest body is read and dropped, so that the client reads the answer
SURPLUS_SECONDS = 10.0


async def read_photo(request: Request, limits: Limits) -> tuple[bytes, str]:
    """Return the bytes of the photo, and its name in a form.

    Raises:
        HTTPException: the body is too large or too slow, or a damaged form, or one without the photo.
    """
    try:
        content = await asyncio.wait_for(_body(request, limits.max_bytes), limits.seconds)
    except asyncio.TimeoutError:
        raise HTTPException(408, f"the photo did not arrive within {limits.seconds:g} s") from None
    except ClientDisconnect:
        raise HTTPException(400, "the request is incomplete") from None
    kind = request.headers.get("content-type", "")
    return _from_form(content, kind) if kind.lower().startswith(FORM) else (content, "")


async def _body(request: Request, most: int) -> bytes:
    told = request.headers.get("content-length", "0")
    if told.isdigit() and int(told) > most:
        await pass_over(request, most)
        raise HTTPException(413, f"the body has more than {most} bytes, the limit of this server")
    parts, size = list[bytes](), 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            await pass_over(request, most)
            raise HTTPException(413, f"the body has more than {most} bytes, the limit of this server")
        parts.append(part)
    return b"".join(parts)


async def pass_over(request: Request, most: int) -> None:
    """Read and drop the rest of a body: if the connection were closed, the client would see an error, not the answer.

    Args:
        request: request whose body is not needed.
        most: largest body in bytes; only a few times as much is read.
    """
    if "expect" in request.headers:  # the client has not sent the body
        return
    with suppress(asyncio.TimeoutError, ClientDisconnect, RuntimeError):  # RuntimeError: it was already read
        await asyncio.wait_for(_discard(request, SURPLUS * most), SURPLUS_SECONDS)


async def _discard(request: Request, most: int) -> None:
    left = most
    async for part in request.stream():
        left -= len(part)
        if left < 0:
            return


def _from_form(content: bytes, kind: str) -> tuple[bytes, str]:
    """Return the only file of a form, and its name."""
    try:
        return _only_file(content, kind)
    except (LookupError, ValueError):  # of Python's reader of headers
        raise _no_photo("damaged headers") from None


def _only_file(content: bytes, kind: str) -> tuple[bytes, str]:
    """Search for the boundaries."""
    edge = b"--" + _header("content-type", kind).get_boundary("").encode("latin-1", "replace")
    begin, *parts = content.split(b"\r\n" + edge, 2) if edge != b"--" else [content]
    if not begin.startswith(edge + b"\r\n") or not parts or not parts[0].startswith(b"--"):
        raise _no_photo("damaged" if not parts or len(parts) == 1 else "more than one part")
    head, _, photo = begin[len(edge) :].partition(b"\r\n\r\n")
    lines = [line for line in head[:MOST_HEAD].split(b"\r\n") if line.lower().startswith(b"content-disposition:")]
    about = _header("content-disposition", lines[0].partition(b":")[2].decode(errors="replace")) if lines else Message()
    if about.get_param("name", header="content-disposition") != FIELD or about.get_filename() is None:
        raise _no_photo(f"no file in the field `{FIELD}`")
    return photo, (about.get_filename() or "")[:MOST_NAME]


def _header(name: str, value: str) -> Message:
    message = Message()
    message[name] = value.strip()
    return message


def _no_photo(reason: str) -> HTTPException:
    return HTTPException(400, f"not a form with one file, in the field `{FIELD}`: {reason}")
