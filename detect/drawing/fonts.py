"""Fonts for class names: finds a font on this machine that has all letters of a text."""

import os
import subprocess
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import PIL.features
import PIL.ImageFont

Font = PIL.ImageFont.FreeTypeFont | PIL.ImageFont.ImageFont

FOLDERS = (
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "~/.fonts",
    "~/.local/share/fonts",
    "/System/Library/Fonts",
    "/Library/Fonts",
    "~/Library/Fonts",
    "C:/Windows/Fonts",
)
SUFFIXES = (".ttf", ".otf", ".ttc")
OTHER_STYLES = "Bold Italic Oblique Mono Serif Condensed Light Thin Black Display Math".split()  # tried later
PLACEHOLDERS = ("lastresort", "notdef", "fallback", "blank")  # in names of fonts that draw a box for every letter
NO_LETTER = "\U0010ffff"  # no font has it, so it is drawn as the box for missing letters
PROBE = 24  # pixels, large enough to distinguish letters from that box
SHAPED = frozenset(  # scripts whose letters depend on their neighbours, or that run from right to left
    "Arabic Bengali Devanagari Gujarati Gurmukhi Hebrew Kannada Khmer Lao Malayalam Myanmar Oriya Sinhala Syriac Tamil "
    "Telugu Thai Tibetan".split()
)
EMOJI = "emoji"
PACKAGES = {name: "fonts-noto-cjk" for name in ("Chinese", "Hangul", "Hiragana", "Katakana", "Bopomofo")}
PACKAGES[EMOJI] = "fonts-symbola"  # fonts of coloured emoji have pictures of one size only
OTHER_PACKAGE = "fonts-noto-core"


def font_for(text: str, size: int) -> Font | None:
    """Return a font of this size, in pixels, that has every letter of a text; None if this machine has none."""
    letters = frozenset(each for each in text if not each.isspace() and not _is_unseen(each))
    if letters <= _drawn_by_default():
        return _open(None, size)
    path = _file_for(letters)
    return None if path is None else _open(path, size)


@cache
def _open(path: str | None, size: int) -> Font:
    return PIL.ImageFont.load_default(size) if path is None else PIL.ImageFont.truetype(path, size)


def legible(name: str) -> bool:
    """Return whether a class name can be drawn."""
    return font_for(name, PROBE) is not None


def missing_fonts(names: Iterable[str]) -> str:
    """Return a warning if names cannot be drawn properly, with what to install; "" if all can."""
    names = list(names)
    illegible = [name for name in names if not legible(name)]
    if illegible:
        scripts = dict.fromkeys(_script(letter) for name in illegible for letter in name if not _usual(letter))
        packages = dict.fromkeys(PACKAGES.get(script, OTHER_PACKAGE) for script in scripts)
        return (
            f"warning: no font here has the {' and '.join(scripts)} letters of {illegible[0]!r}; "
            f"such classes are drawn as numbers. Install a font, such as the package {' and '.join(packages)}"
        )
    shaped = next((name for name in names if any(_script(letter) in SHAPED for letter in name)), None)
    if shaped is None or PIL.features.check("raqm"):
        return ""
    return (
        f"warning: {shaped!r} is drawn letter by letter, as Pillow does not find libraqm; install the package libraqm0"
    )


def _usual(letter: str) -> bool:
    return letter.isspace() or _is_unseen(letter) or letter in _drawn_by_default()


def _is_unseen(letter: str) -> bool:
    """Return whether a letter, such as a joiner, only affects its neighbours, so that fonts need not have it."""
    return unicodedata.category(letter) == "Cf" or "VARIATION SELECTOR" in unicodedata.name(letter, "")


def _script(letter: str) -> str:
    """Return the script of a letter, by its name in Unicode.

    >>> _script("猫"), _script("ж"), _script("🐕")
    ('Chinese', 'Cyrillic', 'emoji')
    """
    if unicodedata.category(letter) == "So":
        return EMOJI
    word = unicodedata.name(letter, "UNKNOWN").split()[0]
    return "Chinese" if word == "CJK" else word.capitalize()


@cache
def _drawn_by_default() -> frozenset[str]:
    """Return the ASCII letters that Pillow's own font has; it draws boxes for others, such as accents."""
    font = PIL.ImageFont.load_default(PROBE)
    return frozenset(letter for letter in map(chr, range(33, 127)) if _has(font, letter))


def _has(font: Font, letter: str) -> bool:
    mask, box = font.getmask(letter), font.getmask(NO_LETTER)
    return (mask.size, bytes(mask)) != (box.size, bytes(box))


@cache
def _file_for(letters: Collection[str]) -> str | None:
    return next((path for path in _files(letters) if _covers(path, letters)), None)


def _covers(path: str, letters: Collection[str]) -> bool:
    try:
        font = PIL.ImageFont.truetype(path, PROBE)
        return all(_has(font, letter) for letter in letters)
    except (OSError, ValueError):  # damaged, or with pictures of one size only
        return False


def _files(letters: Collection[str]) -> Iterator[str]:
    """Yield font files: those that fontconfig lists for these letters, then all in the usual folders."""
    yield from _plain_first(_asked(letters))
    yield from _plain_first(_found())


def _plain_first(paths: Iterable[str]) -> list[str]:
    """Put upright fonts without serifs first, and leave out those that draw a box for every letter."""

    def rank(path: str) -> tuple[int, str]:
        name = Path(path).stem
        return ("Sans" not in name) + 2 * sum(word in name for word in OTHER_STYLES), name

    usable = [path for path in paths if not any(word in path.lower() for word in PLACEHOLDERS)]
    return sorted(usable, key=rank)


def _asked(letters: Collection[str]) -> list[str]:
    codes = " ".join(f"{ord(letter):x}" for letter in sorted(letters))
    try:
        asked = subprocess.run(
            ["fc-list", f":charset={codes}", "--format", "%{file}\n"], capture_output=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):  # no fontconfig
        return []
    return [path for path in map(os.fsdecode, asked.stdout.splitlines()) if path.lower().endswith(SUFFIXES)]


@cache
def _found() -> tuple[str, ...]:
    return tuple(
        os.path.join(top, name)
        for folder in [*map(os.path.expanduser, FOLDERS), *_of_matplotlib()]
        for top, _, names in os.walk(folder)
        for name in names
        if name.lower().endswith(SUFFIXES)
    )


def _of_matplotlib() -> list[str]:
    """Return the folder with matplotlib's fonts: Latin, Greek, Cyrillic and more."""
    spec = find_spec("matplotlib")
    folders = spec.submodule_search_locations if spec else None
    return [os.path.join(folder, "mpl-data", "fonts", "ttf") for folder in folders or ()]
