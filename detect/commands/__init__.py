"""One file for each command of `rcnn`; detect/cli.py says how they are found."""
