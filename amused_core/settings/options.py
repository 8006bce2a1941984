"""The options of the command line that set sampling settings."""

from __future__ import annotations

import argparse
from typing import Any

from .sampling import HELP, VALUES


def add_settings(parser: argparse.ArgumentParser, several: bool = False) -> None:
    """Adds an option for each field of `SamplingSettings`; `several`: each but the switches takes a list of values."""
    for name, value in VALUES.items():
        keywords = value.option(several)
        more = _several(keywords) if several else " (default: the model's recommended value)"
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, dest=name, help=(HELP[name] + more).replace("%", "%%"), **keywords)


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    """The settings that the command line gives, by name."""
    settings = {name: getattr(options, name) for name in VALUES}
    return {name: value for name, value in settings.items() if value is not None}


def _several(keywords: dict[str, Any]) -> str:
    """How an option with these keywords takes several values."""
    if keywords.get("action") == "append":
        return " (repeat for several values: one cell per combination)"
    return " (several values: one cell per combination)" if "nargs" in keywords else ""
