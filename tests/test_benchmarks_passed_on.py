"""What follows `--` on a benchmark's command line goes to the command that it measures, unread."""

import pytest

from benchmarks.passed_on import split_words


@pytest.mark.parametrize(
    ("words", "own", "passed_on"),
    [
        (["photos", "--kill", "--", "--features", "shared"], ["photos", "--kill"], ["--features", "shared"]),
        (["photos", "--", "a", "--", "b"], ["photos"], ["a", "--", "b"]),
        (["photos"], ["photos"], []),
        (["--"], [], []),
        ([], [], []),
    ],
)
def test_words_are_split_at_the_first_dashes(words: list[str], own: list[str], passed_on: list[str]) -> None:
    assert split_words(words) == (own, passed_on)
