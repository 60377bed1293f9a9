"""Trainings from data to weights: regions and MultiBox, stage by stage, judged on the way."""
