"""Commands and groups of them, all built alike: help without arguments, examples at the end, old names of options."""

import inspect
from collections.abc import Callable
from typing import TypeVar

import typer

Command = TypeVar("Command", bound=Callable[..., None])

RENAMED = {  # options of earlier versions keep working, but --help does not show them
    "rate": "learning-rate",
    "decay": "weight-decay",
    "smoothing": "label-smoothing",
    "iterations": "steps",
    "generator": "proposals",
    "limit": "photos",
    "val-coco": "val-ground-truth",
}
SETTINGS = {  # child commands inherit both from the root
    "help_option_names": ["-h", "--help"],
    "token_normalize_func": lambda name: RENAMED.get(name, name),
}


def group(summary: str, *, completion: bool = False, callback: Callable[..., None] | None = None) -> typer.Typer:
    """Return an empty group of commands.

    Args:
        summary: the first line of its help.
        completion: whether it has the options that install completion in a shell.
        callback: takes the options of the group itself.
    """
    made = typer.Typer(
        no_args_is_help=True,
        add_completion=completion,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings=SETTINGS,
    )
    made.callback(help=summary)(callback or _nothing)  # without one, typer turns a group of one command into it
    return made


def _nothing() -> None: ...


def examples(*lines: str) -> Callable[[Command], Command]:
    r"""Have `add` put these lines at the end of a command's help; a test sees to it that each can be parsed.

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
    """Have `add` put these paragraphs below the description in a command's help, above its options."""

    def note(command: Command) -> Command:
        command.paragraphs = paragraphs  # type: ignore[attr-defined]
        return command

    return note


def help_of(command: Callable[..., None]) -> str:
    """Return what is above the options in a command's help."""
    return "\n\n".join([inspect.getdoc(command) or "", *getattr(command, "paragraphs", ())])


def epilog_of(command: Callable[..., None]) -> str:
    """Return the end of a command's help."""
    return "\n\n".join(["Examples:", *(line.replace("[", r"\[") for line in command.examples)])  # type: ignore[attr-defined]


def add(to: typer.Typer, command: Callable[..., None], *, name: str | None = None, panel: str | None = None) -> None:
    """Add a command with its examples to a group.

    Args:
        to: the group.
        command: its name is that of the function, if no other is given.
        name: another one.
        panel: title over a few commands of the group.
    """
    to.command(name, help=help_of(command), epilog=epilog_of(command), rich_help_panel=panel)(command)
