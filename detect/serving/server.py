"""Runs the application until the process is asked to stop, and then finishes what was taken."""

import socket
from collections.abc import Callable
from threading import Thread

import uvicorn
from fastapi import FastAPI

from structures.errors import InputError

LOOK_SECONDS = 1.0  # between two chances for the main thread to notice a signal, where waiting hides it
CONNECTIONS = 2048  # that wait to be accepted; the queue refuses requests, not the system


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens; port 0 takes a free one.

    Raises:
        InputError: the address cannot be used.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=CONNECTIONS)
    except OSError as error:
        raise InputError(f"`host` {host}, `port` {port}: {error.strerror or error}") from None


def address(listening: socket.socket) -> str:
    """Return where a socket is reached, as a browser wants it."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def run(app: FastAPI, listening: socket.socket, *, seconds: float, begun: Callable[[], None]) -> None:
    """Answer requests until this thread is interrupted; it must be the main one.

    Args:
        app: the application.
        listening: made by `bind`.
        seconds: that the last requests may take after that, at most.
        begun: called once, before the first request.
    """
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=round(seconds) + 1,
    )
    server = uvicorn.Server(config)
    thread = Thread(target=server.run, args=([listening],), name="http")  # which leaves the signals to this one
    thread.start()
    try:
        begun()
        while thread.is_alive():
            thread.join(LOOK_SECONDS)
    finally:
        server.should_exit = True
        thread.join()
