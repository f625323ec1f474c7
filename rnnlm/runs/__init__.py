"""A run on disk: its folder, its checkpoints, the text that it was trained on."""
