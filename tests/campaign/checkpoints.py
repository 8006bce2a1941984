"""Damaged checkpoints: each loads and draws, or gives one sentence that names the file."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from amused_core import load_model
from tests.campaign.explore import explore, refusal
from tests.campaign.records import Record
from tests.campaign.world import World

CASES = 100
VALUES = [None, True, 0, -1, 3, 2.5, 1e300, 10**30, "", "x", "1", [], [0], {}, {"a": 1}, math.nan]
TEXTS = [b"", b"{", b"[]", b"{}", b"null", b"\xff\xfe\x00", b"version https://git-lfs", b"\xef\xbb\xbf{}"]


@dataclass(frozen=True)
class Damage:
    """What is done to one file, at `where` (0..1) of it; `value` is what JSON gets there."""

    file: str
    how: str
    where: float
    value: Any


def damages(folder: Path) -> st.SearchStrategy[Damage]:
    """All kinds of damage to all files of a model; no folder is the model as one file."""
    files = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    texts = [file for file in files if file.endswith(".json")]
    hows = ["bytes", "cut", "replace", "remove", "folder", "grow"]
    where = st.floats(0, 1, exclude_max=True)
    anywhere = st.builds(Damage, st.sampled_from(files), st.sampled_from(hows), where, st.sampled_from(TEXTS))
    entries = st.builds(Damage, st.sampled_from(texts), st.sampled_from(["entry", "drop"]), where, values())
    weights = [file for file in files if file.endswith(".safetensors")]
    headers = st.builds(Damage, st.sampled_from(weights), st.sampled_from(["header", "header drop"]), where, values())
    return st.one_of(anywhere, entries, headers) if texts else st.one_of(anywhere, headers)


def values() -> st.SearchStrategy[Any]:
    return st.one_of(st.sampled_from(VALUES), st.integers(-(2**70), 2**70), st.text(max_size=5))


def apply(damage: Damage, folder: Path) -> None:
    """Damages a file."""
    path, content = folder / damage.file, (folder / damage.file).read_bytes()
    position = int(damage.where * len(content))
    if damage.how == "remove":
        path.unlink()
    elif damage.how == "folder":
        path.unlink()
        path.mkdir()
    elif damage.how == "bytes":
        path.write_bytes(content[:position] + b"\xff" + content[position + 1 :])
    elif damage.how == "cut":
        path.write_bytes(content[:position])
    elif damage.how == "replace":
        path.write_bytes(damage.value)
    elif damage.how == "grow":
        path.write_bytes(content + damage.value)
    elif damage.how.startswith("header"):
        size = struct.unpack("<Q", content[:8])[0]
        header = edited(json.loads(content[8 : 8 + size]), damage, damage.how == "header drop")
        text = json.dumps(header).encode("utf-8", "surrogatepass")
        path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + size :])
    else:
        text = json.dumps(edited(json.loads(content), damage, damage.how == "drop"))
        path.write_text(text, "utf-8", errors="surrogatepass")


def edited(content: Any, damage: Damage, drop: bool) -> Any:
    """`content` with one of its values replaced or dropped."""
    places: list[tuple[Any, Any]] = []

    def walk(item: Any) -> None:
        for key in list(item) if isinstance(item, dict) else range(len(item)) if isinstance(item, list) else ():
            places.append((item, key))
            walk(item[key])

    walk(content)
    if places:
        item, key = places[int(damage.where * len(places))]
        if drop:
            del item[key]
        else:
            item[key] = damage.value
    return content


class Kind:
    """Blocks of damaged checkpoints: a folder and a single file by turns."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.file_folder = world.folder / "files"
        self.file_folder.mkdir()
        shutil.copyfile(world.one_file, self.file_folder / "model.safetensors")
        self.strategies = {folder: damages(folder) for folder in (world.model_folder, self.file_folder)}

    def block(self, record: Record, seed: int, known: set[str]) -> None:
        """Adds to `record` what a block of damages shows."""
        self.source = self.file_folder if record.block % 3 == 2 else self.world.model_folder
        explore(record, self.strategies[self.source], self.check, CASES, seed, known, describe)

    def check(self, damage: Damage) -> None:
        """Raises what is neither a picture nor a sentence that names the file."""
        copy = self.world.scratch / "model"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.source, copy)
        apply(damage, copy)
        path = copy if self.source == self.world.model_folder else copy / damage.file
        said = refusal(lambda: load_model(path).generate("a cat", steps=1))
        part = damage.file.split("/")[0]
        # Weights may be numbers, and yet too large to draw with.
        named = said is None or part in said or str(copy) in said or "weights are damaged" in said
        assert named, f"which file: {said}"


def describe(damage: Damage) -> str:
    """The damage in words."""
    return f"{damage.file}: {damage.how} at {damage.where:.4f} {damage.value!r}"


@contextlib.contextmanager
def kind(folder: Path) -> Iterator[Kind]:
    """The cases of this file, in a folder of their own."""
    yield Kind(World(folder))
