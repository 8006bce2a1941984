"""The `amused` command, run in process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from amused_core import AmusedModel, load_model
from amused_core.cli import main
from amused_core.images.files import open_mask, open_picture
from amused_core.settings import Recommended


@pytest.fixture
def amused(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`amused("a cat", "--steps", "2")` runs `generate` on the tiny model in an empty folder; `out` is the PNG."""
    monkeypatch.chdir(tmp_path)

    def run(prompt: str, *options: str) -> int:
        return main(["generate", "--model", str(folder), *options, "--", prompt])

    return run


def pixels(file: Path | str) -> torch.Tensor:
    return torch.from_numpy(np.array(Image.open(file)))[None].float() / 255


def refused(amused, capsys: pytest.CaptureFixture[str], options: list[str], *parts: str, prompt: str = "a cat") -> None:
    """Exit status 2, one sentence on stderr, no traceback, no picture."""
    before = set(Path.cwd().rglob("*"))
    code = amused(prompt, *options)
    captured = capsys.readouterr()
    assert code == 2 and captured.out == ""
    assert captured.err.startswith("amused: ") and captured.err.count("\n") == 1, captured.err
    for part in parts:
        assert part in captured.err, captured.err
    assert set(Path.cwd().rglob("*")) == before


def test_a_picture(amused, model: AmusedModel, capsys: pytest.CaptureFixture[str]) -> None:
    assert amused("a cat", "--steps", "2", "--seed", "3", "--output", "x.png") == 0
    want = model.generate("a cat", steps=2, seed=3).images
    assert torch.equal(pixels("x.png"), (want * 255).round() / 255)
    captured = capsys.readouterr()
    assert "x.png" in captured.out and "step 2/2\n" in captured.err


def test_every_flag_reaches_generate(amused, png: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    class Fake:
        checkpoint = type("Checkpoint", (), {"name": "fake", "recommended": Recommended()})

        def generate(self, prompt: str, **more: Any) -> Any:
            seen.update(more, prompt=prompt)
            return load_model(seen["model"]).generate("a", steps=1)

    def fake_load(path: str, **more: Any) -> Fake:
        seen.update(more, model=path)
        return Fake()

    monkeypatch.setattr("amused_core.model.load_model", fake_load)
    options = {
        "--negative": "dark", "--image": str(png), "--mask": str(png), "--strength": "0.7", "--steps": "5",
        "--cfg": "2.5", "--schedule": "linear", "--seed": "9", "--seeding": "diffusers", "--batch": "3",
        "--width": "32", "--height": "48", "--dtype": "bf16", "--device": "cpu", "--attention": "sdpa",
        "--cfg-schedule": "interval", "--sampling-temperature": "0.8", "--top-k": "7", "--top-p": "0.9",
        "--cfg-every": "2",
    }  # fmt: skip
    flat = [part for pair in options.items() for part in pair]
    flat += [
        "--fast",
        "--compile",
        "--int8",
        "--no-keep-original",
        "--temperature",
        "3",
        "0.5",
        "--cfg-interval",
        "0.2",
        "0.8",
    ]
    assert amused("a red apple", *flat) == 0
    assert isinstance(seen.pop("image"), Image.Image) and isinstance(seen.pop("mask"), Image.Image)
    assert callable(seen.pop("on_step")) and seen.pop("model")
    assert seen.pop("temperature") in ([3.0, 0.5], (3.0, 0.5))
    assert seen == {
        "prompt": "a red apple", "negative_prompt": "dark", "strength": 0.7, "steps": 5, "cfg": 2.5,
        "schedule": "linear", "seed": 9, "seeding": "diffusers", "batch_size": 3, "width": 32, "height": 48,
        "dtype": "bf16", "device": "cpu", "attention": "sdpa", "cfg_schedule": "interval", "cfg_interval": [0.2, 0.8],
        "sampling_temperature": 0.8, "top_k": 7, "top_p": 0.9,
        "cfg_every": 2, "fast": True, "compile": True, "int8": True, "keep_original": False,
    }  # fmt: skip


def test_fast_without_int8(amused) -> None:
    assert amused("a cat", "--fast", "--no-int8") == 0
    about = json.loads(Image.open("amused.png").text["amused"])
    assert about["int8"] is False and about["steps"] == 8


def test_the_defaults_are_those_of_generate(amused, model: AmusedModel) -> None:
    assert amused("a cat", "--save-tokens", "t.npy") == 0
    assert (np.load("t.npy") == model.generate("a cat").tokens.numpy()).all() and Path("amused.png").is_file()


def test_a_batch(amused, model: AmusedModel, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        amused("a cat", "--batch", "3", "--steps", "1", "--output", "new/folder/x.y.png", "--save-tokens", "n/t.npy")
        == 0
    )
    assert sorted(path.name for path in Path("new/folder").iterdir()) == ["x.y-0.png", "x.y-1.png", "x.y-2.png"]
    want = model.generate("a cat", steps=1, batch_size=3)
    for index in range(3):
        assert torch.equal(pixels(f"new/folder/x.y-{index}.png"), (want.images[index : index + 1] * 255).round() / 255)
    saved = np.load("n/t.npy")
    assert saved.dtype == np.int64 and (saved == want.tokens.numpy()).all()
    out = capsys.readouterr().out
    assert all(name in out for name in ("x.y-0.png", "x.y-2.png", "t.npy"))


def test_metadata_remakes_the_picture(amused, model: AmusedModel) -> None:
    """What a picture says about itself is enough to draw it again, also one of a batch."""
    amused("تفاحة \ud83c 🍎", "--steps", "2", "--batch", "2", "--cfg", "3", "--seed", "5")
    about = json.loads(Image.open("amused-1.png").text["amused"])
    again = model.generate(
        about["prompt"], negative_prompt=about["negative_prompt"], seed=about["seed"], steps=about["steps"],
        cfg=about["cfg"], temperature=about["temperature"], schedule=about["schedule"],
        width=about["width"], height=about["height"],
    )  # fmt: skip
    assert torch.equal(pixels("amused-1.png"), (again.images * 255).round() / 255)
    assert None not in (about["temperature"], about["schedule"], about["width"], about["height"])


def test_image_and_mask(amused, model: AmusedModel, png: Path, picture: torch.Tensor) -> None:
    mask = Image.new("L", (32, 32))
    mask.putpixel((9, 5), 255)
    mask.save("mask.png")
    assert amused("a cat", "--image", str(png), "--mask", "mask.png", "--save-tokens", "t.npy", "--steps", "2") == 0
    changed = torch.from_numpy(np.load("t.npy")) != model.vq.encode(pixels(png))
    assert set(map(tuple, changed.nonzero().tolist())) <= {(0, 1, 2)}


BAD_OPTIONS = [
    (["--steps", "0"], ("steps is 0", "1 to 1000")),
    (["--cfg", "-1"], ("cfg is -1.0", "0 to 100")),
    (["--cfg", "nan"], ("cfg is nan", "0 to 100")),
    (["--cfg", "1e999"], ("cfg is inf", "0 to 100")),
    (["--strength", "2"], ("strength is 2.0", "0 to 1")),
    (["--temperature", "-1", "0"], ("temperature is -1.0", "0 to 100")),
    (["--cfg-schedule", "x"], ("'x'", "constant, ramp, interval")),
    (["--cfg-interval", "0.8", "0.2"], ("cfg_interval is [0.8, 0.2]", "0 <= first < second <= 1")),
    (["--sampling-temperature", "0"], ("sampling_temperature is 0.0", "0.01 to 10")),
    (["--top-k", "65"], ("top_k is 65", "0 to 64")),
    (["--top-p", "0"], ("top_p is 0.0", "above 0 up to 1")),
    (["--schedule", "sigmoid"], ("'sigmoid'", "cosine, linear")),
    (["--seed", "-1"], ("seed is -1", "0 to 18446744073709551615")),
    (["--seed", str(2**64)], (str(2**64), "0 to 18446744073709551615")),
    (["--seeding", "x"], ("'x'", "per_image, diffusers")),
    (["--batch", "0"], ("batch_size is 0", "from 1")),
    (["--width", "33"], ("width is 33", "multiples of 4", "32")),
    (["--height", "-4"], ("height is -4", "multiples of 4")),
    (["--dtype", "int8"], ("'int8'", "auto, fp32, fp16, bf16")),
    (["--device", "tpu"], ("'tpu'", "auto, cpu, cuda, mps")),
    (["--attention", "flash"], ("'flash'", "auto, sdpa, xformers")),
    (["--model", "no/such/model"], ("no/such/model", "folder")),
    (["--model", ""], ("''", "folder")),
    (["--image", "none.png"], ("none.png",)),
    (["--image", "."], ("'.'",)),
    (["--image", "a\0b"], ("image",)),
    (["--mask", "none.png"], ("none.png",)),
    (["--output", "x.jpg"], ("x.jpg", ".png")),
    (["--output", "x"], ("'x'", ".png")),
    (["--output", ""], (".png",)),
    (["--output", ".png"], (".png",)),
    (["--save-tokens", "t.txt"], ("t.txt", ".npy")),
]


@pytest.mark.parametrize(("options", "parts"), BAD_OPTIONS, ids=lambda value: " ".join(value)[:40])
def test_refused(amused, capsys: pytest.CaptureFixture[str], options: list[str], parts: tuple[str, ...]) -> None:
    refused(amused, capsys, options, *parts)


@pytest.mark.parametrize(
    "arguments",
    [[], ["generate"], ["nonsense"], ["generate", "x", "--steps", "two"], ["generate", "x", "--temperature", "1"],
     ["generate", "x", "--unknown"], ["generate", "x", "y"], ["save"]],
    ids=" ".join,
)  # fmt: skip
def test_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2 and "usage: amused" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "order"),
    [("batch", "ROWS OUT"), ("decode", "SOURCE OUT"), ("train lora", "DATA --output FOLDER"),
     ("train full", "DATA --output FOLDER")],
)  # fmt: skip
def test_usage_shows_an_order_that_works(command: str, order: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An option with any number of values takes the names that follow it, too."""
    with pytest.raises(SystemExit):
        main([*command.split(), "--help"])
    assert capsys.readouterr().out.startswith(f"usage: amused {command} {order} [options]\n")


@pytest.mark.parametrize("command", [[], ["generate"], ["save"]])
def test_help(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*command, "--help"])
    assert stop.value.code == 0 and "usage: amused" in capsys.readouterr().out


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM\0\0", b"\xff\xd8\xff\xe0\0\x10JFIF"]
)
@pytest.mark.parametrize("flag", ["--image", "--mask"])
def test_unreadable_pictures(amused, capsys: pytest.CaptureFixture[str], png: Path, content: bytes, flag: str) -> None:
    Path("bad.png").write_bytes(content)
    options = [flag, "bad.png"] if flag == "--image" else ["--image", str(png), flag, "bad.png"]
    refused(amused, capsys, options, "bad.png", "image")


def test_a_truncated_picture(amused, capsys: pytest.CaptureFixture[str], png: Path) -> None:
    Path("half.png").write_bytes(png.read_bytes()[:-1500])
    refused(amused, capsys, ["--image", "half.png"], "half.png", "image")


def test_a_decompression_bomb(
    amused, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, png: Path
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    refused(amused, capsys, ["--image", str(png)], "image")


def test_a_picture_that_does_not_fit(amused, capsys: pytest.CaptureFixture[str], png: Path) -> None:
    Image.new("RGB", (33, 30)).save("odd.png")
    refused(amused, capsys, ["--image", "odd.png"], "33x30", "multiples of 4", "32x32")
    refused(amused, capsys, ["--image", str(png), "--width", "64"], "width is 64", "32")
    refused(amused, capsys, ["--image", str(png), "--mask", "odd.png"], "33x30", "32x32", "same size")
    refused(amused, capsys, ["--mask", str(png)], "mask", "without an image")


def test_an_output_that_cannot_be_written(amused, capsys: pytest.CaptureFixture[str], png: Path) -> None:
    Path("file").write_text("")
    for output in ("file/x.png", "dir.png"):
        Path("dir.png").mkdir(exist_ok=True)
        assert amused("a cat", "--steps", "1", "--output", output) == 2
        lines = capsys.readouterr().err.splitlines()
        assert lines[-1].startswith("amused: ") and output.split("/")[0] in lines[-1]
        assert not any("Traceback" in line for line in lines)


def rotated(path: Path, orientation: int) -> None:
    image = Image.new("RGB", (32, 16), "blue")
    image.paste("red", (0, 0, 8, 16))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(path, exif=exif)


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_exif_orientation(tmp_path: Path, orientation: int) -> None:
    """Picture and mask of one camera lie alike."""
    rotated(tmp_path / "x.png", orientation)
    picture, mask = open_picture(str(tmp_path / "x.png")), open_mask(str(tmp_path / "x.png"))
    assert picture.size == mask.size == ((32, 16) if orientation == 3 else (16, 32))
    corner = {3: (-1, 0), 6: (0, 0), 8: (0, -1)}[orientation]
    red = (corner[0] % picture.width, corner[1] % picture.height)
    assert picture.getpixel(red) == (255, 0, 0)
    assert picture.convert("L").getpixel(red) == mask.getpixel(red)


def test_transparency_lies_on_white(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(tmp_path / "x.png")
    assert open_picture(str(tmp_path / "x.png")).getpixel((0, 0)) == (255, 255, 255)


def test_sixteen_bits(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 20_000, dtype=np.uint16)).save(tmp_path / "x.png")
    assert open_picture(str(tmp_path / "x.png")).getpixel((0, 0)) == (78, 78, 78)
    assert open_mask(str(tmp_path / "x.png")).getpixel((0, 0)) == 78


@pytest.mark.parametrize("prompt", ["", "-a cat", "--steps", "تفاحة", "caf\udce9", "a\nb"])
def test_any_prompt(amused, prompt: str) -> None:
    assert amused(prompt, "--steps", "1") == 0


def test_stopping_by_hand(amused, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def stop(*arguments: Any, **more: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(AmusedModel, "generate", stop)
    assert amused("a cat") == 130 and "stopped" in capsys.readouterr().err


def test_a_size_that_takes_long_is_announced(amused, capsys: pytest.CaptureFixture[str]) -> None:
    for width, announced in (("128", False), ("132", True)):
        assert amused("a cat", "--steps", "1", "--width", width, "--height", "128") == 0
        shown = capsys.readouterr().err
        assert ("amused: 132x128 pixels are 16 times the recommended 32x32; this takes long" in shown) is announced


@pytest.mark.parametrize(
    "error", [None, MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")], ids=repr
)
def test_too_little_memory(
    amused, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        if error:
            raise error
        torch.empty(1 << 50)

    monkeypatch.setattr(AmusedModel, "run", fail)
    want = "Not enough memory for 64x32 pixels; take a smaller size or batch."
    refused(amused, capsys, ["--width", "64"], want)
    monkeypatch.setattr("amused_core.model.load_model", fail)
    refused(amused, capsys, [], "Not enough memory; take a smaller size or batch.")


def test_other_faults_are_not_taken_for_too_little_memory(amused, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("sizes do not match")

    monkeypatch.setattr(AmusedModel, "run", fail)
    with pytest.raises(RuntimeError, match="sizes do not match"):
        amused("a cat")


def test_xformers_asked_for_where_it_is_missing(
    amused, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "xformers", None)
    monkeypatch.setitem(sys.modules, "xformers.ops", None)
    refused(amused, capsys, ["--attention", "xformers"], "'xformers' cannot run", "'sdpa'")


def test_save(folder: Path, tmp_path: Path, model: AmusedModel, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "new" / "m.safetensors"
    assert main(["save", str(file), "--model", str(folder), "--dtype", "fp32"]) == 0
    assert str(file) in capsys.readouterr().out
    assert torch.equal(load_model(file).generate("a cat", steps=2).tokens, model.generate("a cat", steps=2).tokens)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["m.bin"], ("m.bin", ".safetensors")),
        (["m.safetensors", "--model", "nowhere"], ("nowhere", "folder")),
        (["m.safetensors", "--variant", "fp16"], ("fp16",)),
        (["file/m.safetensors"], ("file",)),
    ],
    ids=str,
)
def test_save_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    arguments: list[str], parts: tuple[str, ...],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    model = [] if "--model" in arguments else ["--model", str(folder)]
    assert main(["save", *arguments, *model]) == 2
    err = capsys.readouterr().err
    assert err.startswith("amused: ") and err.count("\n") == 1 and all(part in err for part in parts)


def test_save_into_a_folder_in_the_files_place(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m.safetensors").mkdir()
    assert main(["save", str(tmp_path / "m.safetensors"), "--model", str(folder)]) == 2
    assert "m.safetensors" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]
