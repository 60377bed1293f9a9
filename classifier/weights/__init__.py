"""Weights: our checkpoints and everybody else's files, read without running code from them."""

from classifier.weights.checkpoint import Checkpoint, Preprocessing, WeightsError, read_checkpoint, save_checkpoint
from classifier.weights.load import load_weights

__all__ = ["Checkpoint", "Preprocessing", "WeightsError", "load_weights", "read_checkpoint", "save_checkpoint"]
