"""Character-level recurrent language models: prepare, train, sample, evaluate."""

__version__ = "0.1.0"
