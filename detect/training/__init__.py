"""Trainings from photos to weights: regions and MultiBox, phase by phase, validated on the way."""
