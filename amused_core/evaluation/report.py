"""The report as text: one line a cell, and tables in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..files.markdown import table
from .cells import label

_HEADINGS = {
    "judge": "Error of the judge",
    "text": "Text-to-image",
    "reconstruction": "VQ reconstruction",
    "inpainting": "Inpainting",
    "variation": "Image-to-image",
    "diversity": "Diversity over seeds",
}
_NOTES = {
    "judge": "Verdicts of the judge on images whose content is known. *right* should be near 100 % down to the round "
    "trip through the VQ, and near 0 in the last two rows.",
    "text": "*right* is the strict measure: everything as requested, and at most 3 dB below the VQ round trip of the "
    "target. In brackets: 95 % intervals. Seconds depend on the machine and its load.",
}
_BRIEF = (
    "right",
    "valid",
    "mixed",
    "coverage",
    "coverage, perfect",
    "object",
    "background",
    "relation",
    "PSNR",
    "PSNR in hole",
    "same tokens",
    "distinct pictures",
)


def show(result: Mapping[str, Any]) -> str:
    """A number with its interval: "88.0 % (80.2-93.0)"."""
    factor, unit = (100, " %") if result["unit"] == "%" else (1, f" {result['unit']}".rstrip())
    digits = 1 if result["unit"] in ("%", "dB") else 0 if float(result["value"]).is_integer() else 3

    def text(value: float) -> str:
        return f"{value * factor:.{digits}f}"

    interval = f" ({text(result['low'])}-{text(result['high'])})" if "low" in result else ""
    return f"{text(result['value'])}{unit}{interval}"


def line(cell: Mapping[str, Any]) -> str:
    """A cell in one line."""
    key = cell["key"]
    name = f"{key['task']} {key['part']}, {label(key['settings'])}"
    row = cell.get("row") or cell["rows"].get("after the VQ") or cell["rows"]["one answer"]
    numbers = [f"{column} {show(row[column])}" for column in _BRIEF if column in row]
    if "reference" in cell:
        numbers.append(f"tokens equal to diffusers' {100 * cell['reference']['equal_tokens']:g} %")
    if "passes" in row:
        numbers.append(f"{row['passes']['value']:g} passes")
    return f"{name}: {', '.join(numbers)}"


def as_markdown(report: Mapping[str, Any]) -> str:
    """The whole report (the content of report.json) as Markdown."""
    model = report["model"]
    parts = [
        f"# Evaluation of {model['name']}",
        f"{report['pictures']} images per cell, seed {report['seed']}; weights {model['digest']}; torch "
        f"{report['torch']}, {report['device']}, {report['threads']} threads. Recommended settings: "
        f"{', '.join(f'{name} {value}' for name, value in model['recommended'].items())}.",
    ]
    for task, heading in _HEADINGS.items():
        cells = [cell for cell in report["cells"] if cell["key"]["task"] == task]
        if cells:
            parts += [f"## {heading}", *([_NOTES[task]] if task in _NOTES else []), table(_rows(task, cells))]
    if report["differences"]:
        rows = [{n: v if isinstance(v, str) else show(v) for n, v in row.items()} for row in report["differences"]]
        parts += ["## Vague prompts: valid images beside diffusers' rule at most passes", table(rows)]
    kinds = [row for cell in report["cells"] for row in _kinds(cell)]
    if kinds:
        parts += ["## Text-to-image, by kind of prompt", table(kinds)]
    return "\n\n".join(parts) + "\n"


def _rows(task: str, cells: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    if task == "judge":
        return [{"images": name, **_numbers(row)} for cell in cells for name, row in cell["rows"].items()]
    rows = []
    for cell in cells:
        name = {"what": cell["key"]["part"], "settings": label(cell["key"]["settings"])}
        rows.append({**name, **_numbers(cell["row"])})
        if "reference" in cell:
            equal = f"{100 * cell['reference']['equal_tokens']:g} % of the tokens equal"
            rows.append(
                {**name, "settings": f"diffusers, {equal}; {name['settings']}", **_numbers(cell["reference"]["row"])}
            )
    return rows


def _numbers(row: Mapping[str, Any]) -> dict[str, str]:
    return {column: show(number) for column, number in row.items()}


def _kinds(cell: Mapping[str, Any]) -> list[dict[str, str]]:
    key = cell["key"]
    return [
        {
            "set": key["part"],
            "settings": label(key["settings"]),
            "kind": kind,
            "images": str(row["pictures"]),
            **{name: show(number) for name, number in row.items() if name != "pictures"},
        }
        for kind, row in cell.get("kinds", {}).items()
    ]
