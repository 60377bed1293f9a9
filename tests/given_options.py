"""Which options the tests gave to which commands of the command line, over all processes of a run of the tests.

Counted are commands that were called in the process of a test with words that they could parse.
"""

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.core

from detect.cli import build

STRICT = "RCNN_EVERY_OPTION"  # variable: a run of all tests fails where it missed an option
FOLDER = "RCNN_GIVEN_OPTIONS"  # variable with the folder that all processes of a run note them in


def begin(config: pytest.Config) -> None:
    """Begin to note options; the first process of a run makes the folder, and its workers inherit the variable."""
    if is_worker(config):
        note_in(Path(os.environ[FOLDER]))
    else:
        os.environ[FOLDER] = tempfile.mkdtemp(prefix="rcnn-options-")
        note_in(Path(os.environ[FOLDER]))


def is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def note_in(folder: Path) -> None:
    """Have every command that is called append its name and its options to a file of this process."""
    call = typer.core.TyperCommand.invoke

    def noted(self: Any, context: Any) -> Any:
        with (folder / str(os.getpid())).open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in given(context))
        return call(self, context)

    typer.core.TyperCommand.invoke = noted  # type: ignore[method-assign]


def given(context: Any) -> Iterator[str]:
    """Yield the command of a context with each option that its words name, such as `eval detections --csv`.

    A command is known by its function, since tests also call it as a command of a group alone: `detections --csv`.
    """
    path = names().get(function_of(context.command))
    for each in context.command.params if path else []:
        source = context.get_parameter_source(each.name)
        if source is not None and source.name == "COMMANDLINE":
            yield f"{path} {each.opts[0]}"


@cache
def names() -> dict[Any, str]:
    """Return the words that lead to each command, by its function."""
    return {function_of(command): words for words, command in leaves(typer.main.get_command(build()))}


def function_of(command: Any) -> Any:
    return getattr(command.callback, "__wrapped__", None)  # typer wraps it again for every group that it is in


def leaves(group: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every command that does something, with the words that lead to it."""
    for name, command in group.commands.items():
        words = f"{path} {name}".strip()
        if hasattr(command, "commands"):
            yield from leaves(command, words)
        else:
            yield words, command


def options(group: Any) -> Iterator[str]:
    """Yield every option of every command, and its arguments, as `given` does."""
    for words, command in leaves(group):
        yield from (f"{words} {each.opts[0]}" for each in command.params)


def missing(known: Iterable[str], noted: Iterable[str]) -> list[str]:
    """Return the options that were not given."""
    return sorted(set(known) - set(noted))


def never_given(session: pytest.Session) -> list[str]:
    """Return the options that no test of a whole run gave; none after a run of some tests, or in a worker."""
    if is_worker(session.config):
        return []
    folder = Path(os.environ.pop(FOLDER))
    noted = [line for file in folder.iterdir() for line in file.read_text(encoding="utf-8").splitlines()]
    shutil.rmtree(folder)
    return missing(options(typer.main.get_command(build())), noted) if is_whole(session) else []


def is_whole(session: pytest.Session) -> bool:
    """Say whether all tests were run, and to their end."""
    config = session.config
    everything = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    chosen = config.option.keyword or config.option.markexpr or config.option.collectonly or config.option.maxfail
    return everything and not chosen and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
