"""The errors this package raises for refused input: all are `ValueError`s with one clear sentence."""

from __future__ import annotations

from typing import Any

# The most characters of a value that a sentence quotes.
QUOTED = 80
MAX_PATH = 255
# The same of what another library says.
MAX_REASON = 200
# Numbers of more bits are not written out, which takes long, and Python refuses from 4,300 digits on.
_BITS = 256


class AmusedError(ValueError):
    """Refused input: the message quotes the value and says what is allowed."""


class CheckpointError(AmusedError):
    """A checkpoint that is missing, incomplete, damaged or of another kind."""


class AttentionError(AmusedError):
    """An attention backend that is unknown, not installed, or has no kernel for the device."""


def quoted(value: Any) -> str:
    """A value as a sentence quotes it: on one line, of at most 80 characters, whatever it is."""
    try:
        text = " ".join(_describe(value).split())
    except Exception:  # what another package's class does is its own
        text = f"a {type(value).__name__}"
    return text if len(text) <= QUOTED else f"{text[: QUOTED - 4]} ..."


def one_line(error: Exception) -> str:
    """What another library says, in one line of at most 200 characters, without a full stop."""
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return f"{text[: MAX_REASON - 4]} ..." if len(text) > MAX_REASON else text.rstrip(".")


def quoted_path(path: object) -> str:
    """A path as a sentence quotes it: whole, unless it is longer than a file's name may be."""
    text = str(path)
    return repr(text) if len(text) <= MAX_PATH else quoted(text)


def _describe(value: Any) -> str:
    kind = type(value)
    if isinstance(value, int) and value.bit_length() > _BITS:
        return f"a whole number of {value.bit_length()} bits"
    if isinstance(value, (str, bytes)):
        return repr(value[:QUOTED])
    if kind in (list, tuple) and len(value) > QUOTED:
        return f"a {kind.__name__} of {len(value)} items"
    if shape := getattr(value, "shape", None) if kind.__module__ in ("numpy", "torch") else None:
        return f"a {kind.__name__} of the shape {tuple(shape)}"
    return repr(value)
