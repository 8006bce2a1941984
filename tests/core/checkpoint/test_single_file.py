"""A whole model as one `.safetensors` file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from amused_core import AmusedError, AmusedModel, CheckpointError, load_model
from amused_core.checkpoint import open_checkpoint
from amused_core.checkpoint.single_file import METADATA_KEY, write_checkpoint


@pytest.fixture(scope="module")
def one(model: AmusedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`model` as one file."""
    file = tmp_path_factory.mktemp("one") / "tiny.safetensors"
    model.save(file)
    return file


def tokens(model: AmusedModel) -> torch.Tensor:
    return model.generate(["a cat", "تفاح 苹果 🍎"], negative_prompt="x", steps=3, seed=4).tokens


def damaged(one: Path, target: Path, change: Any) -> Path:
    """A copy with `change(tensors, about)` applied; what it returns, if anything, is the metadata's text."""
    with safe_open(one, "pt") as file:
        about = json.loads(file.metadata()[METADATA_KEY])
    state = load_file(one)
    text = change(state, about)
    save_file(state, target, metadata={METADATA_KEY: json.dumps(about) if text is None else text})
    return target


def test_the_same_model(one: Path, model: AmusedModel) -> None:
    loaded = load_model(one)
    assert torch.equal(tokens(loaded), tokens(model))
    assert loaded.checkpoint.recommended == model.checkpoint.recommended
    assert loaded.checkpoint.name == model.checkpoint.name
    for part in ("transformer", "vqvae", "text_encoder", "scheduler"):
        assert loaded.checkpoint.config(part) == model.checkpoint.config(part)
    for part in ("transformer", "vqvae", "text_encoder"):
        want, got = model.checkpoint.state(part), loaded.checkpoint.state(part)
        assert want.keys() == got.keys() and all(torch.equal(want[key], got[key]) for key in want)


@pytest.mark.parametrize("text", ["a cat", "", "  two  spaces ", "تفاح 苹果 🍎", "A" * 99, "<|endoftext|> x"])
def test_the_same_tokenizer(one: Path, model: AmusedModel, text: str) -> None:
    other = open_checkpoint(one).tokenizer()
    arguments = {"padding": "max_length", "truncation": True, "max_length": 24}
    assert other(text, **arguments).input_ids == model.text.tokenizer(text, **arguments).input_ids
    assert other.model_max_length == model.text.tokenizer.model_max_length


def test_the_extras_travel_along(copy: Path, tmp_path: Path) -> None:
    (copy / "amused.json").write_text(json.dumps({"name": "Ünï 苹果", "recommended": {"cfg": 2.5}, "licence": "x"}))
    file = tmp_path / "a" / "b" / "m.safetensors"
    load_model(copy).save(file)
    again = open_checkpoint(file)
    assert again.name == "Ünï 苹果" and again.recommended.cfg == 2.5 and again.extra()["licence"] == "x"


@pytest.mark.parametrize(
    ("name", "dtype"), [("fp16", torch.float16), ("bf16", torch.bfloat16), ("fp32", torch.float32)]
)
def test_a_cast_where_it_is_asked_for(model: AmusedModel, tmp_path: Path, name: str, dtype: torch.dtype) -> None:
    model.save(tmp_path / "m.safetensors", dtype=name)
    assert {value.dtype for value in load_file(tmp_path / "m.safetensors").values()} == {dtype}
    loaded = load_model(tmp_path / "m.safetensors")
    assert loaded.transformer.encoder_proj.weight.dtype == torch.float32
    assert torch.isfinite(loaded.generate("a cat", steps=2).images).all()


def test_onto_itself(one: Path, tmp_path: Path, model: AmusedModel) -> None:
    file = tmp_path / "m.safetensors"
    file.write_bytes(one.read_bytes())
    loaded = load_model(file)
    loaded.save(file, dtype="fp16")
    assert torch.equal(tokens(loaded), tokens(model))
    assert open_checkpoint(file).state("transformer")["encoder_proj.weight"].dtype == torch.float16
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]


def test_nothing_half_written_is_left(model: AmusedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(tensors: Any, path: Path, metadata: Any) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("safetensors.torch.save_file", fail)
    with pytest.raises(AmusedError, match=r"m\.safetensors' cannot be written.*No space left"):
        model.save(tmp_path / "m.safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["m.bin", "m.CKPT", "m.safetensors.bak", ".safetensors"])
def test_the_ending(model: AmusedModel, tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match=r"must end in \.safetensors"):
        model.save(tmp_path / name)


def test_another_ending_for_one_file(one: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"'.*m' must end in \.safetensors"):
        write_checkpoint(tmp_path / "m", open_checkpoint(one))


@pytest.mark.parametrize("dtype", ["int8", None, torch.float16, []])
def test_unknown_dtype(model: AmusedModel, tmp_path: Path, dtype: Any) -> None:
    with pytest.raises(AmusedError) as caught:
        model.save(tmp_path / "m.safetensors", dtype=dtype)
    assert repr(dtype) in str(caught.value) and "auto, fp32, fp16, bf16" in str(caught.value)


def test_a_foreign_file(tmp_path: Path) -> None:
    file = tmp_path / "sd15.safetensors"
    save_file({"model.diffusion_model.x": torch.zeros(1)}, file)
    with pytest.raises(CheckpointError, match=r"sd15.*no aMUSEd configuration.*amused save"):
        load_model(file)


def test_a_variant_of_a_file(one: Path) -> None:
    with pytest.raises(CheckpointError, match="variant 'fp16' is for folders"):
        load_model(one, variant="fp16")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "5"])
def test_broken_metadata(one: Path, tmp_path: Path, text: str) -> None:
    file = damaged(one, tmp_path / "m.safetensors", lambda state, about: text)
    with pytest.raises(CheckpointError, match=r"m\.safetensors"):
        load_model(file)


@pytest.mark.parametrize("key", ["transformer", "vqvae", "text_encoder", "scheduler", "tokenizer"])
@pytest.mark.parametrize("value", [None, 5, {}])
def test_a_missing_or_broken_entry(one: Path, tmp_path: Path, key: str, value: Any) -> None:
    def change(state: dict[str, torch.Tensor], about: dict[str, Any]) -> None:
        del about[key]
        if value is not None:
            about[key] = value

    with pytest.raises(CheckpointError, match=key):
        load_model(damaged(one, tmp_path / "m.safetensors", change))


def test_a_broken_tokenizer(one: Path, tmp_path: Path) -> None:
    file = damaged(one, tmp_path / "m.safetensors", lambda state, about: about["tokenizer"].update(json="{"))
    with pytest.raises(CheckpointError, match="tokenizer"):
        load_model(file)


def test_weights_of_no_part(one: Path, tmp_path: Path) -> None:
    file = damaged(one, tmp_path / "m.safetensors", lambda state, about: state.update({"lora.x": torch.zeros(1)}))
    with pytest.raises(CheckpointError, match=r"unexpected.*lora\.x"):
        load_model(file)


@pytest.mark.parametrize("part", ["transformer", "vqvae", "text_encoder"])
def test_a_part_without_weights(one: Path, tmp_path: Path, part: str) -> None:
    def change(state: dict[str, torch.Tensor], about: dict[str, Any]) -> None:
        for key in [key for key in state if key.startswith(part)]:
            del state[key]

    with pytest.raises(CheckpointError, match=f"the {part} lacks"):
        load_model(damaged(one, tmp_path / "m.safetensors", change))


@pytest.mark.parametrize("size", [0, 5, 0.3, 0.99])
def test_truncated(one: Path, tmp_path: Path, size: float) -> None:
    content = one.read_bytes()
    file = tmp_path / "m.safetensors"
    file.write_bytes(content[: int(size * len(content)) if isinstance(size, float) else size])
    with pytest.raises(CheckpointError, match=r"m\.safetensors.*safetensors"):
        load_model(file)


def test_write_checkpoint_takes_a_folder_or_a_file(one: Path, folder: Path, tmp_path: Path) -> None:
    for index, source in enumerate((one, folder)):
        write_checkpoint(str(tmp_path / f"{index}.safetensors"), open_checkpoint(source))
    first, second = (load_file(tmp_path / f"{index}.safetensors") for index in (0, 1))
    assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
