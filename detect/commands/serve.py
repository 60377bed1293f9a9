"""`rcnn serve`: the detector over HTTP, with a web page to try it."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detect.commands.detector_options import DetectorOptions
from detect.commands.groups import examples
from detect.commands.option_records import with_records
from detect.commands.options import Exif, ExifOption, PlacementOptions
from detect.serving.jobs import TOKEN_VARIABLE
from structures.errors import InputError

if TYPE_CHECKING:
    from detect.serving.jobs import Limits

LOOPBACK_ADDRESSES = ("127.0.0.1", "localhost", "::1")
HANGING, HANGING_SECONDS = 4, 60.0  # a detector hangs after this many times `seconds`, or at least this time
PACKAGES = ("fastapi", "uvicorn", "prometheus_client")


@dataclass(frozen=True)
class AddressOptions:
    """Address."""

    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all interfaces.")] = "127.0.0.1"
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            help="Host name that requests may use for the server; may be repeated.",
            show_default="the loopback names; if it listens on another address, any",
        ),
    ] = None
    token_file: Annotated[
        Path | None,
        typer.Option(help=f"File with a token that requests must send; or set {TOKEN_VARIABLE}.", show_default="none"),
    ] = None

    @property
    def token(self) -> str:
        """The token that requests must send; empty if none is required.

        Raises:
            InputError: the file or variable does not hold one line of printable ASCII.
        """
        given = os.environ.get(TOKEN_VARIABLE) if self.token_file is None else _read(self.token_file)
        if given is not None and not (given.strip().isascii() and given.strip().isprintable() and given.strip()):
            raise InputError(f"`token_file` {self.token_file or TOKEN_VARIABLE}: not one line of printable ASCII")
        return (given or "").strip()

    def hosts(self) -> tuple[str, ...]:
        """Return the host names that requests may use; none for any."""
        from detect.serving.gate import LOOPBACK_HOSTS

        if self.allow_host:
            return tuple(name.lower() for name in self.allow_host)
        return tuple(sorted(LOOPBACK_HOSTS)) if self.host in LOOPBACK_ADDRESSES else ()


@dataclass(frozen=True)
class LimitOptions:
    """Limits."""

    max_bytes: Annotated[int, typer.Option(min=1000, help="Largest request body, in bytes.")] = 20_000_000
    max_pixels: Annotated[int, typer.Option(min=1, help="Largest photo, in pixels.")] = 50_000_000
    seconds: Annotated[float, typer.Option(min=0.1, max=3600, help="Longest time for a request, in seconds.")] = 30
    waiting: Annotated[
        int, typer.Option(min=1, help="Most requests at a time, including waiting ones; others get 503 at once.")
    ] = 32
    together: Annotated[int, typer.Option(min=1, help="Most photos that are handed to the detector together.")] = 8

    def limits(self) -> "Limits":
        """Return them as one record for the server."""
        from detect.serving.jobs import Limits

        return Limits(self.max_bytes, self.max_pixels, self.seconds, self.waiting, self.together)


@examples(
    "rcnn serve --features shared --proposals multibox",
    "rcnn serve --host 0.0.0.0 --token-file token.txt --max-boxes 200 --offer multibox",
)
@with_records
def serve(
    detector: DetectorOptions,
    where: PlacementOptions,
    address: AddressOptions,
    limit: LimitOptions,
    offer: Annotated[
        list[str] | None, typer.Option(help="Another proposal generator that requests may choose; may be repeated.")
    ] = None,
    exif: ExifOption = Exif.apply,
) -> None:
    """Serve the detector over HTTP: answers like the lines of `rcnn detect`, or pictures, and a page at / to try it.

    --score, --max-boxes, --proposals and --offer limit what a request may ask for. On Ctrl-C and SIGTERM the server
    finishes the requests that it has accepted.
    """
    from structures.extras import installed

    for package in PACKAGES:
        installed(package, extra="serve")
    arguments: dict[str, Any] = {
        **where.as_names(),
        **detector.arguments(),
        "weights": detector.weights,
        "proposals": detector.proposals,
        "exif": exif.value,
    }
    _serve(arguments, tuple(offer or ()), address, limit.limits())


def _serve(arguments: dict[str, Any], others: tuple[str, ...], options: AddressOptions, limits: "Limits") -> None:
    from detect.runs.machine import DISTRIBUTION, versions
    from detect.serving.app import make_app
    from detect.serving.child import Child
    from detect.serving.loading import Loading
    from detect.serving.queue import Queue
    from detect.serving.server import address, bind, run

    token, hosts = options.token, options.hosts()
    listening = bind(options.host, options.port)  # before the networks are loaded
    work = Child(Loading(arguments, others, limits.max_pixels), seconds=max(HANGING_SECONDS, HANGING * limits.seconds))
    try:
        app = make_app(
            Queue(work, limits),
            work.offer,
            limits,
            token=token,
            hosts=hosts,
            version=versions().get(DISTRIBUTION, ""),
        )
        for line in (*work.offer.placement, *work.offer.warnings):
            _tell(line)
        if not token and options.host not in LOOPBACK_ADDRESSES:
            _tell("warning: anybody who can reach this address may send requests; --token-file requires a token")
        run(app, listening, seconds=2 * limits.seconds, begun=lambda: _tell(f"listening on {address(listening)}"))
    finally:
        work.close()


def _tell(line: str) -> None:
    from structures.text import printable

    typer.echo(printable(line), err=True)


def _read(file: Path) -> str:
    from structures.files import regular_file

    return regular_file(file).read_text(encoding="utf-8", errors="replace")
