"""Training: the loop, one update, the plan of a run, and what may change when it goes on."""
