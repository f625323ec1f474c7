"""The benchmark suite: `python -m tests.bench` from the project's root; see README.md here."""
