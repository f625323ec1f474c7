"""Text in, text out: what scripts and the command line do with a checkpoint."""
