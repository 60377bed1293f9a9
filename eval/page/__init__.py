"""One HTML page about an evaluation: figures, curves, mistakes and photos in one file that needs no network."""
