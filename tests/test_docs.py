"""What the documents say exists: files, links and anchors, names; and their Python is valid, or runs."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.documents import DOCUMENT_IDS, DOCUMENTS, LOG, ROOT, code_blocks, every_document, prose, read

RUNS = "<!-- tests run this -->\n"  # before a block of Python that is run here


def test_make_test_runs_all_tests_and_the_doctests_of_every_room() -> None:
    """It names no files, so that pytest takes its `testpaths`."""
    [line] = [line for line in (ROOT / "Makefile").read_text().splitlines() if "-m pytest" in line]
    assert not [word for word in line.split() if (ROOT / word).exists()]
    found = re.search(r"^testpaths = (\[.*\])$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert found is not None
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert set(ast.literal_eval(found[1])) == packages - {"benchmarks"}


# Links and names


def links(text: str) -> list[tuple[str, str]]:
    """Return the place and the anchor of every link that does not lead to the web."""
    found = re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", prose(text))
    return [(place, anchor) for place, anchor in found if "://" not in place and not place.startswith("mailto:")]


def anchors(text: str) -> set[str]:
    """Return the anchors that both GitHub and MkDocs make of the headings."""
    headings = re.findall(r"^#+ (.*)", prose(text), re.MULTILINE)
    plain = [re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in headings]
    return {slug.replace(" ", "-") for slug in plain} & {re.sub(r"[-\s]+", "-", slug) for slug in plain}


@pytest.mark.parametrize("path", [*DOCUMENTS, LOG], ids=[*DOCUMENT_IDS, "LOG"])
def test_links_lead_somewhere(path: Path) -> None:
    targets = [(path.parent / place if place else path, anchor) for place, anchor in links(read(path))]
    assert [str(target) for target, _ in targets if not target.exists()] == []
    assert [(target.name, anchor) for target, anchor in targets if anchor and anchor not in anchors(read(target))] == []


def test_anchors_by_hand() -> None:
    assert anchors("# 1, 10 and `144` crops\n```\n# no heading\n```\n## A -- B") == {"1-10-and-144-crops"}


@every_document
def test_files_of_the_rooms_that_are_named_exist(path: Path) -> None:
    rooms = "structures|proposals|classifier|eval|detect|tests|benchmarks"
    named = re.findall(rf"(?:`|python )((?:{rooms})/[\w./]+\.\w+)", read(path))
    assert [name for name in named if not (ROOT / name).exists()] == []


def is_defined(name: str) -> bool:
    """Return whether a dotted name is one of our modules, or at the top level of one; nothing is imported."""
    place = ROOT / name.replace(".", "/")
    if place.with_suffix(".py").exists() or (place / "__init__.py").exists():
        return True
    module, _, last = name.rpartition(".")
    file = ROOT / (module.replace(".", "/") + ".py")
    file = file if file.exists() else file.with_suffix("") / "__init__.py"
    return file.exists() and last in set(names_at_top(ast.parse(read(file))))


def names_at_top(module: ast.Module) -> Iterator[str]:
    """Yield what a module defines or imports, for type checkers too, since it may load some only when asked."""
    for node in (each for top in module.body for each in (top.body if isinstance(top, ast.If) else [top])):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            yield from (part.id for part in ast.walk(node) if isinstance(part, ast.Name))
        elif isinstance(node, ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in node.names)


@every_document
def test_python_names_that_are_documented_exist(path: Path) -> None:
    named = re.findall(r"^::: ([\w.]+)$", read(path), re.MULTILINE)  # the pages of the API
    if path.name == "moves.md":
        named = re.findall(r"\| `([\w.]+)` \|$", read(path), re.MULTILINE)
    for block in code_blocks(read(path), "python"):
        imports = [node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.ImportFrom)]
        named += [f"{node.module}.{alias.name}" for node in imports for alias in node.names]
    ours = [name for name in named if (ROOT / name.split(".")[0] / "__init__.py").exists()]
    assert [name for name in ours if not is_defined(name)] == []


def test_the_check_of_names_can_fail() -> None:
    assert is_defined("detect.detector.Detector")
    assert is_defined("proposals.multibox.MultiBox")
    assert not is_defined("detect.detector.Defector")
    assert not is_defined("detect.defector.Detector")


# Python


@pytest.fixture
def things_to_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working folder has what the blocks of Python that are run read: a photo, and a COCO file."""
    monkeypatch.chdir(tmp_path)
    coarse = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)  # few superpixels, unlike noise
    Image.fromarray(coarse).resize((80, 60), Image.Resampling.NEAREST).save("photo.jpg", quality=95)
    Path("coco128").mkdir()
    images = [{"id": number, "file_name": f"{number}.jpg", "width": 80, "height": 60} for number in range(8)]
    boxes = [{"id": number, "image_id": number, "category_id": 1, "bbox": [1, 2, 3, 4]} for number in range(8)]
    content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "elephant"}]}
    Path("coco128/instances.json").write_text(json.dumps(content))


@every_document
def test_python_is_valid_and_runs_where_marked(path: Path, things_to_show: None) -> None:
    for block in code_blocks(read(path), "python"):
        code = compile(block, path.name, "exec")
        if RUNS + "```python\n" + block in read(path):
            exec(code, {})


def test_some_python_is_run() -> None:
    assert sum(read(path).count(RUNS + "```python\n") for path in DOCUMENTS) >= 2


# The whole


@every_document
def test_lines_end_by_120_columns(path: Path) -> None:
    lines = [line for line in read(path).splitlines() if not line.startswith("|")]  # a row of a table is one line
    assert [line for line in lines if len(line) > 120] == []


@every_document
def test_targets_of_make_exist(path: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", read(ROOT / "Makefile"), re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([a-z-]+)", read(path), re.MULTILINE)) <= targets


def test_the_site_has_every_page_and_fetches_nothing() -> None:
    site = read(ROOT / "mkdocs.yml")
    pages = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").glob("**/*.md")}
    outside = {"index.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "benchmarks/LOG.md"}  # docs/site/pages.py
    assert set(re.findall(r"[\w/]+\.md", site)) == pages | outside
    assert "://" not in site
    assert "font: false" in site  # else fonts come from Google


def test_the_citation_has_the_version_of_the_package() -> None:
    version = re.search(r'^version = "(.*)"', read(ROOT / "pyproject.toml"), re.MULTILINE)
    assert version
    assert f"\nversion: {version[1]}\n" in read(ROOT / "CITATION.cff")


def test_ci_runs_the_test_command_of_the_readme() -> None:
    assert "`make test`" in read(ROOT / "README.md")
    assert re.search(r"^make test\b", read(ROOT / ".ci" / "run"), re.MULTILINE)
