"""Train on your own photos: region classifiers, MultiBox, image classifiers."""

import typer

from detect.commands.train_classifier import classifier
from detect.commands.train_multibox import multibox
from detect.commands.train_regions import regions
from detect.commands.training_options import OLD_NAMES

app = typer.Typer(no_args_is_help=True, help=__doc__)
for command in (regions, multibox, classifier):
    app.command(context_settings=OLD_NAMES)(command)


@app.callback()
def _train() -> None:
    """Train on your own photos."""
