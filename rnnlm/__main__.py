"""`python -m rnnlm` is the command `rnnlm`: signals are caught before anything else is loaded."""

import os


def main() -> None:
    """Run the command line in a process of its own."""
    try:
        from .interrupts import stop

        stop.catch()
    except KeyboardInterrupt:  # from the handler that Python starts with
        os._exit(130)
    from .cli import main as cli

    cli.main()


if __name__ == "__main__":
    main()
