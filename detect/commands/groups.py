"""How all commands and groups are built: help without arguments, examples at the end, old names of options."""

import inspect
from collections.abc import Callable
from typing import TypeVar

import typer

Command = TypeVar("Command", bound=Callable[..., None])

RENAMED = {  # names of options in earlier versions: they still work, but --help does not show them
    "rate": "learning-rate",
    "decay": "weight-decay",
    "smoothing": "label-smoothing",
    "iterations": "steps",
    "generator": "proposals",
    "limit": "photos",
    "val-coco": "val-ground-truth",
}
SETTINGS = {  # commands inherit these from their group
    "help_option_names": ["-h", "--help"],
    "token_normalize_func": lambda name: RENAMED.get(name, name),
}


def group(summary: str, *, completion: bool = False, callback: Callable[..., None] | None = None) -> typer.Typer:
    """Return an empty group of commands.

    Args:
        summary: the first line of its help.
        completion: whether it has the options that install shell completion.
        callback: takes the options of the group.
    """
    made = typer.Typer(
        no_args_is_help=True,
        add_completion=completion,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings=SETTINGS,
    )
    made.callback(help=summary)(callback or _nothing)  # else typer turns a group of one command into that command
    return made


def _nothing() -> None: ...


def examples(*lines: str) -> Callable[[Command], Command]:
    r"""Make `add` put these lines at the end of a command's help; a test checks that each can be parsed.

    >>> @examples("rcnn paint red")
    ... def paint(colour: str) -> None: ...
    >>> epilog_of(paint)
    'Examples:\n\nrcnn paint red'
    """

    def note(command: Command) -> Command:
        command.examples = lines  # type: ignore[attr-defined]
        return command

    return note


def explained(*paragraphs: str) -> Callable[[Command], Command]:
    """Make `add` put these paragraphs between the description and the options in a command's help."""

    def note(command: Command) -> Command:
        command.paragraphs = paragraphs  # type: ignore[attr-defined]
        return command

    return note


def help_of(command: Callable[..., None]) -> str:
    """Return the part of a command's help above the options."""
    return "\n\n".join([inspect.getdoc(command) or "", *getattr(command, "paragraphs", ())])


def epilog_of(command: Callable[..., None]) -> str:
    """Return the end of a command's help."""
    return "\n\n".join(["Examples:", *(line.replace("[", r"\[") for line in command.examples)])  # type: ignore[attr-defined]


def add(to: typer.Typer, command: Callable[..., None], *, name: str | None = None, panel: str | None = None) -> None:
    """Add a command with its examples to a group.

    Args:
        to: the group.
        command: the function that runs it.
        name: by default that of the function.
        panel: title of the panel of commands that --help shows it in.
    """
    to.command(name, help=help_of(command), epilog=epilog_of(command), rich_help_panel=panel)(command)
