"""The errors a user can mend: what is wrong, where, and what to do, in one line each."""


class RnnlmError(Exception):
    """Base of every error that rnnlm raises on purpose; its text is the whole message."""


class ConfigError(RnnlmError):
    """A configuration key, value or combination that cannot be used."""


class DataError(RnnlmError):
    """Text that cannot be read, or that does not fit what is asked of it."""


class CheckpointError(RnnlmError):
    """A file or run folder that is not what it should be."""


class TrainingError(RnnlmError):
    """Training that cannot go on; the last good checkpoint is kept."""


def shown(value: object) -> str:
    """A value as an error quotes it: in one short line, whatever it is."""
    try:
        return brief(repr(value))
    except ValueError:  # an integer with thousands of digits
        return f"a {type(value).__name__} too long to show"


def brief(text: str, most: int = 80) -> str:
    """A text as an error shows it: cut where it is long, and nothing that drives a terminal."""
    text = text if len(text) <= most else text[: most - 3] + "..."
    return text if text.isprintable() else text.encode("unicode_escape").decode()
