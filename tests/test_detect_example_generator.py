"""The example package in docs/example_generator: found by its entry point, from Python and from the command line."""

import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from proposals.generators import ENTRY_POINTS, build, makers
from proposals.protocol import ProposalGenerator
from proposals.stored.reader import ProposalStore
from structures.boxes import as_boxes, iou
from tests.boxes import keeps_protocol

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

EXAMPLE = Path(__file__).resolve().parent.parent / "docs" / "example_generator"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Lay the package out as pip would, without pip: that would need setuptools, which not every environment has."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    site = tmp_path / "site"
    info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n", encoding="utf-8"
    )
    lines = [f"{name} = {value}" for name, value in project["entry-points"][ENTRY_POINTS].items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{ENTRY_POINTS}]", *lines, ""]), encoding="utf-8")
    for module in EXAMPLE.glob("*.py"):
        (site / module.name).write_bytes(module.read_bytes())
    monkeypatch.syspath_prepend(str(site))
    yield
    sys.modules.pop("mser_proposals", None)


@pytest.fixture
def photo():
    from skimage import data

    return data.coffee()


@pytest.mark.usefixtures("installed")
def test_it_is_found_by_name_and_keeps_the_protocol(photo):
    assert "mser" in makers()
    generator = build("mser")
    assert isinstance(generator, ProposalGenerator)
    found = generator(photo)
    keeps_protocol(found, (400, 600))
    assert len(found) > 20
    assert iou(found.boxes, as_boxes([[175, 20, 425, 205]])).max() > 0.8  # the cup, marked by hand
    np.testing.assert_array_equal(found.boxes, build("mser")(photo).boxes)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1), (2, 2), (600, 20)])
def test_it_survives_odd_shapes(shape):
    noisy = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    for image in (noisy, np.zeros_like(noisy)):
        keeps_protocol(build("mser")(image), shape)


@pytest.mark.usefixtures("installed")
def test_its_options_reach_it_and_its_parameters():
    assert build("mser", delta=7).parameters["delta"] == 7
    with pytest.raises(ValueError, match="colour"):
        build("mser", colour=3)


@pytest.mark.usefixtures("installed")
def test_the_command_line_knows_it(photo, tmp_path, rcnn):
    (tmp_path / "photos").mkdir()
    PIL.Image.fromarray(photo).save(tmp_path / "photos" / "coffee.png")
    out = tmp_path / "boxes"
    assert rcnn("propose", tmp_path / "photos", "--proposals", "mser+grid", "--out", out) == 0
    store = ProposalStore(out)
    assert store.manifest["generator"] == "mser+grid"
    assert store.proposals_of("coffee.png").source_names == ("mser", "grid")


def test_without_the_package_the_name_is_unknown():
    with pytest.raises(ValueError, match="unknown proposal generator 'mser'"):
        build("mser")
