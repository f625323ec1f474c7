"""What is done with a model: evaluation and sampling."""
