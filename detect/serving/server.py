"""Runs the application until the process is asked to stop, and then finishes what was taken."""

import socket
from collections.abc import Callable
from threading import Event, Thread

import uvicorn
from fastapi import FastAPI

from detect.serving.connections import PatientProtocol
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


def config(app: FastAPI, seconds: float) -> uvicorn.Config:
    """Return how uvicorn runs an application, which speaks plain HTTP/1.1 whatever packages are installed.

    Args:
        app: the application.
        seconds: see `run`.
    """
    return uvicorn.Config(
        app,
        http=PatientProtocol,
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=round(seconds) + 1,
    )


def run(app: FastAPI, listening: socket.socket, *, seconds: float, begun: Callable[[], None]) -> None:
    """Answer requests until this thread is interrupted; it must be the main one.

    Args:
        app: the application.
        listening: made by `bind`.
        seconds: that the last requests may take after that, at most.
        begun: called once, before the first request.
    """
    server, ended = uvicorn.Server(config(app, seconds)), Event()

    def answer() -> None:
        try:
            server.run([listening])
        finally:
            ended.set()

    Thread(target=answer, name="http").start()  # uvicorn leaves the signals to this thread then
    try:
        begun()
        while not ended.wait(LOOK_SECONDS):  # not join: stopped in it, Python 3.11 takes the thread for ended
            pass
    finally:
        server.should_exit = True
        ended.wait()
