"""What the suite measures, a module for each subject, with `run(bench) -> Report`."""

SUBJECTS = (
    "train",
    "target",
    "sample",
    "evaluate",
    "score",
    "prepare",
    "memory",
    "growth",
    "startup",
)
