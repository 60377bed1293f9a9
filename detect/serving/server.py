"""Runs the application until the process is stopped, and then finishes the accepted requests."""

import socket
from collections.abc import Callable
from threading import Event, Thread

import uvicorn
from fastapi import FastAPI

from detect.serving.connections import PatientProtocol
from structures.errors import InputError

SIGNAL_SECONDS = 1.0  # between two chances for the main thread to handle a signal, on systems where waiting blocks it
CONNECTIONS = 2048  # that may wait to be accepted, so that our queue refuses requests, not the system


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
    """Return the URL of a socket."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def config(app: FastAPI, seconds: float) -> uvicorn.Config:
    """Return uvicorn's configuration: plain HTTP/1.1, whatever packages are installed.

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
    """Answer requests until this thread, which must be the main one, is interrupted.

    Args:
        app: the application.
        listening: socket from `bind`.
        seconds: most time for the last requests after that.
        begun: called once, before the first request.
    """
    server, ended = uvicorn.Server(config(app, seconds)), Event()

    def answer() -> None:
        try:
            server.run([listening])
        finally:
            ended.set()

    Thread(target=answer, name="http").start()  # in another thread, uvicorn does not handle signals
    try:
        begun()
        while not ended.wait(SIGNAL_SECONDS):  # not join: interrupted in it, Python 3.11 takes the thread for ended
            pass
    finally:
        server.should_exit = True
        ended.wait()
