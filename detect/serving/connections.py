"""Time limits of connections: for the header of a request to arrive, and for a client to read its answer."""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 20.0  # for a header to arrive; the time of a body is limited where it is read
SLICE = 2**14  # bytes that are parsed at a time: in chunks of one byte, a tenth of a second's work
LOOKS = 15  # a client may take this many times as long to read an answer


class PatientProtocol(H11Protocol):
    """uvicorn's HTTP protocol with h11, which limits the size of headers, with a limit on their time.

    Attributes:
        seconds: time between two checks of an idle connection.
    """

    seconds = HEAD_SECONDS

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._look: asyncio.TimerHandle | None = None
        self._looks = 0
        self._rest = bytearray()  # has arrived, and is not parsed yet

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to wait for a request."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Parse a slice now, and the rest in turns with what others have to do: many small chunks take their time."""
        begun = bool(self._rest)
        self._rest += data
        if begun:
            self._read(False)
        else:
            self._parse()

    def _parse(self) -> None:
        """Parse a slice; stop waiting once a request has arrived."""
        if self.transport.is_closing():
            self._rest.clear()
            return
        now = bytes(self._rest[:SLICE])
        del self._rest[:SLICE]
        super().data_received(now)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()
        self._read(not self._rest and not self.flow.read_paused)
        if self._rest:
            self.loop.call_soon(self._parse)

    def _read(self, wanted: bool) -> None:
        """Read more from the client, or wait with it."""
        if self.transport.is_reading() and not wanted:
            self.transport.pause_reading()
        elif wanted and not self.transport.is_reading():
            self.transport.resume_reading()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self, looks: int = 0) -> None:
        self._stop_waiting()
        self._looks = looks
        self._look = self.loop.call_later(self.seconds, self._end_or_wait)

    def _stop_waiting(self) -> None:
        if self._look is not None:
            self._look.cancel()

    def _end_or_wait(self) -> None:
        """Close the connection, unless the client is still reading the last answer and has time left."""
        if self.transport.get_write_buffer_size() and self._looks < LOOKS:
            self._wait(self._looks + 1)
        else:
            self.transport.abort()
