"""The page of a server in a real browser: a photo gives boxes, which the score, keys and fingers can change.

Needs Chromium and Playwright, as tests/test_report_browser.py; skipped with the reason where one is missing.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.browser import PATIENCE, launched
from tests.serving import CLASSES, photo_bytes, serving

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
DROP = """([name, values]) => {
    const carried = new DataTransfer();
    carried.items.add(new File([new Uint8Array(values)], name, {type: "image/jpeg"}));
    document.dispatchEvent(new DragEvent("drop", {dataTransfer: carried, bubbles: true, cancelable: true}));
}"""
PICTURES = os.environ.get("RCNN_SCREENSHOTS")  # a folder, to look at the page with one's own eyes


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as opened:
        yield opened


@contextmanager
def open_page(browser: Any, place: str, width: int = 1400) -> Iterator[tuple[Any, list[str]]]:
    page, said = browser.new_page(viewport={"width": width, "height": 900}), list[str]()
    page.set_default_timeout(PATIENCE)
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: said.append(request.url) if _is_foreign(request.url, place) else None)
    page.goto(place)
    page.locator("#limits").filter(has_text="classes").wait_for()
    yield page, said
    page.close()


def _is_foreign(url: str, place: str) -> bool:
    return not url.startswith((place, "data:", "blob:"))


def drop(page: Any, name: str = "drop.jpg", width: int = 600, height: int = 400) -> None:
    page.evaluate(DROP, [name, list(photo_bytes(width, height))])
    page.locator("#found:not([hidden])").wait_for()


def keep_picture(page: Any, name: str) -> None:
    if PICTURES:
        page.screenshot(path=Path(PICTURES) / f"{name}.png", full_page=True)


@pytest.fixture(scope="module")
def place() -> Iterator[str]:
    with serving() as found:
        yield found


def test_a_dropped_photo_gets_boxes_that_score_class_and_keys_change(browser: Any, place: str) -> None:
    with open_page(browser, place) as (page, said):
        drop(page)
        assert page.locator("#boxes g").count() == 2  # at 0.9 and 0.6; 0.3 is below what is drawn
        assert page.locator("#count").inner_text() == "2 of 3 objects"
        page.locator("#score").focus()
        page.keyboard.press("Home")
        assert page.locator("#boxes g").count() == 3
        page.locator("#class").select_option("dog")
        assert page.locator("#list bdi").all_text_contents() == ["dog"]
        page.locator("#class").select_option("")
        page.locator("#list button").nth(1).focus()
        assert page.locator("#boxes g.chosen title").text_content() == "dog 0.60"
        assert page.locator("#boxes g.pale").count() == 2
        assert page.locator("#photo").evaluate("(image) => image.naturalWidth") == 600
        keep_picture(page, "serve-1400")
        assert said == []


def test_names_run_no_script_and_their_signs_are_written_out(browser: Any, place: str) -> None:
    with open_page(browser, place) as (page, said):
        drop(page, name="<img src=x onerror=alert(1)>\u202e.jpg")
        page.locator("#score").fill("0.05")
        assert page.locator("#list bdi").nth(2).text_content() == CLASSES[2].replace("\u202e", "\\u202e")
        assert page.locator("#status").inner_text().startswith("<img src=x onerror=alert(1)>\\u202e.jpg")
        assert page.evaluate("window.hacked") is None
        assert said == []


def test_it_fits_on_a_phone(browser: Any, place: str) -> None:
    with open_page(browser, place, width=390) as (page, said):
        page.locator("#file").set_input_files(
            {"name": "phone.jpg", "mimeType": "image/jpeg", "buffer": photo_bytes(400, 600)}
        )
        page.locator("#found:not([hidden])").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.locator("#boxes g").count() == 2
        keep_picture(page, "serve-390")
        assert said == []


def test_what_is_not_a_photo_is_named(browser: Any, place: str) -> None:
    with open_page(browser, place) as (page, _):
        page.evaluate(DROP, ["a.jpg", [1, 2, 3]])
        page.locator("#status.wrong").wait_for()
        assert page.locator("#status").inner_text() == "not a picture"
        assert page.locator("#found").is_hidden()


def test_the_page_asks_for_the_token(browser: Any) -> None:
    with serving(token="secret") as place:
        page = browser.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(place)
        page.locator("#token").fill("secret")
        page.keyboard.press("Enter")
        page.locator("#limits").filter(has_text="classes").wait_for()
        drop(page)
        assert page.locator("#boxes g").count() == 2
        page.close()
