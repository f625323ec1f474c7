"""Files that are written completely or not at all, and formats whose files are checked when read."""
