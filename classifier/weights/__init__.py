"""Weights: our checkpoints and everybody else's files, read without running code from them."""

from classifier.weights.checkpoint import Checkpoint, read_checkpoint, save_checkpoint
from classifier.weights.fitting import WeightsError
from classifier.weights.load import load_weights
from classifier.weights.preprocessing import Preprocessing

__all__ = ["Checkpoint", "Preprocessing", "WeightsError", "load_weights", "read_checkpoint", "save_checkpoint"]
