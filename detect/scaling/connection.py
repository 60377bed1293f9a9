"""Connects to a Ray cluster: this machine's, one that is started here, or a remote one by its address."""

import logging
import os
import re
import signal
import socket
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from detect.scaling.places import EXTRA
from structures.errors import InputError
from structures.extras import installed

HERE = "ray"
REMOTE = re.compile(r"ray://(?P<host>\[[0-9a-fA-F:.]+\]|[^\s/@:\[\]]+):(?P<port>[0-9]{1,5})")
ANSWER_SECONDS = 10.0  # for a first connection; one that takes longer is left to Ray, which waits for 30 s
LIBRARY_LOGS = ("ray", "ray.data")


@contextmanager
def connected(on: str) -> Iterator[Any]:
    """Connect to a cluster, and yield the Ray module.

    Args:
        on: "ray" for the cluster that this process runs in, that RAY_ADDRESS names, or that `ray start` started on this
            machine; if there is none, one is started here, and ends with the block. "ray://HOST:PORT" for a remote one.

    Raises:
        InputError: Ray is not installed, or there is no cluster at the address that can be used.
    """
    if on != HERE and REMOTE.fullmatch(on) is None:
        raise InputError(f"`on` {on!r} must be ray or ray://HOST:PORT")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no usage reports
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else Ray warns about this future default
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # important errors are also raised
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")  # else Ray starts a cluster here when a remote one is lost
    ray = installed("ray", extra=EXTRA)
    installed("ray.data", extra=EXTRA)
    if ray.is_initialized():
        yield ray
        return
    with _own_signals(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the same as the errors
        _begin(ray, on)
    for name in LIBRARY_LOGS:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with quiet_threads():
            yield ray
    finally:
        ray.shutdown()


@contextmanager
def quiet_threads() -> Iterator[None]:
    """Keep Ray's own threads from printing tracebacks when a cluster goes; the run says what became of it."""
    before = threading.excepthook

    def of_others(ended: threading.ExceptHookArgs) -> None:
        frames = traceback.walk_tb(ended.exc_traceback)
        if not any(str(frame.f_globals.get("__name__")).partition(".")[0] == "ray" for frame, _ in frames):
            before(ended)

    threading.excepthook = of_others
    try:
        yield
    finally:
        threading.excepthook = before


def _begin(ray: Any, on: str) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    try:
        if on == HERE:  # not "auto": it takes any cluster, also one that another command started and ends with it
            ray.init(include_dashboard=False, **quiet)
        else:
            _require_answer(on)
            ray.init(on, **quiet)
    except ConnectionError as error:
        port = "" if on == HERE else "; the port must be that of Ray's client server, 10001 by default"
        token = "if it requires a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"
        raise InputError(f"`on` {on}: the cluster cannot be reached: {_line(error)} ({token}{port})") from None
    except InputError:
        raise
    except Exception as error:  # of any class: a plain one on a timeout, RuntimeError where versions differ
        what = "a cluster cannot be started here" if on == HERE else "the cluster cannot be used"
        raise InputError(f"`on` {on}: {what}: {_line(error)}") from None


def _require_answer(on: str) -> None:
    """Check that something listens at an address, since Ray would wait for it without a word."""
    address = REMOTE.fullmatch(on)
    assert address is not None
    try:
        socket.create_connection((address["host"].strip("[]"), int(address["port"])), ANSWER_SECONDS).close()
    except TimeoutError:
        return
    except (OSError, OverflowError, UnicodeError) as error:
        raise InputError(f"`on` {on}: nothing answers there: {_line(error)}") from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep our handler of SIGTERM, which Ray replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
