"""The options of the command line that set sampling settings."""

from __future__ import annotations

import argparse
from typing import Any

from .sampling import HELP, VALUES


def add_settings(parser: argparse.ArgumentParser, several: bool = False) -> None:
    """Adds an option for each field of `SamplingSettings`; `several`: each takes a list of values."""
    more = " (several values: one cell per combination)" if several else " (default: the model's recommended value)"
    for name, value in VALUES.items():
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, dest=name, help=(HELP[name] + more).replace("%", "%%"), **value.option(several))


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    """The settings that the command line gives, by name."""
    settings = {name: getattr(options, name) for name in VALUES}
    return {name: value for name, value in settings.items() if value is not None}
