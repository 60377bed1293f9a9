"""Annotations and results from one format to another: `rcnn convert`."""
