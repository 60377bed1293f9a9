"""One file for each command of `rcnn`, or for a group of them; detect/cli.py puts them together."""
