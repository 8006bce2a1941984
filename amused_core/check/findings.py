"""What a check found, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..files.markdown import table

SHOWN = 5  # names in one cell of the table


class Finding(NamedTuple):
    """One line of the table. `passed` None: it was not checked, and `result` says why."""

    check: str
    passed: bool | None
    result: str


def findings_table(findings: Sequence[Finding]) -> str:
    """A Markdown table, to be pasted into an issue."""
    words = {True: "ok", False: "**FAILED**", None: "-"}
    return table([{"check": f.check, "": words[f.passed], "result": f.result.replace("|", "/")} for f in findings])


def listed(names: Sequence[str]) -> str:
    """The first few of many names."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
