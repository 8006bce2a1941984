"""Running `amused bench` and reading its report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from amused_core.bench import measure
from amused_core.cli import main

AGAIN = measure.AGAIN


def run(model: Path, output: Path, *options: str) -> int:
    return main(["bench", "--model", str(model), "--output", str(output), "--steps", "3", *options])


def report(folder: Path, name: str = "report") -> dict[str, Any]:
    return json.loads((folder / f"{name}.json").read_text())
