"""The photo in the body of a request, raw or as a form, within limits of size and time."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from detect.serving.jobs import Limits

FORM = "multipart/form-data"
FIELD = "photo"
MOST_NAME = 255  # characters of a photo's name
SURPLUS = 4  # times the largest body are still taken from the line, unseen, so that the client gets to read the answer
SURPLUS_SECONDS = 10.0


async def read_photo(request: Request, limits: Limits) -> tuple[bytes, str]:
    """Return the bytes of the photo, and the name that a form gives it.

    Raises:
        HTTPException: too large, too slow, or a form without the photo.
    """
    try:
        content = await asyncio.wait_for(_body(request, limits.max_bytes), limits.seconds)
    except asyncio.TimeoutError:
        raise HTTPException(408, f"the photo did not arrive within {limits.seconds:g} s") from None
    except ClientDisconnect:
        raise HTTPException(400, "the request was not sent to its end") from None
    if not request.headers.get("content-type", "").lower().startswith(FORM):
        return content, ""
    return await _from_form(request, content)


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
    """Take what is still sent from the line and forget it: closed on, a client would see no answer but an error.

    Args:
        request: whose body is not wanted.
        most: bytes of a body that this server takes; of larger ones only a few times as much is passed over.
    """
    if "expect" in request.headers:  # it waits for our word
        return
    with suppress(asyncio.TimeoutError, ClientDisconnect, RuntimeError):  # the last: it was read already
        await asyncio.wait_for(_discard(request, SURPLUS * most), SURPLUS_SECONDS)


async def _discard(request: Request, most: int) -> None:
    left = most
    async for part in request.stream():
        left -= len(part)
        if left < 0:
            return


async def _from_form(request: Request, content: bytes) -> tuple[bytes, str]:
    async def stream() -> AsyncGenerator[bytes, None]:
        yield content

    parser = MultiPartParser(request.headers, stream(), max_files=1, max_fields=0)
    parser.spool_max_size = len(content) + 1  # in memory, where it is already
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError) as error:
        reason = getattr(error, "message", "damaged")
        raise HTTPException(400, f"not a form with one file, in the field `{FIELD}`: {reason}") from None
    try:
        photo = form.get(FIELD)
        if not isinstance(photo, UploadFile):
            raise HTTPException(400, f"the form has no file in its field `{FIELD}`")
        return await photo.read(), (photo.filename or "")[:MOST_NAME]
    finally:
        await form.close()
