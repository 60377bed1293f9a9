"""How all commands and groups are built: help, examples at the end, old names of options, empty values."""

import inspect
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand

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


class StrictCommand(TyperCommand):
    """A command that refuses empty values, and warns if an option that takes one value is given several times.

    An empty value usually comes from a shell variable that is not set, and as a path would mean the working folder. Of
    several values the last one counts, so that those of an alias can be overridden.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words after the name of the command, as typer does.

        Raises:
            typer.BadParameter: a value is empty.
        """
        if not ctx.resilient_parsing:  # of shell completion
            values, _, order = self.make_parser(ctx).parse_args(args=list(args))
            for option, count in Counter[Any](order).items():
                _refuse_empty(option, values.get(option.name or ""), ctx)
                if count > 1 and not (option.multiple or option.is_flag):
                    typer.echo(f"warning: {option.opts[0]} is given {count} times, and the last one counts", err=True)
        return super().parse_args(ctx, args)


def _refuse_empty(option: Any, value: object, ctx: Any) -> None:
    if "" in (value if isinstance(value, list | tuple) else [value]):
        raise typer.BadParameter("it is empty", ctx=ctx, param=option)


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
    epilog, text = epilog_of(command), help_of(command)
    to.command(name, cls=StrictCommand, help=text, epilog=epilog, rich_help_panel=panel)(command)
