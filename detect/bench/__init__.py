"""Measures of speed and quality side by side: proposal generators, and detectors with them."""
