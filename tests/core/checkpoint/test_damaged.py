"""Checkpoints that are missing, incomplete, damaged or of another kind: one sentence, and the next load works."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from amused_core import CheckpointError, load_model

WEIGHTS = {
    "transformer": "transformer/diffusion_pytorch_model.safetensors",
    "vqvae": "vqvae/diffusion_pytorch_model.safetensors",
    "text_encoder": "text_encoder/model.safetensors",
}
CONFIGS = [
    "transformer/config.json",
    "vqvae/config.json",
    "text_encoder/config.json",
    "scheduler/scheduler_config.json",
]
PARTS = pytest.mark.parametrize("part", WEIGHTS)


@pytest.fixture
def refused(folder: Path) -> Callable[..., None]:
    """`refused(path, *parts)`: loading gives one sentence with every part of `parts`, and a good folder still loads."""

    def check(path: Any, *parts: str, **more: Any) -> None:
        with pytest.raises(CheckpointError) as caught:
            load_model(path, **more)
        text = str(caught.value)
        for part in parts:
            assert part in text, f"{part!r} is not in {text!r}"
        assert len(text) < 900 and not text.startswith("'model"), text
        load_model(folder)

    return check


def rewrite(file: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    state = load_file(file)
    change(state)
    save_file(state, file, metadata={"format": "pt"})


@pytest.mark.parametrize("path", ["/no/such/model", "no-model", "\0", "", 5, "~no-such-user-here/model", "x" * 300])
def test_nothing_there(refused: Callable[..., None], path: Any) -> None:
    refused(path, repr(path)[:60] if path != "\0" else "x00", "folder")


def test_a_folder_of_something_else(refused: Callable[..., None], tmp_path: Path) -> None:
    refused(tmp_path, str(tmp_path), "model_index.json")


def test_another_pipeline(refused: Callable[..., None], copy: Path) -> None:
    """Stable Diffusion has a model index too, but other parts."""
    (copy / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    shutil.rmtree(copy / "transformer")
    refused(copy, "transformer")


@pytest.mark.parametrize("file", CONFIGS)
@pytest.mark.parametrize("text", ["", "{", "[]", "\ufeff{}"])
def test_broken_json(refused: Callable[..., None], copy: Path, file: str, text: str) -> None:
    (copy / file).write_text(text, encoding="utf-8")
    refused(copy, file)


@pytest.mark.parametrize("file", CONFIGS)
def test_binary_json(refused: Callable[..., None], copy: Path, file: str) -> None:
    (copy / file).write_bytes(b"\xff\xfe\x00\x80" * 99)
    refused(copy, file, "JSON")


@pytest.mark.parametrize("file", [*CONFIGS, *WEIGHTS.values()])
def test_a_missing_file(refused: Callable[..., None], copy: Path, file: str) -> None:
    (copy / file).unlink()
    refused(copy, file.split("/")[0])


@pytest.mark.parametrize("part", [*WEIGHTS, "scheduler", "tokenizer"])
def test_a_missing_part(refused: Callable[..., None], copy: Path, part: str) -> None:
    shutil.rmtree(copy / part)
    refused(copy, part)


@pytest.mark.parametrize("file", [*CONFIGS, *WEIGHTS.values()])
def test_a_folder_in_a_files_place(refused: Callable[..., None], copy: Path, file: str) -> None:
    (copy / file).unlink()
    (copy / file).mkdir()
    refused(copy, file.split("/")[0])


@pytest.mark.parametrize(
    ("file", "wrong", "right"),
    [
        ("transformer/config.json", "UNet2DConditionModel", "UVit2DModel"),
        ("vqvae/config.json", "AutoencoderKL", "VQModel"),
        ("scheduler/scheduler_config.json", "DDIMScheduler", "AmusedScheduler"),
        ("scheduler/scheduler_config.json", None, "AmusedScheduler"),
    ],
)
def test_wrong_class(
    refused: Callable[..., None], edit: Callable[..., Path], file: str, wrong: str, right: str
) -> None:
    refused(edit(file, _class_name=wrong), repr(wrong), repr(right))


def test_another_text_encoder(refused: Callable[..., None], copy: Path) -> None:
    (copy / "text_encoder/config.json").write_text(
        '{"model_type": "t5", "architectures": ["T5EncoderModel"], "d_model": 32}'
    )
    save_file({"shared.weight": torch.zeros(9, 32)}, copy / WEIGHTS["text_encoder"])
    refused(copy, "text_encoder")


BAD_CONFIGS = [
    ("transformer/config.json", "hidden_size", "x"),
    ("transformer/config.json", "hidden_size", -32),
    ("transformer/config.json", "hidden_size", 0),
    ("transformer/config.json", "num_attention_heads", 0),
    ("transformer/config.json", "num_attention_heads", 3),
    ("transformer/config.json", "block_num_heads", 5),
    ("transformer/config.json", "in_channels", 2.5),
    ("transformer/config.json", "layer_norm_eps", "x"),
    ("transformer/config.json", "num_hidden_layers", -1),
    ("transformer/config.json", "num_res_blocks", "3"),
    ("transformer/config.json", "sample_size", [8, 8]),
    ("transformer/config.json", "sample_size", 0),
    ("transformer/config.json", "use_bias", "maybe"),
    ("transformer/config.json", "vocab_size", 64),
    ("transformer/config.json", "upsample", True),
    ("transformer/config.json", "micro_cond_encode_dim", 8),
    ("transformer/config.json", "block_out_channels", 10**30),
    ("transformer/config.json", "num_res_blocks", 10**6),
    ("transformer/config.json", "hidden_dropout", 3),
    ("vqvae/config.json", "block_out_channels", None),
    ("vqvae/config.json", "block_out_channels", 5),
    ("vqvae/config.json", "block_out_channels", []),
    ("vqvae/config.json", "norm_num_groups", 3),
    ("vqvae/config.json", "lookup_from_codebook", None),
    ("vqvae/config.json", "layers_per_block", 10**30),
    ("vqvae/config.json", "latent_channels", "x"),
    ("vqvae/config.json", "up_block_types", ["Nope"] * 3),
    ("scheduler/scheduler_config.json", "mask_token_id", None),
    ("scheduler/scheduler_config.json", "mask_token_id", "x"),
    ("scheduler/scheduler_config.json", "mask_token_id", -1),
    ("scheduler/scheduler_config.json", "mask_token_id", 5),
    ("scheduler/scheduler_config.json", "mask_token_id", 72),
    ("scheduler/scheduler_config.json", "masking_schedule", "sigmoid"),
    ("scheduler/scheduler_config.json", "masking_schedule", []),
    ("text_encoder/config.json", "hidden_size", "x"),
    ("text_encoder/config.json", "num_attention_heads", 5),
    ("text_encoder/config.json", "num_hidden_layers", 10**7),
    ("text_encoder/config.json", "hidden_act", "nope"),
    # What transformers takes, and fails with at the first prompt.
    ("text_encoder/config.json", "num_attention_heads", -1),
    ("text_encoder/config.json", "layer_norm_eps", {}),
    ("text_encoder/config.json", "eos_token_id", []),
    ("text_encoder/config.json", "eos_token_id", 10**30),
]


@pytest.mark.parametrize(("file", "key", "value"), BAD_CONFIGS, ids=str)
def test_a_config_that_describes_no_model(
    refused: Callable[..., None], edit: Callable[..., Path], file: str, key: str, value: Any
) -> None:
    path = edit(file, **{key: value})
    refused(path, str(path), key if file.startswith(("sched", "transf")) else file.split("/")[0])


def test_a_token_beyond_the_vocabulary(refused: Callable[..., None], edit: Callable[..., Path]) -> None:
    refused(edit("tokenizer/vocab.json", **{"!": 600}), "tokenizer has 601 entries", "vocab_size is 514")


@pytest.mark.parametrize(
    "recommended",
    [
        5,
        {"temperature": [1, 2, 3]},
        {"steps": "x"},
        {"cfg": None},
        {"width": []},
        {"schedule": "sigmoid"},
        {"cfg_schedule": "x"},
        {"cfg_interval": [1, 0]},
        {"top_k": 65},
        {"top_p": 0},
        {"sampling_temperature": 0},
    ],
    ids=str,
)
def test_a_broken_recommendation(refused: Callable[..., None], copy: Path, recommended: Any) -> None:
    (copy / "amused.json").write_text(json.dumps({"recommended": recommended}))
    refused(copy, "recommend")


@PARTS
@pytest.mark.parametrize("size", [0, 7, 0.999])
def test_truncated_weights(refused: Callable[..., None], copy: Path, part: str, size: float) -> None:
    file = copy / WEIGHTS[part]
    content = file.read_bytes()
    file.write_bytes(content[: size if isinstance(size, int) else int(size * len(content))])
    refused(copy, file.name, "safetensors")


@PARTS
@pytest.mark.parametrize(
    "content", [b"hello world\n" * 99, b"\xff" * 4096, pickle.dumps({"a": 1}), b"version https://git-lfs"]
)
def test_another_format_with_this_ending(refused: Callable[..., None], copy: Path, part: str, content: bytes) -> None:
    (copy / WEIGHTS[part]).write_bytes(content)
    refused(copy, Path(WEIGHTS[part]).name, "safetensors")


@PARTS
def test_pickle_only(refused: Callable[..., None], copy: Path, part: str) -> None:
    """Never opened: a pickle can run code."""
    file = copy / WEIGHTS[part]
    file.unlink()
    name = "pytorch_model.bin" if part == "text_encoder" else "diffusion_pytorch_model.bin"
    file.with_name(name).write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    refused(copy, part, "has no .safetensors weights", name, "only safetensors")


@PARTS
def test_missing_keys(refused: Callable[..., None], copy: Path, part: str) -> None:
    keys = sorted(load_file(copy / WEIGHTS[part]))
    rewrite(copy / WEIGHTS[part], lambda state: [state.pop(key) for key in keys[::2]])
    refused(copy, part, "lacks", f"and {len(keys[::2]) - 3} more")


@PARTS
def test_unexpected_keys(refused: Callable[..., None], copy: Path, part: str) -> None:
    rewrite(copy / WEIGHTS[part], lambda state: state.update({"extra.weight": torch.zeros(1)}))
    refused(copy, part, "unexpected", "extra.weight")


@PARTS
def test_wrong_shapes(refused: Callable[..., None], copy: Path, part: str) -> None:
    key = next(key for key, value in load_file(copy / WEIGHTS[part]).items() if value.ndim == 2)
    rewrite(copy / WEIGHTS[part], lambda state: state.update({key: state[key].T.contiguous()[:-1]}))
    refused(copy, part, "shape", key)


@PARTS
@pytest.mark.parametrize(
    ("dtype", "value"),
    [(torch.float32, float("nan")), (torch.float16, float("inf")), (torch.bfloat16, -float("inf"))],
)
def test_weights_that_are_no_numbers(
    refused: Callable[..., None], copy: Path, part: str, dtype: torch.dtype, value: float
) -> None:
    key = sorted(load_file(copy / WEIGHTS[part]))[-1]

    def poison(state: dict[str, torch.Tensor]) -> None:
        state[key] = state[key].to(dtype)
        state[key].view(-1)[-1] = value

    rewrite(copy / WEIGHTS[part], poison)
    refused(copy, part, "NaN or infinite", key)


@PARTS
def test_infinities_that_cancel(refused: Callable[..., None], copy: Path, part: str) -> None:
    def poison(state: dict[str, torch.Tensor]) -> None:
        flat = state[sorted(state)[0]].view(-1)
        flat[0], flat[-1] = float("inf"), -float("inf")

    rewrite(copy / WEIGHTS[part], poison)
    refused(copy, part, "NaN or infinite")


def test_huge_finite_weights_are_numbers(copy: Path) -> None:
    """Their sum overflows, they do not."""
    rewrite(copy / WEIGHTS["transformer"], lambda state: state["embed.embeddings.weight"].fill_(3e38))
    load_model(copy)


@PARTS
def test_integer_weights(refused: Callable[..., None], copy: Path, part: str) -> None:
    rewrite(copy / WEIGHTS[part], lambda state: state.update({key: value.long() for key, value in state.items()}))
    refused(copy, part, "int64")


@pytest.mark.parametrize("file", ["vocab.json", "merges.txt", "tokenizer_config.json"])
def test_a_broken_tokenizer(refused: Callable[..., None], copy: Path, file: str) -> None:
    (copy / "tokenizer" / file).write_text("one two three {")
    refused(copy, "tokenizer")


@pytest.mark.parametrize("file", ["special_tokens_map.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", [None, [], "x", 5, {"pad_token": None}, {"pad_token": []}], ids=str)
def test_special_tokens_that_are_none(refused: Callable[..., None], copy: Path, file: str, content: Any) -> None:
    for name in ("special_tokens_map.json", "tokenizer_config.json"):  # One of them is enough for transformers.
        if isinstance(content, dict):
            (copy / "tokenizer" / name).write_text(json.dumps({"model_max_length": 24, **content}))
    if not isinstance(content, dict):
        (copy / "tokenizer" / file).write_text(json.dumps(content))
    refused(copy, "pad_token" if isinstance(content, dict) else file)


@pytest.mark.parametrize("length", [None, "x", -1, 0, 2, 1.5, [], {}], ids=str)
def test_a_tokenizer_of_an_odd_length(refused: Callable[..., None], edit: Callable[..., Path], length: Any) -> None:
    if length is None:  # As if it were not there: the text encoder's own length.
        assert load_model(edit("tokenizer/tokenizer_config.json", model_max_length=None)).generate("a", steps=1)
    else:
        refused(edit("tokenizer/tokenizer_config.json", model_max_length=length), "model_max_length")


def test_a_tokenizer_without_its_words(refused: Callable[..., None], copy: Path) -> None:
    (copy / "tokenizer/vocab.json").unlink()
    refused(copy, "tokenizer")


def test_a_tokenizer_of_another_text_encoder(refused: Callable[..., None], copy: Path) -> None:
    """It has words that the text encoder lacks."""
    file = copy / "tokenizer/vocab.json"
    words = json.loads(file.read_text(encoding="utf-8"))
    words |= {f"word{index}</w>": len(words) + index for index in range(99)}
    file.write_text(json.dumps(words), encoding="utf-8")
    refused(copy, "tokenizer", "613", "514")


@pytest.mark.parametrize(("part", "other"), [("vqvae", "codebook"), ("text_encoder", "text")])
def test_parts_of_different_models(refused: Callable[..., None], copy: Path, part: str, other: str) -> None:
    """Each part is whole by itself but does not fit the others."""
    from diffusers import VQModel
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    config = json.loads((copy / part / "config.json").read_text())
    if part == "vqvae":
        VQModel.from_config(config | {"num_vq_embeddings": 32}).save_pretrained(copy / part)
    else:
        small = CLIPTextConfig(**config | {"hidden_size": 16, "projection_dim": 16})
        CLIPTextModelWithProjection(small).save_pretrained(copy / part)
    refused(copy, other)
