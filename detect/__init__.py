"""The top floor: puts the rooms together, and holds the command line and the training runs."""
