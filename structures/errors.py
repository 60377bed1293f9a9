"""What the caller did wrong, as one class of errors: any other exception is a bug of this package."""

from typing import SupportsIndex, TypeVar

E = TypeVar("E", bound=BaseException)


class InputError(ValueError):
    """Something that the caller passed cannot be used: a value, a file, a folder, or two of these together.

    The message is one line that says what was wrong, of which file, row or parameter, and what was expected. A
    parameter that the caller can change is named in it between backticks, by its name in Python, as in "take a smaller
    `batch_size`"; the command line puts its option there (`detect.option_names`).

    Every reader and every room has a subclass of its own; only this one need be caught. Errors of NumPy, torch and
    other libraries are caught where the caller's values reach them, and raised again as this.
    """


def without_tracebacks(error: E) -> E:
    """Return an error that is to be kept, without its traceback and those of its causes.

    Their frames hold all that the functions had, such as a file's contents, and often what keeps the error as well:
    together they are garbage that Python rarely looks for.
    """
    each: BaseException | None = error
    while each is not None:
        each.__traceback__ = None
        each = each.__cause__ or each.__context__
    return error


def require_count(name: str, value: object) -> None:
    """Refuse the value of a parameter that counts something, unless it is a whole number of at least 1.

    Raises:
        InputError: names the parameter.

    >>> require_count("workers", 2)
    >>> require_count("workers", 2.5)
    Traceback (most recent call last):
    structures.errors.InputError: `workers` must be a whole number of at least 1, got 2.5
    """
    if not isinstance(value, SupportsIndex) or value.__index__() < 1:
        raise InputError(f"`{name}` must be a whole number of at least 1, got {value!r}")
