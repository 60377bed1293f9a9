"""The command line, `rcnn`: detect, propose, classify, serve, scale, draw, convert, train, eval, bench, weights, ...

Exit codes: 0 all done; 1 done, but some photos could not be processed or drawn (they are named and counted); 2 wrong
usage or nothing done, with the reason on one line, or a bug in this program, with its traceback and how to report it; 3
done, but a figure is below --fail-under; 130 stopped by Ctrl-C; 143 stopped by SIGTERM.

Each command is in detect/commands/NAME.py. These files import heavy modules inside their functions, so that
`rcnn --help` is quick.
"""

import atexit
import gc
import io
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from detect.commands.bench import app as bench_commands
from detect.commands.classify import classify
from detect.commands.convert import convert
from detect.commands.detect import detect
from detect.commands.draw import draw
from detect.commands.eval import app as eval_commands
from detect.commands.export import export
from detect.commands.groups import add, group
from detect.commands.propose import propose
from detect.commands.scale import app as scale_commands
from detect.commands.serve import serve
from detect.commands.train import app as train_commands
from detect.commands.weights import app as weights_commands
from detect.option_names import with_options
from detect.runs.machine import DISTRIBUTION, command, versions
from detect.stopping import stoppable
from structures.errors import InputError
from structures.names import did_you_mean
from structures.text import printable

RESUMED = ("detect", "propose", "train", "bench", "scale")  # commands that resume from what is in --out
ENDLESS = ("serve",)  # has nothing to resume
FAILED = 2
FROM_SCRATCH = "stopped; the same command starts from scratch"
RARELY = 50_000  # new objects between two garbage collections: imports make a million objects, and none is garbage
PROGRAM = "rcnn"  # whatever the script is called: completion and the usage lines of --help show this name
TRACEBACK_VARIABLE = "RCNN_TRACEBACK"
UsageError: type[Exception] = typer.BadParameter.__mro__[1]  # typer does not give it a name
PHOTOS, FIGURES, NETWORKS = "Photos", "Figures", "Networks"  # panels of commands in --help


def main() -> None:
    """Run the command line."""
    gc.set_threshold(RARELY, *gc.get_threshold()[1:])
    atexit.register(gc.freeze)  # else Python searches all of torch's objects for garbage at exit: half a second
    guarded(lambda: sys.exit(build()(standalone_mode=False, prog_name=PROGRAM)), stopped=_stopped(sys.argv[1:]))


def guarded(run: Callable[[], object], *, stopped: str = "stopped") -> None:
    """Run a function: an error of the caller becomes one line and exit code 2, and a stop one line and 130 or 143.

    Any other exception, even one of a library, is a bug: its traceback is shown, and how to report it.

    Args:
        run: the function.
        stopped: line to print after a stop.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # characters that it cannot encode are escaped, as stderr does
        sys.stdout.reconfigure(errors="backslashreplace")
    warnings.filterwarnings("ignore", module="PIL")  # about odd EXIF and palettes; they do not say in which file
    try:
        with stoppable(stopped):
            run()
    except typer.Exit as done:  # of a command that was called as a function
        sys.exit(done.exit_code)
    except UsageError as error:
        _show_usage_error(error)
        sys.exit(FAILED)
    except Exception as error:
        if os.environ.get(TRACEBACK_VARIABLE) or not is_of_the_caller(error):
            traceback.print_exc()
        last = with_options(one_line(error)) if is_of_the_caller(error) else report_it()
        print(f"rcnn: {last}", file=sys.stderr)
        sys.exit(FAILED)  # not 1, which says that all but some photos are done


def is_of_the_caller(error: Exception) -> bool:
    """Return whether an error is about what the caller passed, or about the system: a full disk, no memory.

    >>> is_of_the_caller(InputError("no such list")), is_of_the_caller(FileNotFoundError(2, "No such file", "a.txt"))
    (True, True)
    >>> is_of_the_caller(ValueError("shapes differ")), is_of_the_caller(OSError("broken data stream"))  # of a library
    (False, False)
    """
    of_system = isinstance(error, OSError) and error.errno is not None
    no_memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"  # torch's, of a GPU
    return isinstance(error, InputError) or of_system or no_memory


def report_it() -> str:
    """Return the line after the traceback of a bug."""
    version = versions().get(DISTRIBUTION, "not installed")
    what = f"the lines above, the version ({version}) and the command: {printable(command())}"
    return f"this is a bug; please report it on the issue tracker, with {what}"


def _show_usage_error(error: Any) -> None:
    """Print on one line what is wrong with a command line; a group without a command has already shown its help."""
    if type(error).__name__ == "NoArgsIsHelpError":
        return
    text = " ".join(error.format_message().split()).rstrip(".")
    if getattr(error, "possibilities", None):  # of an option: those that are spelled alike
        text = error.message + did_you_mean(error.option_name, error.possibilities)
    command = PROGRAM if error.ctx is None else error.ctx.command_path
    print(f"rcnn: {printable(text)} ({command} --help)", file=sys.stderr)


def _stopped(words: Sequence[str]) -> str:
    """Return what a command prints when it is stopped.

    >>> _stopped(["propose", "photos", "--out=boxes"]), _stopped(["bench", "proposals"]), _stopped(["serve"])
    ('stopped; the same command resumes the run', 'stopped; the same command starts from scratch', 'stopped')
    """
    if not words or words[0] in ENDLESS:
        return "stopped"
    kept = words[:1] == ["draw"] or any(word.split("=")[0] == "--out" for word in words)
    if kept and words[0] in (*RESUMED, "draw"):
        return f"stopped; the same command {'without --overwrite ' if '--overwrite' in words else ''}resumes the run"
    return FROM_SCRATCH


def one_line(error: Exception) -> str:
    r"""Return the message of an error without line breaks and control characters; for an OSError, with its file.

    >>> one_line(ValueError("no such list:\n  a.txt"))
    'no such list: a.txt'
    >>> one_line(FileNotFoundError(2, "No such file or directory", "a.txt"))
    'a.txt: No such file or directory'
    """
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return printable(f"{error.filename}: {error.strerror}")
    return printable(" ".join(str(error).split())) or type(error).__name__


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"rcnn {versions().get(DISTRIBUTION, '(not installed)')}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", is_eager=True, callback=_show_version)
    ] = False,
) -> None: ...


def build() -> typer.Typer:
    """Return the command line with all commands."""
    summary = f"Object detection in the style of R-CNN. Set {TRACEBACK_VARIABLE}=1 to see tracebacks."
    root = group(summary, completion=True, callback=_root)
    add(root, detect, panel=PHOTOS)
    add(root, draw, panel=PHOTOS)
    add(root, propose, panel=PHOTOS)
    add(root, classify, panel=PHOTOS)
    add(root, convert, panel=PHOTOS)
    add(root, serve, panel=PHOTOS)
    root.add_typer(scale_commands, name="scale", rich_help_panel=PHOTOS)
    root.add_typer(eval_commands, name="eval", rich_help_panel=FIGURES)
    root.add_typer(bench_commands, name="bench", rich_help_panel=FIGURES)
    root.add_typer(train_commands, name="train", rich_help_panel=NETWORKS)
    root.add_typer(weights_commands, name="weights", rich_help_panel=NETWORKS)
    add(root, export, panel=NETWORKS)
    return root
