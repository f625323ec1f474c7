"""Training: the loop, and one update."""
