"""Numbers in, pictures out: curves of runs, by matplotlib or in characters; a page about one run."""
