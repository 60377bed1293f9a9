"""The commands and options that the documents show exist, and the command line accepts them."""

import re
import shlex
from collections.abc import Iterator
from copy import copy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from detect.cli import build
from detect.commands.groups import RENAMED
from tests.documents import code_blocks, every_document, prose, read


def shown_commands(text: str) -> Iterator[list[str]]:
    """Yield the words behind `rcnn`, or behind torchrun's `-m detect`, of every such line in code blocks."""
    for block in code_blocks(text):
        for line in block.replace("\\\n", " ").splitlines():
            shown = re.match(r"\s*(?:\$ )?(?:rcnn|torchrun .*-m detect) (.*)", line)
            if shown:
                yield shlex.split(shown[1], comments=True)


def mentioned_commands(text: str) -> Iterator[list[str]]:
    """Yield the words behind `rcnn` of commands, or beginnings of commands, in the text."""
    for code in re.findall(r"`rcnn ([^`]*)`", prose(text)):
        if "..." not in code:
            yield shlex.split(code)


@cache
def command_line() -> Any:
    return typer.main.get_command(build())


def find_command(words: list[str]) -> tuple[Any, list[str]]:
    """Return the command or group that the first words lead to, and the words that are left."""
    command = command_line()
    while hasattr(command, "commands") and words and words[0] in command.commands:
        command, words = command.commands[words[0]], words[1:]
    return command, words


def option_names(command: Any) -> set[str]:
    own = {name for parameter in command.params for name in [*parameter.opts, *parameter.secondary_opts]}
    return {"--help", *own}.union(*(option_names(inner) for inner in getattr(command, "commands", {}).values()))


def unknown_parts(words: list[str]) -> list[str]:
    """Return the commands and options of a line that the command line does not know."""
    command, left = find_command(words)
    known = option_names(command)
    if hasattr(command, "commands") and left and left[0] not in known:
        return [" ".join(words[: len(words) - len(left) + 1])]
    return [word for word in left if word.startswith("--") and word.split("=")[0] not in known]


def complaint(words: list[str]) -> str:
    """Return what the command line has against a whole command, such as a missing argument; nothing is run."""
    command, left = find_command(words)
    harmless = copy(command)
    harmless.callback = lambda **values: None
    try:
        harmless.main(left, prog_name="rcnn", standalone_mode=False)
    except Exception as error:  # of click, or of the copy of click in newer versions of typer
        return error.format_message() if hasattr(error, "format_message") else repr(error)
    return ""


@every_document
def test_shown_commands_are_accepted(path: Path) -> None:
    wrong = {" ".join(words): unknown_parts(words) or complaint(words) for words in shown_commands(read(path))}
    assert {line: parts for line, parts in wrong.items() if parts} == {}


@every_document
def test_mentioned_commands_and_options_exist(path: Path) -> None:
    wrong = [" ".join(words) for words in mentioned_commands(read(path)) if unknown_parts(words)]
    known = option_names(command_line()) | {f"--{name}" for name in RENAMED}
    options = set(re.findall(r"`(--[\w-]+)", prose(read(path))))
    assert (wrong, options - known) == ([], set())


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("detect photos --out x", ""),
        ("detect photos --inn x", "--inn"),
        ("detect photos", "--out"),
        ("detect photos --out x --score 2", "--score"),
        ("detect photos --out x --format png", "png"),
        ("detect photos --out", "--out"),
        ("eval detections a b --ground-truth x", "b"),
        ("defect photos", "defect"),
        ("eval defections", "eval defections"),
    ],
)
def test_the_check_of_commands_can_fail(line: str, wrong: str) -> None:
    found = " ".join(unknown_parts(line.split())) or complaint(line.split())
    assert wrong in found
    assert bool(found) == bool(wrong)
