"""The page about an evaluation in a real browser: no error, and filters, keys and themes work.

Needs Chromium (Debian's package `chromium`) and Playwright; skipped with the reason where one is missing. It takes
seconds, since nothing else can show that the page works.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.browser import PATIENCE, launched, wait_until
from tests.report_files import HOSTILE_CLASS, PLAIN_PHOTO, hostile_run

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as opened:
        yield opened


@pytest.fixture(scope="module")
def opened(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, list[str]]]:
    """The page about one run, with what its console and its errors say."""
    folder = tmp_path_factory.mktemp("one")
    hostile_run(folder)
    with open_page(browser, folder / "report.html") as (page, said):
        yield page, said


@contextmanager
def open_page(browser: Any, file: Path, width: int = 1400) -> Iterator[tuple[Any, list[str]]]:
    page, said = browser.new_page(viewport={"width": width, "height": 900}, color_scheme="light"), list[str]()
    page.set_default_timeout(PATIENCE)
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: said.append(request.url) if _is_foreign(request.url) else None)
    page.goto(file.as_uri())
    yield page, said
    page.close()


def _is_foreign(url: str) -> bool:
    return not url.startswith(("file:", "data:", "blob:"))


@pytest.fixture
def page(opened: tuple[Any, list[str]]) -> Any:
    page, _ = opened
    page.reload()
    return page


def shown(page: Any) -> list[str]:
    return page.locator("#gallery li:not([hidden]) .caption bdi").all_text_contents()


def show(page: Any, section: str) -> None:
    page.locator(f"#{section}").scroll_into_view_if_needed()


def test_it_opens_without_an_error_and_loads_nothing(opened: tuple[Any, list[str]]) -> None:
    page, said = opened
    for section in ("curves", "mistakes", "confusion", "photos"):
        show(page, section)
    for plot in ("plot-curves", "plot-score", "plot-iou", "plot-kinds", "plot-confusion-0"):
        page.locator(f"#{plot}").scroll_into_view_if_needed()
        page.locator(f"#{plot} .main-svg").first.wait_for()
    show(page, "photos")
    page.locator("#gallery img").first.wait_for()
    assert page.evaluate("[...document.querySelectorAll('#gallery img')].every((each) => each.decode)")
    assert said == []


def test_names_run_no_script_and_are_shown_with_their_signs_written_out(page: Any) -> None:
    assert page.evaluate("window.hacked") is None
    first, second = sorted(shown(page))
    assert first == r"</script><img src=x onerror='window.hacked=1'>\u202e.png"
    assert second == PLAIN_PHOTO
    assert page.locator("#class option").nth(1).inner_text() == '<marquee onstart=hack()>"\\u202ecat\\u001b[2J'


def test_a_script_that_is_not_of_the_page_does_not_run(browser: Any, tmp_path: Path) -> None:
    hostile_run(tmp_path)
    file = tmp_path / "report.html"
    text = file.read_text(encoding="utf-8").replace("</body>", "<script>window.hacked = 1</script></body>")
    file.write_text(text, encoding="utf-8")
    with open_page(browser, file) as (page, said):
        assert page.evaluate("window.hacked") is None
        assert any("Content Security Policy" in line for line in said)


def test_the_worst_photo_comes_first_and_filters_change_what_is_shown(page: Any) -> None:
    show(page, "photos")
    assert shown(page)[1] == PLAIN_PHOTO
    boxes = page.locator("#gallery rect.box")
    page.locator("#gallery rect.background").wait_for(state="attached")
    before = boxes.count()
    page.locator("input[value=background]").uncheck()
    page.locator("#gallery rect.background").wait_for(state="detached")
    assert boxes.count() == before - 1
    page.locator("#class").select_option(HOSTILE_CLASS)
    wait_until(page, "document.querySelectorAll('#gallery li:not([hidden])').length === 1")
    assert "1 of 2 photos" in page.locator("#status").inner_text()


def test_the_score_decides_what_is_found_and_what_is_missed(page: Any) -> None:
    show(page, "photos")
    missed = page.locator("output[data-count=missed]")
    page.locator("#score").fill("0.5")
    wait_until(page, "document.querySelector('output[data-count=missed]').value === '1'")
    page.locator("#score").fill("0.85")
    wait_until(page, "document.querySelector('output[data-count=missed]').value === '2'")
    assert missed.inner_text() == "2"  # the dog at 0.8 is missed as well now
    assert page.locator("output[data-count=true]").inner_text() == "1"


def test_keys_sort_tables_and_walk_through_the_photos(page: Any) -> None:
    page.locator("#classes th button").nth(1).focus()
    page.keyboard.press("Enter")
    assert page.locator("#classes th").nth(1).get_attribute("aria-sort") == "descending"
    values = [float(text) for text in page.locator("#classes tbody td:nth-child(2)").all_text_contents()]
    assert values == sorted(values, reverse=True)
    page.locator("#gallery li button").first.focus()
    page.keyboard.press("Enter")
    page.locator("dialog[open]").wait_for()
    assert page.locator("#large-title").inner_text().startswith("</script>")
    page.keyboard.press("ArrowRight")
    assert page.locator("#large-title").inner_text().startswith(PLAIN_PHOTO)
    assert page.locator("#large-boxes tr").first.inner_text().split() == ["true", "dog", "0.800", "1.00"]
    page.keyboard.press("Escape")
    page.locator("dialog[open]").wait_for(state="detached")
    shown = "name => document.activeElement.querySelector('.caption bdi')?.textContent === name"
    page.wait_for_function(shown, arg=PLAIN_PHOTO)  # the browser says only later that the window is closed


def test_a_class_can_be_picked_out_of_the_curves(page: Any) -> None:
    show(page, "curves")
    page.locator("#plot-curves .main-svg").first.wait_for()
    page.locator("#curve-class").select_option("dog")
    wait_until(page, "document.getElementById('plot-curves').data.some((trace) => trace.opacity < 1)")
    faint = page.evaluate(
        "document.getElementById('plot-curves').data.filter((trace) => trace.opacity < 1).map((t) => t.meta)"
    )
    assert faint == [HOSTILE_CLASS]


def test_light_and_dark(page: Any) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.locator("#theme").click()
    dark = page.evaluate(background)
    assert light != dark
    page.locator("#theme").click()
    assert page.evaluate(background) == light


def test_two_runs_fit_on_a_phone(browser: Any, tmp_path: Path) -> None:
    hostile_run(tmp_path, against=True)
    with open_page(browser, tmp_path / "report.html", width=390) as (page, said):
        show(page, "photos")
        page.locator("#gallery img").first.wait_for()
        assert page.locator("#gallery li").first.locator("img").count() == 2
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert "A: 1 false, 1 missed · B: 0 false, 2 missed" in page.locator("#gallery").inner_text()
        assert said == []
