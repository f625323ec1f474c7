"""Numbers in, pictures out: curves of runs, drawn by matplotlib or with plain characters; a page about one run."""
