"""Reading good checkpoints: where they may lie, what is cast, what stays on disk."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from amused_core import AmusedError, AmusedModel, CheckpointError, load_model
from amused_core.bench.weights import RandomSource
from amused_core.checkpoint import Checkpoint, open_checkpoint, save_checkpoint
from amused_core.model.loading import build_text, build_transformer, build_vq

ROOT = Path(__file__).parents[3]
WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"
ALL = (WEIGHTS, "vqvae/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors")


def tokens(model: AmusedModel) -> torch.Tensor:
    return model.generate("a cat", steps=3, seed=4).tokens


def cast(file: Path, dtype: torch.dtype) -> None:
    save_file({key: value.to(dtype) for key, value in load_file(file).items()}, file, metadata={"format": "pt"})


def mapped_from(tensor: torch.Tensor) -> str:
    """The file that the memory of `tensor` is a map of, "" where it is none."""
    address = tensor.data_ptr()
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end = (int(part, 16) for part in line.split()[0].split("-"))
        if start <= address < end:
            return line.split(maxsplit=5)[5] if len(line.split()) > 5 else ""
    return ""


@pytest.mark.parametrize("name", ["with space", "تفاح 苹果 🍎", "dots.and.more", "x.safetensors", "-dash", "100%"])
@pytest.mark.parametrize("kind", [str, Path])
def test_any_folder_name(folder: Path, model: AmusedModel, tmp_path: Path, name: str, kind: type) -> None:
    (tmp_path / name).symlink_to(folder, target_is_directory=True)
    loaded = load_model(kind(tmp_path / name))
    assert loaded.checkpoint.name == name and torch.equal(tokens(loaded), tokens(model))


def test_a_relative_path_and_a_slash_at_the_end(
    folder: Path, model: AmusedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    assert torch.equal(tokens(load_model(f"{folder.name}/")), tokens(model))


def test_the_home_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    assert open_checkpoint(f"~/{folder.name}").factor == 4


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
@pytest.mark.parametrize("mmap", [False, True])
def test_weights_stay_on_disk_only_where_that_is_asked_for(folder: Path, mmap: bool) -> None:
    checkpoint = open_checkpoint(folder, mmap=mmap)
    modules = {
        "transformer": build_transformer(checkpoint),
        "vqvae": build_vq(checkpoint).module,
        "text_encoder": build_text(checkpoint).module,
    }
    for part, module in modules.items():
        for key, value in module.named_parameters():
            assert mapped_from(value).startswith(str(folder / part)) == mmap, key


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_on_disk_unless_a_cast_is_asked_for(copy: Path, dtype: torch.dtype) -> None:
    cast(copy / WEIGHTS, dtype)
    checkpoint = open_checkpoint(copy, mmap=True)
    assert {value.dtype for value in checkpoint.state("transformer").values()} == {dtype}
    kept = build_transformer(checkpoint)
    assert kept.encoder_proj.weight.dtype == dtype and mapped_from(kept.encoder_proj.weight)
    wide = build_transformer(checkpoint, torch.float32)
    assert {value.dtype for value in wide.parameters()} == {torch.float32}


def test_no_weight_asks_for_a_gradient(model: AmusedModel) -> None:
    for module in (model.transformer, model.text.module, model.vq.module):
        assert not module.training and not any(value.requires_grad for value in module.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_stored_in_half_precision_runs_on_a_cpu(copy: Path, dtype: torch.dtype) -> None:
    for file in ALL:
        cast(copy / file, dtype)
    model = load_model(copy)
    assert model.transformer.encoder_proj.weight.dtype == torch.float32
    assert next(model.vq.module.parameters()).dtype == torch.float32
    assert torch.isfinite(model.generate("a cat", steps=2).images).all()


def test_parts_in_different_dtypes(copy: Path) -> None:
    cast(copy / "text_encoder/model.safetensors", torch.float16)
    assert torch.isfinite(load_model(copy).generate("a cat", steps=2).images).all()


def variant(folder: Path, name: str, keep: bool) -> None:
    for file in ALL:
        path = folder / file
        shutil.copy(path, path.with_name(f"{path.stem}.{name}.safetensors"))
        if not keep:
            path.unlink()


def test_a_variant_by_name(copy: Path, model: AmusedModel) -> None:
    variant(copy, "fp16", keep=True)
    cast(copy / "transformer/diffusion_pytorch_model.fp16.safetensors", torch.float16)
    assert open_checkpoint(copy).state("transformer")["encoder_proj.weight"].dtype == torch.float32
    assert open_checkpoint(copy, "fp16").state("transformer")["encoder_proj.weight"].dtype == torch.float16
    assert torch.equal(tokens(load_model(copy)), tokens(model))


def test_the_only_variant_is_taken(copy: Path, model: AmusedModel) -> None:
    variant(copy, "fp16", keep=False)
    assert torch.equal(tokens(load_model(copy)), tokens(model))
    assert torch.equal(tokens(load_model(copy, variant="fp16")), tokens(model))


def test_two_variants_and_no_choice(copy: Path) -> None:
    variant(copy, "fp16", keep=True)
    variant(copy, "bf16", keep=False)
    (copy / "transformer/diffusion_pytorch_model.fp16.bf16.safetensors").unlink(missing_ok=True)
    with pytest.raises(CheckpointError, match=r"diffusion_pytorch_model.bf16.safetensors, .*fp16.safetensors"):
        load_model(copy)


@pytest.mark.parametrize("name", ["fp16", "", "non_ema"])
def test_an_absent_variant(copy: Path, name: str) -> None:
    if not name:
        assert load_model(copy, variant=name)
        return
    with pytest.raises(CheckpointError, match=rf"variant '{name}'.*holds config.json, diffusion_pytorch_model"):
        load_model(copy, variant=name)


@pytest.mark.parametrize("part", range(3))
@pytest.mark.parametrize("has", [True, False])
def test_a_variant_of_some_parts(copy: Path, part: int, has: bool) -> None:
    """As diffusers does (diffusers#11182): a part without it is read plain."""
    import diffusers

    for index, file in enumerate(ALL):
        if (index == part) is has:
            path = copy / file
            half = path.with_name(f"{path.stem}.fp16.safetensors")
            save_file({key: value.half() * 0.5 for key, value in load_file(path).items()}, half, {"format": "pt"})
    theirs = diffusers.AmusedPipeline.from_pretrained(copy, variant="fp16")
    checkpoint = open_checkpoint(copy, "fp16")
    for index, file in enumerate(ALL):
        name = file.split("/")[0]
        state = checkpoint.state(name)
        assert {value.dtype for value in state.values()} == {torch.float16 if (index == part) is has else torch.float32}
        want = dict(getattr(theirs, name).named_parameters())
        assert all(torch.equal(state[key].float(), value.float()) for key, value in want.items()) and len(want) > 5
    assert torch.isfinite(load_model(copy, variant="fp16").generate("a cat", steps=1).images).all()


def test_a_part_with_another_variant_only(copy: Path) -> None:
    """Neither the one that is asked for nor the plain one: diffusers refuses it, too."""
    for file, name in zip(ALL, ("fp16", "bf16", "fp16"), strict=True):
        path = copy / file
        path.rename(path.with_name(f"{path.stem}.{name}.safetensors"))
    with pytest.raises(CheckpointError, match=rf"{ALL[1].split('/')[0]}.*variant 'fp16'.*bf16"):
        load_model(copy, variant="fp16")


def shard(file: Path, infix: str = "") -> list[Path]:
    """Splits a weight file in two, with diffusers' index."""
    state = list(load_file(file).items())
    where: dict[str, Any] = {}
    shards = []
    for index, part in enumerate((state[::2], state[1::2])):
        shards.append(file.with_name(f"{file.stem}{infix}-{index + 1:05}-of-00002.safetensors"))
        save_file(dict(part), shards[-1], metadata={"format": "pt"})
        where.update({key: shards[-1].name for key, _ in part})
    index_file = file.with_name(f"{file.stem}.safetensors.index{infix}.json")
    index_file.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": where}))
    file.unlink()
    return shards


def test_shards(copy: Path, model: AmusedModel) -> None:
    for file in ALL:
        shard(copy / file)
    assert torch.equal(tokens(load_model(copy)), tokens(model))


@pytest.mark.parametrize("name", ["fp16", None])
def test_shards_of_a_variant(copy: Path, model: AmusedModel, name: str | None) -> None:
    """Also where it is the only one and is not asked for by name."""
    for file in ALL:
        shard(copy / file, ".fp16")
    assert torch.equal(tokens(load_model(copy, variant=name)), tokens(model))


def test_a_missing_shard(copy: Path) -> None:
    gone = shard(copy / WEIGHTS)[1]
    gone.unlink()
    with pytest.raises(CheckpointError, match=gone.name):
        load_model(copy)


@pytest.mark.parametrize("index", ["{}", '{"weight_map": 5}', '{"weight_map": {"a": 5}}', "[]", "{"])
def test_a_broken_index(copy: Path, index: str) -> None:
    shard(copy / WEIGHTS)
    (copy / "transformer/diffusion_pytorch_model.safetensors.index.json").write_text(index)
    with pytest.raises(CheckpointError, match="transformer"):
        load_model(copy)


def test_an_index_stays_in_its_folder(copy: Path, tmp_path: Path) -> None:
    shutil.move(copy / WEIGHTS, tmp_path / "outside.safetensors")
    keys = load_file(tmp_path / "outside.safetensors")
    index = {"weight_map": dict.fromkeys(keys, "../../outside.safetensors")}
    (copy / "transformer/diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="outside.safetensors"):
        load_model(copy)


def test_a_stored_constant_buffer_is_ignored(copy: Path, model: AmusedModel) -> None:
    """Text encoders written by older transformers versions carry their position ids."""
    file = copy / "text_encoder/model.safetensors"
    state = {**load_file(file), "text_model.embeddings.position_ids": torch.arange(24)[None]}
    save_file(state, file, metadata={"format": "pt"})
    assert torch.equal(tokens(load_model(copy)), tokens(model))


@pytest.mark.parametrize(
    ("argument", "value", "allowed"),
    [
        ("dtype", "float32", "auto, fp32, fp16, bf16"),
        ("dtype", "", "auto, fp32, fp16, bf16"),
        ("dtype", None, "auto, fp32, fp16, bf16"),
        ("dtype", [], "auto, fp32, fp16, bf16"),
        ("dtype", torch.float16, "auto, fp32, fp16, bf16"),
        ("device", "xpu", "auto, cpu, cuda, mps"),
        ("device", "", "auto, cpu, cuda, mps"),
        ("device", None, "auto, cpu, cuda, mps"),
        ("device", 5, "auto, cpu, cuda, mps"),
        ("device", "cpu:x", "cpu:x"),
        ("device", "cuda:9999", "cannot be used here"),
    ],
    ids=str,
)
def test_refused_arguments(folder: Path, argument: str, value: Any, allowed: str) -> None:
    with pytest.raises(AmusedError) as caught:
        load_model(folder, **{argument: value})
    text = str(caught.value)
    assert argument in text and repr(value) in text and allowed in text and "\n" not in text


def test_a_torch_device_is_a_device(folder: Path) -> None:
    assert load_model(folder, device=torch.device("cpu")).device == torch.device("cpu")


class Shallow(RandomSource):
    """Random weights of the real sizes, a single layer of each."""

    def __init__(self) -> None:
        super().__init__("256", seed=0)
        self._configs["transformer"] |= {"num_hidden_layers": 1, "num_res_blocks": 1}
        self._configs["text_encoder"] = {**self._configs["text_encoder"], "num_hidden_layers": 3}
        self._configs["vqvae"] = {**self._configs["vqvae"], "block_out_channels": [32, 32, 64, 64, 128]}


LOADED = """
import sys
from amused_core import load_model
from amused_core.bench.memory import high_water
load_model()  # What all models need.
before = high_water()
model = load_model(sys.argv[1], dtype="fp32")
print(high_water() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("name", ["folder", "file.safetensors"])
def test_loading_takes_no_more_memory_than_the_weights(tmp_path: Path, name: str, dtype: torch.dtype) -> None:
    """Loaded in fp32: where halves are stored, each weight's two forms are there together only while it is cast."""
    path = tmp_path / name
    save_checkpoint(path, Checkpoint(Path("shallow"), Shallow()), dtype)
    files = [path] if path.is_file() else list(path.rglob("*.safetensors"))
    size = sum(file.stat().st_size for file in files) * 4 // dtype.itemsize
    run = subprocess.run([sys.executable, "-c", LOADED, path], capture_output=True, text=True, check=True, cwd=ROOT)
    added = int(run.stdout.splitlines()[-1])
    assert size > 200e6 and 0.8 * size < added <= 1.1 * size
