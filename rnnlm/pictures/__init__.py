"""Numbers in, pictures out: drawn by matplotlib, or with plain characters."""
