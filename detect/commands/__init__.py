"""One file for each command of `rcnn`; heavy imports stay inside the functions."""
