"""`python -m rnnlm` is the command `rnnlm`."""

from .cli import main

main()
