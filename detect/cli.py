"""The command line: `rcnn detect | propose | classify | eval | train | weights | bench | export`.

Exit codes: 0 all done; 1 done, but some photos could not be worked on, or drawn (they are named and counted); 2 wrong
usage or nothing done, with the reason on one line, or a bug of this program, with its traceback and how to report it;
130 stopped by Ctrl-C; 143 stopped by SIGTERM.

A command stands in detect/commands/NAME.py. A file with a function NAME is one command; elsewhere every public function
of the file is a command of a group (`eval.detections` is `rcnn eval detections`), unless it brings its own typer `app`.
Command files import what is heavy inside their functions, so that `rcnn --help` is quick.
"""

import importlib
import importlib.util
import inspect
import io
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from importlib import metadata
from types import ModuleType
from typing import Annotated

import typer

from detect.options import with_options
from detect.runs.record import DISTRIBUTION, command
from detect.stopping import stoppable
from structures.errors import InputError
from structures.text import printable

COMMANDS = ("detect", "propose", "classify", "eval", "train", "weights", "bench", "export")  # as --help lists them
RESUMED = ("detect", "propose", "train", "bench")  # keep in --out what is done, and go on from there
FAILED = 2
TRACEBACK_VARIABLE = "RCNN_TRACEBACK"


def main() -> None:
    """Run the command line."""
    guarded(lambda: build()())


def guarded(run: Callable[[], object]) -> None:
    """Run something: what the caller did wrong becomes one line and exit code 2, and a stop one line and 130 or 143.

    Whatever else is raised, also by a library, is a bug: its traceback is shown, and how to report it.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # what it cannot write is written as stderr does, as \udcfc
        sys.stdout.reconfigure(errors="backslashreplace")
    warnings.filterwarnings("ignore", module="PIL")  # notes on odd EXIF and palettes: they name no file, so help nobody
    try:
        with stoppable(_stopped(sys.argv[1:])):
            run()
    except typer.Exit as done:  # of a command that was called as a function
        sys.exit(done.exit_code)
    except Exception as error:
        if os.environ.get(TRACEBACK_VARIABLE) or not is_of_the_caller(error):
            traceback.print_exc()
        last = with_options(one_line(error), *sys.argv[1:2]) if is_of_the_caller(error) else report_it()
        print(f"rcnn: {last}", file=sys.stderr)
        sys.exit(FAILED)  # not 1, which says that all but some photos are done


def is_of_the_caller(error: Exception) -> bool:
    """Say whether an error speaks of what the caller named, or of the system: a full disk, no memory.

    >>> is_of_the_caller(InputError("no such list")), is_of_the_caller(FileNotFoundError(2, "No such file", "a.txt"))
    (True, True)
    >>> is_of_the_caller(ValueError("shapes differ")), is_of_the_caller(OSError("broken data stream"))  # of a library
    (False, False)
    """
    of_system = isinstance(error, OSError) and error.errno is not None
    no_memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"  # torch's, of a GPU
    return isinstance(error, InputError) or of_system or no_memory


def report_it() -> str:
    """Return what stands behind the traceback of a bug."""
    what = f"the lines above, the version ({metadata.version(DISTRIBUTION)}) and the command: {printable(command())}"
    return f"this is a bug; please report it on the issue tracker, with {what}"


def _stopped(words: Sequence[str]) -> str:
    """Return what a command says when it was stopped.

    >>> _stopped(["propose", "photos", "--out=boxes"]), _stopped(["bench", "proposals"])
    ('stopped; the same command goes on', 'stopped')
    """
    if words[:1] and words[0] in RESUMED and any(word.split("=")[0] == "--out" for word in words):
        return f"stopped; the same command {'without --overwrite ' if '--overwrite' in words else ''}goes on"
    return "stopped"


def one_line(error: Exception) -> str:
    r"""Return the message of an error without line breaks and control characters; an OSError says which file.

    >>> one_line(ValueError("no such list:\n  a.txt"))
    'no such list: a.txt'
    >>> one_line(FileNotFoundError(2, "No such file or directory", "a.txt"))
    'a.txt: No such file or directory'
    """
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return printable(f"{error.filename}: {error.strerror}")
    return printable(" ".join(str(error).split())) or type(error).__name__


def _nothing() -> None: ...


def _root(version: Annotated[bool, typer.Option("--version", help="Show the version.", is_eager=True)] = False) -> None:
    if version:
        print(f"rcnn {metadata.version(DISTRIBUTION)}")
        raise typer.Exit


def build() -> typer.Typer:
    """Return the command line with every command whose file is there."""
    summary = f"Object detection in the style of R-CNN. With {TRACEBACK_VARIABLE}=1 errors show where they arose."
    root = _group(summary, _root)
    for name in COMMANDS:
        if importlib.util.find_spec(f"detect.commands.{name}") is not None:
            _add(root, name, importlib.import_module(f"detect.commands.{name}"))
    return root


def _group(summary: str, callback: Callable[..., None] = _nothing) -> typer.Typer:
    group = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
    group.callback(help=summary)(callback)  # without a callback typer turns a group of one command into that command
    return group


def _add(root: typer.Typer, name: str, module: ModuleType) -> None:
    if hasattr(module, "app"):
        root.add_typer(module.app, name=name)
    elif hasattr(module, name):
        root.command(name)(getattr(module, name))
    else:
        root.add_typer(_functions_as_commands(module), name=name)


def _functions_as_commands(module: ModuleType) -> typer.Typer:
    group = _group((module.__doc__ or "").split("\n")[0])
    for name, function in inspect.getmembers(module, inspect.isfunction):
        if not name.startswith("_") and function.__module__ == module.__name__:
            group.command(name.replace("_", "-"))(function)
    return group
