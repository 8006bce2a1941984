"""The errors this package raises for refused input: all are `ValueError`s with one clear sentence."""


class AmusedError(ValueError):
    """Refused input: the message quotes the value and says what is allowed."""


class CheckpointError(AmusedError):
    """A checkpoint that is missing, incomplete, damaged or of another kind."""


class AttentionError(AmusedError):
    """An attention backend that is unknown, not installed, or has no kernel for the device."""
