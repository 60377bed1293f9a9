"""What the documents say exists: commands and options, files, links."""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from detect.cli import build

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("**/*.md")])
DOCUMENT_IDS = [str(path.relative_to(ROOT)) for path in DOCUMENTS]


def test_make_test_runs_all_tests_and_the_doctests_of_every_room() -> None:
    """It names no files, so that pytest takes its `testpaths`."""
    [line] = [line for line in (ROOT / "Makefile").read_text().splitlines() if "-m pytest" in line]
    assert not [word for word in line.split() if (ROOT / word).exists()]
    found = re.search(r"^testpaths = (\[.*\])$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert found is not None
    rooms = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert set(ast.literal_eval(found[1])) == {"tests", *rooms}


def code_blocks(text: str) -> Iterator[str]:
    yield from re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def shown_commands(text: str) -> Iterator[list[str]]:
    """Yield the words of every `rcnn ...` line in code blocks, comments and line ends in backslash taken care of."""
    for block in code_blocks(text):
        for line in block.replace("\\\n", " ").splitlines():
            if line.strip().removeprefix("$ ").startswith("rcnn "):
                yield shlex.split(line.strip().removeprefix("$ "), comments=True)[1:]


def unknown_parts(words: list[str]) -> list[str]:
    """Return the commands and options of a shown line that the command line does not know."""
    command: Any = typer.main.get_command(build())
    for depth, word in enumerate(words):
        if not hasattr(command, "commands"):
            break
        if word not in command.commands:
            return [] if word == "--help" else [" ".join(words[: depth + 1])]
        command = command.commands[word]
    known = {name for parameter in command.params for name in [*parameter.opts, *parameter.secondary_opts]}
    return [word for word in words if word.startswith("--") and word.split("=")[0] not in {*known, "--help"}]


@pytest.mark.parametrize("path", DOCUMENTS, ids=DOCUMENT_IDS)
def test_commands_and_options_exist(path: Path) -> None:
    wrong = {" ".join(words): unknown_parts(words) for words in shown_commands(path.read_text(encoding="utf-8"))}
    assert {line: parts for line, parts in wrong.items() if parts} == {}


def test_the_check_of_commands_can_fail() -> None:
    assert unknown_parts(["detect", "photos", "--out", "x"]) == []
    assert unknown_parts(["detect", "photos", "--inn", "x"]) == ["--inn"]
    assert unknown_parts(["defect", "photos"]) == ["defect"]
    assert unknown_parts(["eval", "defections"]) == ["eval defections"]


@pytest.mark.parametrize("path", DOCUMENTS, ids=DOCUMENT_IDS)
def test_links_lead_somewhere(path: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))
    local = [target for target in targets if "://" not in target and not target.startswith("mailto:")]
    assert [target for target in local if not (path.parent / target).exists()] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=DOCUMENT_IDS)
def test_files_of_the_rooms_that_are_named_exist(path: Path) -> None:
    named = re.findall(
        r"`((?:structures|proposals|classifier|eval|detect|tests|benchmarks)/[\w./]+\.\w+)`", path.read_text()
    )
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=DOCUMENT_IDS)
def test_targets_of_make_exist(path: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"`make ([\w-]+)`", path.read_text(encoding="utf-8"))) <= targets


def test_ci_runs_the_test_command_of_the_readme() -> None:
    assert "`make test`" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.search(r"^make test\b", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), re.MULTILINE)
