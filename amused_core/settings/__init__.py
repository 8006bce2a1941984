"""The sampling settings, and the checks of arguments."""

from .sampling import (
    FAST,
    HELP,
    VALUES,
    Recommended,
    SamplingSettings,
    check_settings,
    resolve_settings,
)

__all__ = [
    "FAST",
    "HELP",
    "VALUES",
    "Recommended",
    "SamplingSettings",
    "check_settings",
    "resolve_settings",
]
