"""The texts of the nodes: what ComfyUI's frontend reads from locales/, and the tables of the help pages in web/docs/.

The schemas in nodes/ are the source of the English texts; the tables of a page follow from its language's texts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from node_schema import FROM_DISK, PREFIX, inputs

ROOT = Path(__file__).resolve().parents[1]
LOCALES, DOCS = ROOT / "locales", ROOT / "web" / "docs"
LANGUAGES = ("en", "ar", "zh", "es", "fr")
PAGE_LANGUAGES = ("en", "ar")
RIGHT_TO_LEFT = ("ar",)
TABLE = re.compile(r"(?:^\|.*\n)+", re.MULTILINE)

Texts = dict[str, Any]


def english(object_info: dict[str, Any]) -> Texts:
    """locales/en/nodeDefs.json: exactly the keys that the frontend looks up, with the texts of the schemas.

    The name of an output is looked up only where it is not its type: types have translations of their own.
    """
    return {name: _entry(info) for name, info in sorted(object_info.items()) if name.startswith(PREFIX)}


def _entry(info: dict[str, Any]) -> Texts:
    shown = {
        str(index): {**({"name": name} if name != kind else {}), "tooltip": tooltip}
        for index, (name, kind, tooltip) in enumerate(
            zip(info["output_name"], info["output"], info["output_tooltips"], strict=True)
        )
    }
    return {
        "display_name": info["display_name"],
        "description": info["description"],
        "inputs": {name: {"name": name, "tooltip": settings.get("tooltip")} for name, _, settings, _ in inputs(info)},
        **({"outputs": shown} if shown else {}),
    }


def categories(object_info: dict[str, Any]) -> Texts:
    """locales/en/main.json: a name for every level of the nodes' menu."""
    levels = (info["category"].split("/") for name, info in object_info.items() if name.startswith(PREFIX))
    return {"nodeCategories": {level: level for level in sorted({level for path in levels for level in path})}}


def read(language: str, file: str) -> Texts:
    """A locale file, "nodeDefs" or "main"."""
    return json.loads((LOCALES / language / f"{file}.json").read_text(encoding="utf-8"))


def write(language: str, file: str, texts: Texts) -> None:
    """Writes a locale file."""
    (LOCALES / language).mkdir(parents=True, exist_ok=True)
    text = json.dumps(texts, ensure_ascii=False, indent=2)
    (LOCALES / language / f"{file}.json").write_text(f"{text}\n", encoding="utf-8")


def leaves(texts: Any, path: str = "") -> dict[str, Any]:
    """Path with dots -> text, for every text in nested dictionaries."""
    if not isinstance(texts, dict):
        return {path: texts}
    return {k: v for key, value in texts.items() for k, v in leaves(value, f"{path}.{key}" if path else key).items()}


def differences(wanted: Texts, found: Texts) -> list[str]:
    """Keys that one of two sets of texts has and the other has not."""
    wanted, found = leaves(wanted), leaves(found)
    return [f"missing: {key}" for key in wanted if key not in found] + [
        f"left over: {key}" for key in found if key not in wanted
    ]


def page_file(node: str, language: str) -> Path:
    """The help page of a node."""
    return DOCS / node / f"{language}.md"


def with_tables(page: str, info: dict[str, Any], texts: Texts, language: str) -> str:
    """A help page whose tables (inputs, then outputs) have the rows that the schema and the texts give.

    The heading of each table stays as it is.

    Raises:
        ValueError: the page has more or fewer tables.
    """
    wanted = [list(_input_rows(info, texts, language))]
    if info["output"]:
        wanted.append(list(_output_rows(info, texts)))
    tables = TABLE.findall(page)
    if len(tables) != len(wanted):
        raise ValueError(f"The page has {len(tables)} tables; it needs {len(wanted)}: inputs, then outputs.")
    rows = iter(wanted)

    def fill(table: re.Match[str]) -> str:
        heading = table[0].splitlines()[:2]
        return "".join(f"{line}\n" for line in [*heading, *next(rows)])

    return TABLE.sub(fill, page)


def _input_rows(info: dict[str, Any], texts: Texts, language: str) -> Iterator[str]:
    for name, kind, settings, _ in inputs(info):
        own = texts["inputs"][name]
        label = f"`{name}`" if own["name"] == name else f"{own['name']} (`{name}`)"
        limits = "-" if (info["name"], name) in FROM_DISK else _range(kind, settings)
        if language in RIGHT_TO_LEFT and limits != "-":
            limits = f'<span dir="ltr">{limits}</span>'
        yield _row(label, kind, _default(settings), limits, own["tooltip"])


def _output_rows(info: dict[str, Any], texts: Texts) -> Iterator[str]:
    for index, kind in enumerate(info["output"]):
        own = texts["outputs"][str(index)]
        yield _row(f"{own['name']} (`{kind}`)" if "name" in own else f"`{kind}`", own["tooltip"])


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def _default(settings: dict[str, Any]) -> str:
    default = settings.get("default")
    return "-" if default in (None, "") else f"`{_number(default)}`"


def _range(kind: str, settings: dict[str, Any]) -> str:
    if kind == "COMBO":
        return ", ".join(f"`{option}`" for option in settings["options"])
    if kind == "BOOLEAN":
        return "`true`, `false`"
    if settings.get("min") is None:
        return "-"
    return f"{_number(settings['min'])} … {_number(settings['max'])}"


def _number(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
