"""Rows of every kind for the tiny model."""

from __future__ import annotations

from tests.loras import write_lora  # noqa: F401
