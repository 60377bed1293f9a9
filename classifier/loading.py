"""The earlier place of what is in `classifier.weights` now, for scripts that import it from here."""

from classifier.weights import load_weights

__all__ = ["load_weights"]
