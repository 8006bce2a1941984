"""Names of files: ids made safe, templates, and the folder layouts that benchmarks read."""

from __future__ import annotations

import hashlib
import json
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import AmusedError, quoted
from .rows import Row

DIGITS = 7
# Of the 255 that file systems allow, a value has so many, and a name without its ending.
MAX_BYTES, LONGEST = 200, 250
RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}


def safe_name(text: str) -> str:
    """A text as a file's name on every system; different texts have different names.

    Letters and digits of every script, "-", "_", ".", "," "=", "+", "@" and spaces stay; the rest becomes %XX.
    """
    kept = "".join(char if char.isalnum() or char in "-_., =+@" else _percent(char) for char in text)
    if kept[:1] in (".", " ") or kept.partition(".")[0].lower() in RESERVED:
        kept = _percent(kept[0]) + kept[1:]
    if kept[-1:] in (".", " "):
        kept = kept[:-1] + _percent(kept[-1])
    if len(kept.encode()) > MAX_BYTES:
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        kept = f"{kept.encode()[: MAX_BYTES - 20].decode('utf-8', 'ignore')}%{digest}"
    return kept or "%"


def _percent(char: str) -> str:
    return "".join(f"%{byte:02X}" for byte in char.encode("utf-8", "replace"))


def tar_key(file: str) -> str:
    """A file's name as a sample's key: WebDataset cuts keys at the first dot."""
    return file.replace(".", "%2E")


@dataclass(frozen=True)
class Place:
    """What a name may be made of: the row, which of its pictures, and what that picture is.

    `index` is the row's number among those of its `style`, for benchmarks with several lists of prompts.
    """

    row: Row
    copy: int
    number: int
    id: str
    seed: int
    index: int = 0


@dataclass(frozen=True)
class Layout:
    """Where pictures go.

    Attributes:
        name: for the manifest.
        file: the name of a picture, without its ending.
        ending: ".png" or ".jpg".
        count: pictures of a row that does not say it.
        sidecar: a further file of the row (name, text), or None.
        columns: what each row must have.
    """

    name: str
    file: Callable[[Place], str]
    ending: str = ".png"
    count: int = 1
    sidecar: Callable[[Place], tuple[str, str] | None] = field(default=lambda place: None)
    columns: tuple[str, ...] = ()


def template(text: str) -> Layout:
    """Names by a template: "{id}", "{number}", "{row}", "{copy}", "{seed}" and any column, with "/" for folders.

    Raises:
        AmusedError: braces that do not fit, or a path that leads out of the folder.
    """
    try:
        parts = [(literal, name) for literal, name, form, convert in string.Formatter().parse(text)]
    except ValueError as error:
        raise AmusedError(f"The name {text!r} cannot be used: {error}.") from None
    bad = [piece for piece in text.split("/") if piece in ("", ".", "..")]
    if bad or "\\" in text or ":" in text:
        raise AmusedError(
            f"The name {text!r} must be a path within the folder, such as '{{id}}' or '{{style}}/{{id}}'."
        )

    def file(place: Place) -> str:
        name = "".join(literal + _value(key, place) for literal, key in parts)
        if long := [piece for piece in name.split("/") if len(piece.encode()) > LONGEST]:
            raise AmusedError(f"The name {quoted(long[0])} is too long; allowed are {LONGEST} bytes.")
        return name

    return Layout(text, file)


def _value(name: str | None, place: Place) -> str:
    if name is None:
        return ""
    fields: dict[str, Any] = {"id": place.id, "seed": place.seed, "copy": place.copy}
    fields |= {"number": f"{place.number:0{DIGITS}}", "row": f"{place.row.number:0{DIGITS}}"}
    known: Mapping[str, Any] = {**place.row.columns, **fields}
    if name not in known:
        raise AmusedError(f"The name asks for {name!r}; the row has {', '.join(known)}.")
    return safe_name(str(known[name]))


def geneval_metadata(row: int) -> str:
    """The sidecar of a row in the layout "geneval"."""
    return f"{row:05}/metadata.jsonl"


def _geneval_sidecar(place: Place) -> tuple[str, str]:
    return geneval_metadata(place.row.number), json.dumps(dict(place.row.columns), default=str)


LAYOUTS = {
    # Ghosh et al. 2023: a folder a prompt, with the prompt's own line and four pictures.
    "geneval": Layout(
        "geneval",
        lambda place: f"{place.row.number:05}/samples/{place.copy:04}",
        count=4,
        sidecar=_geneval_sidecar,
    ),
    # Wu et al. 2023: a folder a style, in the order of the style's prompts.
    "hpsv2": Layout(
        "hpsv2",
        lambda place: f"{safe_name(str(place.row.columns['style']))}/{place.index:05}",
        ending=".jpg",
        columns=("style",),
    ),
}
DEFAULT = template("{id}")


def find_layout(layout: str | None, name: str | None, form: str) -> Layout:
    """What `--layout` or `--name` says.

    Raises:
        AmusedError: an unknown layout, or one with a name or a `form` other than "files".
    """
    if layout is None:
        return DEFAULT if name is None else template(name)
    if layout not in LAYOUTS:
        raise AmusedError(f"--layout is {layout!r}; allowed are {', '.join(LAYOUTS)}.")
    if name is not None or form != "files":
        raise AmusedError(f"--layout {layout} says names and format itself; leave --name and --format out.")
    return LAYOUTS[layout]
