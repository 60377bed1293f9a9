"""`python -m detect` is the same as `rcnn`; but in a folder with another detect.py, Python runs that file."""

import os
import signal
from types import FrameType


def main() -> None:
    """Run the command line. Until that is imported, Ctrl-C ends the process with a line instead of a traceback."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else whoever started it ignores it
        signal.signal(signal.SIGINT, _stop)
    from detect import cli

    cli.main()


def _stop(number: int, frame: FrameType | None) -> None:
    os.write(2, b"rcnn: stopped\n")
    os._exit(128 + number)  # nothing was begun


if __name__ == "__main__":
    main()
