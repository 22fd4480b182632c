"""Measures of what a model made: `metrics` compares one image or mask with the real one, `divergence` whole sets."""
