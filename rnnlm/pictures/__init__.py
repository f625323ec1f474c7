"""What a run learnt, to look at: a page of its own. Numbers come from analysis/ and the run's log."""
