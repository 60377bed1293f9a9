"""Records of options: a command takes a few dataclasses instead of dozens of parameters."""

import functools
import inspect
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import MISSING, fields, is_dataclass
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from typer.models import ArgumentInfo, OptionInfo


def with_records(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command for typer with an option for every field of the records that this one takes.

    A record is a frozen dataclass. Its fields are annotated as typer expects parameters to be, and their defaults are
    those of the options; a field without a default is a required option. The first line of the record's docstring is
    the title of the panel in --help. Other parameters stay as they are. From Python the command is called with the
    options as keywords.

    >>> from dataclasses import dataclass
    >>> import typer
    >>> @dataclass(frozen=True)
    ... class Size:
    ...     '''How large.'''
    ...     height: Annotated[int, typer.Option(help="Pixels.")] = 3
    >>> @with_records
    ... def paint(colour: str, size: Size) -> None:
    ...     print(colour, size.height)
    >>> list(inspect.signature(paint).parameters)
    ['colour', 'height']
    >>> paint(colour="red")
    red 3
    """
    hints = get_type_hints(command, include_extras=True)
    records = {name: hint for name, hint in hints.items() if is_dataclass(hint) and isinstance(hint, type)}
    names = {name: [field.name for field in fields(record)] for name, record in records.items()}

    @functools.wraps(command)
    def run(**given: Any) -> None:
        bound = signature.bind(**given)
        bound.apply_defaults()
        options = bound.arguments
        made = {name: record(**{each: options.pop(each) for each in names[name]}) for name, record in records.items()}
        command(**made, **options)

    signature = inspect.Signature(list(_parameters(inspect.signature(command), hints, records)))
    run.__signature__ = signature  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in signature.parameters.values()}
    return run


def _parameters(
    signature: inspect.Signature, hints: dict[str, Any], records: dict[str, type]
) -> Iterator[inspect.Parameter]:
    for name, parameter in signature.parameters.items():
        if name not in records:
            yield parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[name])
            continue
        inner, title = get_type_hints(records[name], include_extras=True), _title(records[name])
        for field in fields(records[name]):
            annotation = _in_panel(inner[field.name], title)
            default = inspect.Parameter.empty if field.default is MISSING else field.default
            yield inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _title(record: type) -> str:
    return (record.__doc__ or "").split("\n")[0].rstrip(".")


def _in_panel(annotation: Any, title: str) -> Any:
    """Put an option into a panel of --help; arguments have a panel of their own."""
    assert get_origin(annotation) is Annotated, f"{annotation} is not annotated with an option"
    kind, option = get_args(annotation)
    if isinstance(option, ArgumentInfo):
        return annotation
    assert isinstance(option, OptionInfo)
    option = copy(option)
    option.rich_help_panel = title
    return Annotated[kind, option]
