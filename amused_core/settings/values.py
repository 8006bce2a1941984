"""Kinds of values that a setting may have: each checks a value, and says how a command line asks for it."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..errors import AmusedError, quoted
from . import inputs


class Value(Protocol):
    """The kind of a setting's value."""

    def check(self, value: Any, name: str, codebook_size: int) -> Any:
        """`value` in its own type.

        Raises:
            AmusedError: it is of another type, or out of range.
        """

    def parse(self, text: str) -> Any:
        """What a cell of a table says, for `check`; the text itself where it says nothing of the kind."""

    def option(self, several: bool) -> dict[str, Any]:
        """Keywords of `argparse.ArgumentParser.add_argument`; `several`: the option takes a list of values,
        unless it is a switch."""


@dataclass(frozen=True)
class Number:
    """A number from `low` to `high`; with `above` it must be more than `low`."""

    low: float
    high: float
    above: bool = False

    def check(self, value: Any, name: str, codebook_size: int) -> float:
        """See `Value`."""
        return inputs.number(value, name, self.low, self.high, self.above)

    def parse(self, text: str) -> Any:
        """See `Value`."""
        return parse_number(text)

    def option(self, several: bool) -> dict[str, Any]:
        """See `Value`."""
        return {"type": float, "metavar": "X", **({"nargs": "+"} if several else {})}


@dataclass(frozen=True)
class Whole:
    """A whole number from `low` to `high`; None is the size of the codebook."""

    low: int
    high: int | None

    def check(self, value: Any, name: str, codebook_size: int) -> int:
        """See `Value`."""
        return inputs.whole(value, name, self.low, codebook_size if self.high is None else self.high)

    def parse(self, text: str) -> Any:
        """See `Value`."""
        return parse_whole(text)

    def option(self, several: bool) -> dict[str, Any]:
        """See `Value`."""
        return {"type": int, "metavar": "N", **({"nargs": "+"} if several else {})}


@dataclass(frozen=True)
class Choice:
    """One of several names."""

    names: tuple[str, ...]

    def check(self, value: Any, name: str, codebook_size: int) -> str:
        """See `Value`."""
        return inputs.choice(value, name, self.names)

    def parse(self, text: str) -> Any:
        """See `Value`."""
        return text

    def option(self, several: bool) -> dict[str, Any]:
        """See `Value`."""
        return {"metavar": "|".join(self.names), **({"nargs": "+"} if several else {})}


@dataclass(frozen=True)
class NumberPair:
    """Two numbers from `low` to `high`; a single one stands for itself and `second`."""

    low: float
    high: float
    second: float

    def check(self, value: Any, name: str, codebook_size: int) -> tuple[float, float]:
        """See `Value`."""
        several = isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim == 1)
        pair = tuple(value) if several else (value, self.second)
        if len(pair) != 2:
            raise AmusedError(f"{name} is {quoted(value)}; allowed are one number or a pair of them.")
        first, second = (inputs.number(item, name, self.low, self.high) for item in pair)
        return first, second

    def parse(self, text: str) -> Any:
        """See `Value`."""
        return _parse_numbers(text)

    def option(self, several: bool) -> dict[str, Any]:
        """See `Value`."""
        return {"type": float, "nargs": 2, "metavar": ("A", "B"), **({"action": "append"} if several else {})}


@dataclass(frozen=True)
class Interval:
    """Two shares of the run, 0 <= first < second <= 1."""

    def check(self, value: Any, name: str, codebook_size: int) -> tuple[float, float]:
        """See `Value`."""
        pair = tuple(value) if isinstance(value, (list, tuple)) else ()
        numbers = len(pair) == 2 and all(inputs.is_number(share) for share in pair)
        if not numbers or not 0 <= pair[0] < pair[1] <= 1:
            raise AmusedError(f"{name} is {quoted(value)}; allowed are two numbers with 0 <= first < second <= 1.")
        return float(pair[0]), float(pair[1])

    def parse(self, text: str) -> Any:
        """See `Value`."""
        return _parse_numbers(text)

    def option(self, several: bool) -> dict[str, Any]:
        """See `Value`."""
        return {"type": float, "nargs": 2, "metavar": ("A", "B"), **({"action": "append"} if several else {})}


@dataclass(frozen=True)
class Switch:
    """True or False."""

    def check(self, value: Any, name: str, codebook_size: int) -> bool:
        """See `Value`."""
        return inputs.flag(value, name)

    def parse(self, text: str) -> Any:
        """See `Value`."""
        return parse_flag(text)

    def option(self, several: bool) -> dict[str, Any]:
        """See `Value`."""
        return {"action": argparse.BooleanOptionalAction}


def parse_number(text: str) -> float | str:
    """A text as a number; as it is where it is none."""
    try:
        return float(text)
    except ValueError:
        return text


def parse_whole(text: str) -> int | str:
    """A text as a whole number, "8.0" too, as tables write a column with gaps; as it is where it is none."""
    try:
        return int(text)
    except ValueError:
        number = parse_number(text)
        return int(number) if isinstance(number, float) and number.is_integer() else text


def parse_flag(text: str) -> bool | str:
    """A text as True or False; as it is where it is neither."""
    return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}.get(text.lower(), text)


def _parse_numbers(text: str) -> Any:
    """Text such as "2:0", "2, 0" or "[2, 0]" as numbers."""
    numbers = [parse_number(part) for part in re.split(r"[\s,:;]+", text.strip(" []()"))]
    if not all(isinstance(number, float) for number in numbers):
        return text
    return numbers[0] if len(numbers) == 1 else numbers
