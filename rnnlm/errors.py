"""The errors a user can fix: what is wrong, where, and what to do, in one line each."""


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


class DivergedError(TrainingError):
    """A loss, gradient or parameter left the range of numbers."""
