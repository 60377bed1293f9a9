"""Train on your own photos: region classifiers, MultiBox, image classifiers."""

import typer

from detect.commands.train_classifier import classifier
from detect.commands.train_multibox import multibox
from detect.commands.train_regions import regions

app = typer.Typer(no_args_is_help=True, help=__doc__)
app.command()(regions)
app.command()(multibox)
app.command()(classifier)


@app.callback()
def _train() -> None:
    """Train on your own photos."""
