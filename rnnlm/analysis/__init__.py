"""What a model does with a text, in numbers: see README.md of pictures/ for how they are shown."""
