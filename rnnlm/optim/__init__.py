"""Optimizers, learning-rate schedules, and truncation of the gradient inside a window."""
