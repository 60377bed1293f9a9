"""Damage for `benchmarks/fuzz.py`: what a reader is, and how its sound files are changed at random."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.fuzz_contents import Maker

TOGETHER = 200  # files that one process reads
ODD_NUMBERS = (b"-1", b"0", b"1e999", b"NaN", b"9" * 30, b"-0.0", b"4294967296", b"2.5", b"null", b'"x"', b"[]", b"{}")


@dataclass(frozen=True)
class Reader:
    """One reader.

    Attributes:
        name: as in the table.
        file: name of the file that is damaged.
        seeds: sound contents.
        read: is given the file's path.
        needs: other sound files that it reads, by name.
        odd: make files of the right format with odd contents.
        together: files that one process reads, so that a crash costs no more.
    """

    name: str
    file: str
    seeds: Sequence[bytes]
    read: Callable[[Path], object]
    needs: Mapping[str, bytes] = field(default_factory=dict)
    odd: Sequence[Maker] = ()
    together: int = TOGETHER

    def spoilt(self, rng: random.Random) -> bytes:
        """Return a file that is damaged, or odd, or both."""
        made = rng.choice(self.odd)(rng) if self.odd and rng.random() < 0.7 else None
        if made is None:
            return damage(rng.choice(self.seeds), rng)
        return made if rng.random() < 0.9 else damage(made, rng)


def damage(sound: bytes, rng: random.Random) -> bytes:
    """Return a content with one to four changes."""
    content = bytearray(sound)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        rng.choice(CHANGES)(content, rng)
    return bytes(content)


def _flip(content: bytearray, rng: random.Random) -> None:
    if content:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)


def _set(content: bytearray, rng: random.Random) -> None:
    if content:
        at = rng.randrange(len(content))
        content[at : at + rng.choice((1, 2, 4, 8))] = rng.choice((b"\0", b"\xff", b"\x7f", b"\x80")) * rng.choice(
            (1, 4)
        )


def _cut(content: bytearray, rng: random.Random) -> None:
    first = rng.randrange(len(content) + 1)
    del content[first : rng.choice((first + 1, first + rng.randrange(64), len(content)))]


def _double(content: bytearray, rng: random.Random) -> None:
    first = rng.randrange(len(content) + 1)
    piece = content[first : first + rng.randrange(1, 200)]
    at = rng.randrange(len(content) + 1)
    content[at:at] = piece * rng.choice((1, 1, 2, 50))


def _number(content: bytearray, rng: random.Random) -> None:
    digits = [at for at, byte in enumerate(content[:20_000]) if 48 <= byte < 58]
    if digits:
        at = rng.choice(digits)
        end = next((end for end in range(at, len(content)) if content[end] not in b"0123456789.-+e"), len(content))
        content[at:end] = rng.choice(ODD_NUMBERS)


CHANGES = (_flip, _flip, _set, _cut, _double, _number)
