"""Clients that send slowly, too much, or take nothing: each is let go, and the others are served."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import httpx
import pytest
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from detect.serving.connections import SLICE, PatientProtocol
from detect.serving.server import bind, config
from tests.serving import serving

LARGE = 2**25  # bytes: more than the system keeps for a client that takes nothing


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PatientProtocol, "seconds", 0.3)


def connect(base: str) -> socket.socket:
    url = httpx.URL(base)
    return socket.create_connection((url.host, url.port or 80), timeout=20)


def ends(connection: socket.socket) -> bool:
    """Wait until the server ends a connection."""
    try:
        while connection.recv(2**16):
            pass
    except ConnectionError:
        pass
    return True


@pytest.mark.parametrize(
    "begin", [b"", b"GET / HTTP/1.1\r\nHost: lo", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /"]
)
def test_a_head_that_does_not_arrive_is_not_waited_for(begin: bytes) -> None:
    with serving() as base, closing(connect(base)) as connection:
        connection.sendall(begin)
        assert ends(connection)


def test_a_body_has_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PatientProtocol, "seconds", 0.05)
    with serving() as base, closing(connect(base)) as connection:
        connection.sendall(b"POST /detect HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 3\r\n\r\na")
        assert threading.Event().wait(0.3) is False  # longer than a head has
        connection.sendall(b"bc")
        assert connection.recv(12) == b"HTTP/1.1 422"


def test_many_small_chunks_are_parsed_in_turns_with_what_others_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[int] = []

    def note(self: H11Protocol, data: bytes) -> None:
        parsed.append(len(data))
        received(self, data)

    received = H11Protocol.data_received
    monkeypatch.setattr(H11Protocol, "data_received", note)
    with serving() as base, closing(connect(base)) as connection:
        chunks = b"1\r\nx\r\n" * 20_000
        connection.sendall(b"POST /detect HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        connection.sendall(chunks + b"0\r\n\r\n")
        assert connection.recv(12) == b"HTTP/1.1 422"  # the 20,000 bytes are no photo
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        assert ends(connection)
    assert max(parsed) <= SLICE
    assert sum(parsed) > len(chunks)


def test_a_head_without_end_is_refused() -> None:
    with serving() as base, closing(connect(base)) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\n")
        head = b"".join(b"X-%d: %s\r\n" % (number, b"y" * 1000) for number in range(10_000))
        with pytest.raises(ConnectionError):
            connection.sendall(head)
        assert httpx.get(f"{base}/healthz").status_code == 200


def test_an_upgrade_to_a_web_socket_is_ignored() -> None:
    with serving() as base:
        headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
        assert (
            httpx.get(f"{base}/healthz", headers={**headers, "Sec-WebSocket-Key": "x" * 22 + "=="}).status_code == 200
        )


@contextmanager
def answering_at_length() -> Iterator[str]:
    """Serve one large answer."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        headers = [(b"content-length", b"%d" % LARGE)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": bytes(LARGE)})

    listening = bind("127.0.0.1", 0)
    server = uvicorn.Server(config(app, 1))  # type: ignore[arg-type]
    server.config.lifespan = "off"
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.mark.parametrize("looks", [0, 1000])
def test_a_client_that_takes_nothing_is_let_go_and_a_slow_one_is_not(
    monkeypatch: pytest.MonkeyPatch, looks: int
) -> None:
    monkeypatch.setattr(PatientProtocol, "seconds", 0.1)
    monkeypatch.setattr("detect.serving.connections.LOOKS", looks)
    with answering_at_length() as base, closing(connect(base)) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        threading.Event().wait(0.7)  # it takes nothing meanwhile
        got = 0
        while piece := _taken(connection):
            got += piece
        assert (got >= LARGE) == bool(looks)


def _taken(connection: socket.socket) -> int:
    try:
        return len(connection.recv(2**18))
    except ConnectionError:
        return 0
