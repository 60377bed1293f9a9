"""Train on your own photos: region classifiers, MultiBox, image classifiers."""

from detect.commands.groups import add, group
from detect.commands.train_classifier import classifier
from detect.commands.train_multibox import multibox
from detect.commands.train_regions import regions

app = group("Train on your own photos: region classifiers, MultiBox, image classifiers.")
for command in (regions, multibox, classifier):
    add(app, command)
