"""What scripts and the command line do with a checkpoint: one file for each concern."""
