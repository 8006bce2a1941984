"""Reading `.safetensors` files: what the library writes, what it would refuse, and files that change meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from amused_core import CheckpointError, load_model
from amused_core.checkpoint import open_checkpoint, save_checkpoint
from amused_core.files import tensors
from amused_core.files.tensors import DTYPES, TensorFile, read_header, read_tensors

ROOT = Path(__file__).parents[3]
TENSORS = {
    "b": torch.arange(6, dtype=torch.float32).view(2, 3),
    "a": torch.tensor(2.5, dtype=torch.float16),
    "none": torch.zeros(0, 3),
    "odd": torch.tensor([True, False, True]),
    "last": torch.arange(5, dtype=torch.bfloat16),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save_file(TENSORS, tmp_path / "x.safetensors", metadata={"name": "\u82f9\u679c"})
    return tmp_path / "x.safetensors"


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        one[key].dtype == other[key].dtype and torch.equal(one[key], other[key]) for key in one
    )


@pytest.mark.parametrize("mmap", [False, True])
def test_what_the_library_wrote(file: Path, mmap: bool) -> None:
    content = TensorFile(file)
    assert content.metadata["name"] == "\u82f9\u679c"
    assert same(content.read(mmap=mmap), TENSORS)
    assert list(content.read(["a"], mmap)) == ["a"]
    layout = content.layout()
    assert {key: (v.shape, v.dtype) for key, v in layout.items()} == {k: (v.shape, v.dtype) for k, v in TENSORS.items()}
    assert all(value.is_meta for value in layout.values())


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_every_dtype(tmp_path: Path, dtype: torch.dtype) -> None:
    value = torch.tensor([[0, 1, 2]]).to(dtype)
    save_file({"x": value}, tmp_path / "x.safetensors")
    (read,) = read_tensors(tmp_path / "x.safetensors")[0].values()
    assert read.dtype == dtype and torch.equal(read.float(), value.float())


def written(place: Path, header: Any, data: bytes = bytes(8), size: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    place.write_bytes((len(text) if size is None else size).to_bytes(8, "little") + text + data)
    return place


GOOD = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
REFUSED = {
    "no file": None,
    "empty": b"",
    "five bytes": b"12345",
    "text": b"<!DOCTYPE html><html>not found</html>",
    "length beyond all bounds": (b"{}", b"", 2**63),
    "longer header than file": (b'{"x"', b"", 4000),
    "no JSON": (b"{x}",),
    "no UTF-8": (b'{"\xff": 1}',),
    "a list": ([GOOD],),
    "too deep": (b'{"x":' + b"[" * 200_000,),
    "no offsets": ({"x": {"dtype": "F32", "shape": [2]}},),
    "no entry": ({"x": 5},),
    "unknown dtype": ({"x": GOOD | {"dtype": "F33"}},),
    "a dtype that is a list": ({"x": GOOD | {"dtype": ["F32"]}},),
    "negative side": ({"x": GOOD | {"shape": [-2]}},),
    "a side that is no number": ({"x": GOOD | {"shape": ["2"]}},),
    "more than its place": ({"x": GOOD | {"shape": [3]}},),
    "backwards": ({"x": GOOD | {"data_offsets": [8, 0]}},),
    "a gap": ({"x": GOOD | {"data_offsets": [8, 16]}}, bytes(16)),
    "one over the other": ({"x": GOOD, "y": GOOD},),
    "cut short": ({"x": GOOD}, bytes(7)),
    "more at the end": ({"x": GOOD}, bytes(9)),
    "metadata that are no texts": ({"x": GOOD, "__metadata__": {"a": 5}},),
}


@pytest.mark.parametrize("damage", REFUSED)
def test_what_the_library_refuses_is_refused(tmp_path: Path, damage: str) -> None:
    content, place = REFUSED[damage], tmp_path / "x.safetensors"
    if isinstance(content, bytes):
        place.write_bytes(content)
    elif content is not None:
        written(place, *content)
    with pytest.raises((SafetensorError, OSError)):
        safe_open(place, framework="pt")
    with pytest.raises(CheckpointError, match=r"x\.safetensors' cannot be read as safetensors: ") as caught:
        TensorFile(place)
    assert len(str(caught.value)) < 400


def test_half_a_file_says_so(file: Path) -> None:
    size = file.stat().st_size
    with file.open("rb+") as content:
        content.truncate(size - 3)
    with pytest.raises(CheckpointError, match=f"not complete, {size - 3} of {size} bytes are there"):
        TensorFile(file)


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("change", ["shorter", "gone", "other"])
def test_a_file_that_changed_since(file: Path, change: str, mmap: bool) -> None:
    content = TensorFile(file)
    if change == "shorter":
        with file.open("rb+") as handle:
            handle.truncate(100)
    elif change == "gone":
        file.unlink()
    else:
        save_file({**TENSORS, "b": TENSORS["b"] + 1}, file)
        os.utime(file, ns=(0, 0))
    with pytest.raises(CheckpointError, match=r"x\.safetensors"):
        content.read(mmap=mmap)


def test_a_file_that_is_replaced_while_it_is_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a training run does with each saved state: the version that was opened is read to its end."""

    def replace_after(content: BinaryIO) -> tuple[dict[str, Any], int]:
        header = read_header(content)
        save_file({"b": torch.zeros(9)}, file.with_name("new"), metadata={"name": "new"})
        file.with_name("new").replace(file)
        return header

    monkeypatch.setattr(tensors, "read_header", replace_after)
    read, metadata = read_tensors(file)
    assert same(read, TENSORS) and metadata["name"] == "\u82f9\u679c"


# Loads argv[1] in the stored dtype, says so, and draws when the file has been overwritten.
DRAWN = """
import sys
import torch
from amused_core import load_model

model = load_model(sys.argv[1], dtype=sys.argv[2])
lora = model.load_lora(sys.argv[3])
tokens = model.generate("a cat", steps=2).tokens
print("ready", flush=True)
input()
model.reuse = False
assert torch.equal(model.generate("a cat", steps=2).tokens, tokens)
print("drawn")
"""


@pytest.mark.parametrize(("name", "dtype"), [("folder", "fp32"), ("file.safetensors", "bf16")])
def test_overwriting_in_place_does_not_end_python(tmp_path: Path, name: str, dtype: str) -> None:
    """As `cp other.safetensors model.safetensors` does: the same file, emptied and filled anew."""
    path = tmp_path / name
    save_checkpoint(path, open_checkpoint(), {"fp32": None, "bf16": torch.bfloat16}[dtype])
    lora = tmp_path / "lora.safetensors"
    lora.write_bytes((ROOT / "amused_core/embedded/loras/dotted.safetensors").read_bytes())
    command = [sys.executable, "-c", DRAWN, path, dtype, lora]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        for file in (lora, path) if path.is_file() else (lora, *path.rglob("*.safetensors")):
            with file.open("rb+") as content:
                content.truncate(0)
        assert process.communicate("\n")[0] == "drawn\n"
    assert process.returncode == 0


@pytest.mark.parametrize("name", ["folder", "file.safetensors"])
def test_mapped_weights_draw_the_same(tmp_path: Path, folder: Path, name: str) -> None:
    save_checkpoint(tmp_path / name, open_checkpoint(folder))
    mapped, read = (load_model(tmp_path / name, mmap=mmap) for mmap in (True, False))
    assert torch.equal(*(model.generate("a cat", steps=3, seed=4).tokens for model in (mapped, read)))
