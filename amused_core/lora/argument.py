"""`--lora` of the command."""

from __future__ import annotations

from pathlib import Path


def split_lora(text: str) -> tuple[str, float]:
    """FILE[:STRENGTH] as path and strength (1 unless told); a Windows drive's colon is part of the path."""
    path, _, strength = text.rpartition(":")
    try:
        return (path, float(strength)) if path and not Path(text).exists() else (text, 1.0)
    except ValueError:
        return text, 1.0
