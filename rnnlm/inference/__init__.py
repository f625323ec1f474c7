"""What is done with a model: evaluation, sampling, scoring."""
