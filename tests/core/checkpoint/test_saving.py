"""Models, tokens and pictures on disk: what was written draws the same again, in diffusers too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from amused_core import AmusedError, AmusedModel, CheckpointError, load_model
from amused_core.checkpoint import Checkpoint, open_checkpoint, save_checkpoint
from amused_core.checkpoint.folder import FolderSource
from amused_core.cli import main
from amused_core.files import writing
from amused_core.files.tokens import read_tokens, save_tokens
from amused_core.files.writing import PREFIX

PROMPTS = ["a cat", "", "  two  spaces ", "A" * 99, "<|endoftext|> x", "isn't it?! 12,5", "ÀÉ über"]
FILES = {
    "amused.json", "model_index.json", "scheduler/scheduler_config.json", "text_encoder/config.json",
    "text_encoder/model.safetensors", "tokenizer/merges.txt", "tokenizer/special_tokens_map.json",
    "tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json", "tokenizer/vocab.json", "transformer/config.json",
    "transformer/diffusion_pytorch_model.safetensors", "vqvae/config.json", "vqvae/diffusion_pytorch_model.safetensors",
}  # fmt: skip


@pytest.fixture(scope="module")
def saved(model: AmusedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`model` as a folder, by way of one file, whose tokenizer is not CLIP's own class."""
    place = tmp_path_factory.mktemp("saved")
    model.save(place / "one.safetensors")
    save_checkpoint(place / "folder", open_checkpoint(place / "one.safetensors"))
    return place / "folder"


def draw(model: AmusedModel, **more: Any) -> torch.Tensor:
    return model.generate(["a cat", "تفاح 苹果 🍎"], negative_prompt="x", steps=3, seed=4, **more).tokens


def test_a_folder_is_the_same_model(saved: Path, model: AmusedModel) -> None:
    assert {path.relative_to(saved).as_posix() for path in saved.rglob("*") if path.is_file()} == FILES
    loaded = load_model(saved)
    assert torch.equal(draw(loaded), draw(model))
    assert loaded.checkpoint.recommended == model.checkpoint.recommended
    assert loaded.checkpoint.name == model.checkpoint.name
    for part in ("transformer", "vqvae", "text_encoder"):
        want, got = model.checkpoint.state(part), loaded.checkpoint.state(part)
        assert want.keys() == got.keys() and all(torch.equal(want[key], got[key]) for key in want)
    assert [path.name for path in saved.parent.glob(f"{PREFIX}*")] == []


@pytest.mark.parametrize("dtype", [None, torch.float16])
def test_diffusers_draws_the_same(model: AmusedModel, tmp_path: Path, dtype: torch.dtype | None) -> None:
    import diffusers

    save_checkpoint(tmp_path / "m", model.checkpoint, dtype)
    pipe = diffusers.AmusedPipeline.from_pretrained(tmp_path / "m", torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    got = pipe(
        ["a cat", "two dogs"], num_inference_steps=4, guidance_scale=3.0, output_type="latent",
        generator=torch.Generator().manual_seed(7), height=32, width=32, negative_prompt=["x", "x"],
    ).images  # fmt: skip
    ours = load_model(tmp_path / "m")
    want = ours.generate(
        ["a cat", "two dogs"], "x", steps=4, cfg=3.0, temperature=(2.0, 0.0), seed=7, seeding="diffusers"
    )
    assert torch.equal(got, want.tokens)
    stored = {
        value.dtype for part in ("transformer", "vqvae", "text_encoder") for value in _weights(tmp_path / "m", part)
    }
    assert stored == {dtype or torch.float32}


def test_diffusers_knows_the_dtype_of_every_part(model: AmusedModel, tmp_path: Path) -> None:
    """Without being told one, it loads a folder of half precision and draws with it."""
    import diffusers

    save_checkpoint(tmp_path / "m", model.checkpoint, torch.float16)
    pipe = diffusers.AmusedPipeline.from_pretrained(tmp_path / "m")
    pipe.set_progress_bar_config(disable=True)
    assert pipe("a cat", num_inference_steps=2, height=32, width=32).images[0].size == (32, 32)


@pytest.mark.parametrize("name", ["CLIPTokenizer", "CLIPTokenizerFast"])
def test_transformers_reads_the_same_tokenizer(saved: Path, model: AmusedModel, name: str) -> None:
    import transformers

    tokenizer = getattr(transformers, name).from_pretrained(saved / "tokenizer")
    arguments = {"padding": "max_length", "truncation": True, "max_length": 24}
    for prompt in PROMPTS:
        assert tokenizer(prompt, **arguments).input_ids == model.text.tokenizer(prompt, **arguments).input_ids
    assert tokenizer.model_max_length == model.text.tokenizer.model_max_length == 24


def test_the_embedded_tokenizer_survives(tmp_path: Path) -> None:
    """One that has merges."""
    save_checkpoint(tmp_path / "m", open_checkpoint())
    want, got = (open_checkpoint(path).tokenizer() for path in (None, tmp_path / "m"))
    text = "two red apples beside a small blue boat, zebra-striped"
    assert got(text).input_ids == want(text).input_ids and len(got(text).input_ids) < len(text) // 2


def _weights(folder: Path, part: str) -> list[torch.Tensor]:
    return list(load_file(next((folder / part).glob("*.safetensors"))).values())


def test_a_folder_is_never_overwritten(saved: Path, model: AmusedModel) -> None:
    before = {path: path.stat().st_mtime_ns for path in saved.rglob("*")}
    with pytest.raises(CheckpointError, match="folder' already exists"):
        model.save(saved)
    assert {path: path.stat().st_mtime_ns for path in saved.rglob("*")} == before


def test_half_a_folder_is_not_left(model: AmusedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither an error nor an interrupt leaves anything; what a crash left is no obstacle."""
    (tmp_path / f"{PREFIX}x" / "transformer").mkdir(parents=True)
    for error, expected in (
        (OSError(28, "No space left on device"), AmusedError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ):

        def fail(tensors: Any, path: Path, metadata: Any, error: BaseException = error) -> None:
            Path(path).write_bytes(b"half")
            raise error

        with monkeypatch.context() as patch:
            patch.setattr("safetensors.torch.save_file", fail)
            with pytest.raises(expected):
                model.save(tmp_path / "m")
        assert list(tmp_path.iterdir()) == []
    writing._cleared.clear()  # As another process.
    (tmp_path / f"{PREFIX}x" / "transformer").mkdir(parents=True)
    model.save(tmp_path / "m")
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize("name", ["m", "m.safetensors"])
def test_weights_that_are_no_numbers(folder: Path, tmp_path: Path, name: str) -> None:
    class Broken(FolderSource):
        def state(self, part: str) -> dict[str, torch.Tensor]:
            state = super().state(part)
            return state | {"conv_in.bias" if part == "x" else key: value / 0 for key, value in list(state.items())[:1]}

    with pytest.raises(CheckpointError, match="transformer has NaN or infinite values"):
        save_checkpoint(tmp_path / name, Checkpoint(folder, Broken(folder, None)))
    assert list(tmp_path.iterdir()) == []


def test_a_tokenizer_of_another_kind(folder: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    class Other(FolderSource):
        def tokenizer(self) -> Any:
            return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel({"a": 0}, unk_token="a")))

    with pytest.raises(CheckpointError, match="'WordLevel'.*'BPE'"):
        save_checkpoint(tmp_path / "m", Checkpoint(folder, Other(folder, None)))


def test_the_command_writes_a_folder(
    folder: Path, tmp_path: Path, model: AmusedModel, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "a b" / "amused-1.5"
    assert main(["save", str(target), "--model", str(folder)]) == 0
    assert str(target) in capsys.readouterr().out
    assert torch.equal(draw(load_model(target)), draw(model))
    assert main(["save", str(target), "--model", str(folder)]) == 2
    assert "already exists" in capsys.readouterr().err


def test_tokens_come_back(tmp_path: Path) -> None:
    tokens = torch.randint(-1, 64, (3, 5, 7), generator=torch.Generator().manual_seed(0))
    file = save_tokens(tokens, tmp_path / "new" / "t.npy")
    array = np.load(file)
    assert array.dtype == np.int64 and array.min() == -1
    assert torch.equal(read_tokens(file, 64), tokens)
    assert [path.name for path in file.parent.iterdir()] == ["t.npy"]


@pytest.mark.parametrize("dtype", ["uint8", "int16", "<i4", ">i8", "uint64"])
def test_whole_numbers_of_every_size(tmp_path: Path, dtype: str) -> None:
    np.save(tmp_path / "t.npy", np.arange(12, dtype=dtype).reshape(1, 3, 4))
    assert torch.equal(read_tokens(tmp_path / "t.npy", 12), torch.arange(12).reshape(1, 3, 4))


@pytest.mark.parametrize(
    ("array", "parts"),
    [
        (np.zeros((4, 4), "int64"), ("[4, 4]", "[batch, height, width]")),
        (np.zeros((1, 1, 4, 4), "int64"), ("[1, 1, 4, 4]",)),
        (np.zeros((0, 4, 4), "int64"), ("[0, 4, 4]",)),
        (np.int64(3), ("shape []",)),
        (np.zeros((1, 4, 4), "float32"), ("float32", "whole numbers")),
        (np.zeros((1, 4, 4), bool), ("bool", "whole numbers")),
        (np.full((1, 4, 4), "a"), ("whole numbers",)),
        (np.full((1, 4, 4), 64), ("64 to 64", "0 to 63", "-1")),
        (np.full((1, 4, 4), -2), ("-2 to -2",)),
        (np.full((1, 4, 4), 2**64 - 1, "uint64"), (str(2**64 - 1),)),
    ],
    ids=str,
)
def test_refused_tokens(tmp_path: Path, array: np.ndarray, parts: tuple[str, ...]) -> None:
    np.save(tmp_path / "t.npy", array)
    with pytest.raises(AmusedError) as caught:
        read_tokens(tmp_path / "t.npy", 64)
    assert all(part in str(caught.value) for part in ("t.npy", *parts))


@pytest.mark.parametrize("content", [b"", b"hello", b"\x93NUMPY", b"\x93NUMPY\x01\0v\0{'descr': 'x", b"PK\x03\x04 no"])
def test_no_token_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.npy").write_bytes(content)
    with pytest.raises(AmusedError, match=r"t\.npy' cannot be read"):
        read_tokens(tmp_path / "t.npy", 64)


def test_other_token_files(tmp_path: Path) -> None:
    np.save(tmp_path / "o.npy", np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(AmusedError, match=r"o\.npy' cannot be read"):
        read_tokens(tmp_path / "o.npy", 64)
    with (tmp_path / "z.npy").open("wb") as file:
        np.savez(file, a=np.zeros(3))
    with pytest.raises(AmusedError, match=r"z\.npy' cannot be read"):
        read_tokens(tmp_path / "z.npy", 64)
    with pytest.raises(AmusedError, match=r"No token file at .*none\.npy"):
        read_tokens(tmp_path / "none.npy", 64)


# Every argument of `generate` that makes a difference, away from its default.
FLAGS = {
    "--negative": "dark", "--strength": "0.75", "--steps": "4", "--cfg": "3", "--temperature": ("1.5", "0.5"),
    "--schedule": "linear", "--seed": "9", "--batch": "2", "--cfg-schedule": "interval",
    "--cfg-interval": ("0.1", "0.9"), "--cfg-every": "2", "--sampling-temperature": "0.8", "--top-k": "40",
    "--top-p": "0.9",
}  # fmt: skip
NOT_OF_GENERATE = ("model", "dtype", "image", "mask", "place")


def again(model: AmusedModel, about: dict[str, Any], **more: Any) -> torch.Tensor:
    """Draws with everything the metadata say, and nothing else."""
    settings = {key: value for key, value in about.items() if key not in NOT_OF_GENERATE} | more
    return (model.generate(**settings).images * 255).round()


@pytest.mark.parametrize("seeding", ["per_image", "diffusers"])
@pytest.mark.parametrize("start", ["text", "image", "mask"])
def test_a_picture_says_all_that_made_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: AmusedModel, png: Path,
    start: str, seeding: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    mask = Image.new("L", (32, 32))
    mask.paste(255, (8, 8, 28, 20))
    mask.save("mask.png")
    flags = FLAGS | {"--seeding": seeding, "--model": str(folder)}
    flags |= {"--image": str(png)} if start != "text" else {"--width": "40", "--height": "24"}
    flags |= {"--mask": "mask.png"} if start == "mask" else {}
    words = [word for flag, value in flags.items() for word in (flag, *([value] if isinstance(value, str) else value))]
    assert main(["generate", "a cat", *words]) == 0
    for index in (0, 1):
        picture = Image.open(f"amused-{index}.png")
        about = json.loads(picture.text["amused"])
        more = {} if start == "text" else {"image": Image.open(about["image"])}
        more |= {"mask": Image.open(about["mask"])} if start == "mask" else {}
        drawn = again(model, about, **more)[about.get("place", 0)]
        assert torch.equal(drawn, torch.from_numpy(np.array(picture)).float()), about
        other = again(model, about | {"seed": about["seed"] + 5}, **more)[about.get("place", 0)]
        assert not torch.equal(drawn, other)
        assert about["model"] == "tiny" and about["dtype"] == "auto"


def test_a_recommended_interval_is_one_of_guidance(copy: Path) -> None:
    (copy / "amused.json").write_text(json.dumps({"recommended": {"cfg_interval": [0, 0.5]}}))
    assert load_model(copy).checkpoint.recommended.cfg_schedule == "interval"
