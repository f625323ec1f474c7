"""Language models, by one protocol (`base`), and the layers they are made of."""
