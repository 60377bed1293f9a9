"""Where tables and messages for people go: a terminal, or a pipe, in which no line is broken."""

from rich.console import Console

PIPE_WIDTH = 10_000  # columns, if the output is not a terminal


def open_console(*, stderr: bool = False, quiet: bool = False) -> Console:
    """Return a console for stdout or stderr.

    Args:
        stderr: progress, warnings and closing tables go here; results go to stdout.
        quiet: show nothing.
    """
    console = Console(stderr=stderr, quiet=quiet)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    return console
