"""What several test files need: where the photos for measuring lie, the command line, an engine that starts at once.

After a run of all tests, the options of the command line are named that none of them gave to its command; with
RCNN_EVERY_OPTION=1 there must be none.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest

from detect.cli import main
from tests import given_options

# The files that take longest, the longest first; without this, one might begin last and keep one worker alone.
LONGEST_FIRST = (
    *("scaling_ray", "detect_torchrun", "detect_training", "detect_stopping", "detect_multibox"),
    *("classifier_image_training", "detect_training_region_phases", "serving_on_ray", "detect_training_shared"),
)
pytest.register_assert_rewrite("tests.boxes")  # so that its assertions, too, say what was found

hypothesis.settings.register_profile("untimed", deadline=None)  # next to other programs any test may be slow
hypothesis.settings.load_profile("untimed")

ROOT = Path(__file__).resolve().parent.parent
os.environ.setdefault("RCNN_CACHE", str(ROOT / ".pytest_cache" / "rcnn"))  # the user's own stays as it is


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Return the folder with voc2007/, coco128/ and so on; skip the test where nobody named one and there is none."""
    named = os.environ.get("RCNN_DATA")
    folder = Path(named or ROOT.parent / "shared" / "data")
    if named and not folder.is_dir():
        pytest.fail(f"RCNN_DATA is {named}, which is no folder", pytrace=False)
    if not folder.is_dir():
        pytest.skip(f"no photos at {folder}: set RCNN_DATA to the folder that holds voc2007/")
    return folder


@pytest.fixture
def rcnn(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run the command line in this process, given its words; return its exit code."""

    def run(*words: object) -> int:
        monkeypatch.setattr(sys, "argv", ["rcnn", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        return int(stop.value.code or 0)

    return run


@pytest.fixture
def torch_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torch, which needs no conversion, be the engine wherever none is named: as if OpenVINO were missing."""
    monkeypatch.setitem(sys.modules, "openvino", None)


def pytest_configure(config: pytest.Config) -> None:
    given_options.begin(config)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {f"test_{name}.py": place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))  # stable: the others keep their order


def pytest_sessionfinish(session: pytest.Session) -> None:
    missing = given_options.never_given(session)
    if missing:
        print(f"\noptions that no test gives to their command: {', '.join(missing)}", file=sys.stderr)
    if missing and os.environ.get(given_options.STRICT):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
