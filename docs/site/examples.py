"""Shows the doctests at the end of docstrings as examples. An extension of Griffe, which reads code for the site."""

import textwrap
from typing import Any

import griffe


class DoctestsAsExamples(griffe.Extension):
    """Puts bare doctests under the heading of Google's style; without it they would be shown as quotations."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Change the docstring of a function, class or module after it was read."""
        if obj.docstring is not None:
            obj.docstring.value = with_heading(obj.docstring.value)


def with_heading(text: str) -> str:
    r"""Return a docstring with its first doctest, and everything after it, under `Examples:`.

    >>> print(with_heading("Add.\n\n>>> 1 + 1\n2"))
    Add.
    <BLANKLINE>
    Examples:
        >>> 1 + 1
        2
    """
    before, mark, behind = ("\n" + text).partition("\n>>> ")
    if not mark:
        return text
    return before[1:] + "\nExamples:\n" + textwrap.indent(mark[1:] + behind, "    ")
