"""Calls of the headless interface with odd values in any argument: a result, or one sentence."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from hypothesis.strategies import SearchStrategy
from PIL import Image

from amused_core import load_model
from amused_core.cli import main
from amused_core.errors import quoted
from amused_core.finetune.presets import preset
from amused_core.finetune.settings import SETTING_NAMES
from amused_core.insight import frames, read_trace, read_word, token_grid, trace
from amused_core.pipelines import AmusedImg2ImgPipeline, AmusedInpaintPipeline, AmusedPipeline
from tests.campaign.explore import explore, refusal
from tests.campaign.records import Record
from tests.campaign.world import World, noise
from tests.odd import ODD

CASES = 250
# Numbers of these that are allowed but take long are left out.
COSTLY = {"steps", "batch_size", "width", "height", "num_inference_steps", "num_images_per_prompt", "undecided"}
COSTLY |= {"--steps", "--batch", "--width", "--height", "--rank", "--prior-count", "--accumulation"}
MODES = ["1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "LA", "PA", "La", "RGBa", "I;16"]
WORDS = ["", "-1", "0", "1", "2", "1.5", "nan", "inf", "1e400", "9" * 500, "x" * 300, "a\0b", "\ud800", "é", "none"]


@dataclass(frozen=True)
class Call:
    """Something to call, and allowed values for its arguments."""

    run: Callable[..., Any]
    needed: Mapping[str, Any]
    arguments: Mapping[str, Any]


def numbers() -> SearchStrategy[Any]:
    return st.one_of(st.integers(), st.integers(-5, 70), st.floats(), st.fractions(), st.complex_numbers())


def arrays() -> SearchStrategy[Any]:
    kinds = st.one_of(hnp.scalar_dtypes(), hnp.unicode_string_dtypes(max_len=3))
    array = hnp.arrays(kinds, hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=8))
    return st.one_of(array, array.map(tensor))


def tensor(array: np.ndarray) -> Any:
    """The same as a tensor, where there are tensors of its kind."""
    try:
        return torch.from_numpy(array.copy())
    except (TypeError, ValueError):  # No such type, or bytes the other way round.
        return array


def pictures() -> SearchStrategy[Any]:
    sizes = st.tuples(st.sampled_from([0, 1, 4, 5, 32]), st.sampled_from([0, 1, 4, 32]))
    return st.builds(Image.new, st.sampled_from(MODES), sizes)


def odd(world: World) -> SearchStrategy[Any]:
    """Values of any type."""
    files = [world.model_folder, world.one_file, world.loras[0], world.picture, world.rows, str(world.folder)]
    simple = st.one_of(
        st.sampled_from(list(ODD.values())), numbers(), st.text(max_size=20), st.binary(max_size=9), arrays(),
        pictures(), st.sampled_from(files), st.booleans(), st.none(),
    )  # fmt: skip
    pairs = st.dictionaries(st.text(max_size=3), numbers(), max_size=2)
    return st.one_of(simple, st.lists(simple, max_size=4), st.tuples(simple, simple), pairs)


def cheap(name: str, value: Any) -> bool:
    """Not a size or count that is allowed and takes minutes."""
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    return name not in COSTLY or not isinstance(value, (int, float, np.number)) or not 70 < value < 20_000


def fits(name: str, value: Any) -> bool:
    """No function where a function is called: its errors are its own."""
    return not callable(value) or name not in ("on_step", "on_attention", "callback")


def harmless(value: Any) -> bool:
    """No file outside of the scratch folder."""
    text = (
        value.decode("latin-1") if isinstance(value, bytes) else str(value) if isinstance(value, os.PathLike) else value
    )
    return not isinstance(text, str) or not (text.startswith(("/", "~")) or ".." in text)


def calls(world: World) -> dict[str, Call]:
    """All calls by name."""
    model, picture = world.model, noise()
    result, run = trace(model, "a cat", steps=2, cfg=1.0)
    text = {"prompt": ["a cat", ["a cat", "a dog"]], "negative_prompt": ["", "a dog"]}
    generate = {
        **text, "image": [picture, Image.open(world.picture)], "mask": [picture[..., 0], Image.open(world.mask)],
        "strength": [0.5, 1], "cfg": [1.0, 3.0], "temperature": [2, (2, 0)], "schedule": ["linear"], "seed": [[1, 2]],
        "seeding": ["diffusers"], "batch_size": [2], "width": [32], "height": [32], "on_step": [None], "fast": [True],
        "on_attention": [None], "reuse": [False], "keep_original": [False], "cfg_schedule": ["ramp", "interval"],
        "cfg_interval": [(0, 0.5)], "cfg_every": [2], "sampling_temperature": [0.5], "top_k": [3], "top_p": [0.5],
        "int8": [True], "order": ["halton", "entropy", "random"],
    }  # fmt: skip
    pipeline = {
        **text, "height": [32], "width": [32], "guidance_scale": [2.0], "num_images_per_prompt": [2],
        "generator": [torch.Generator().manual_seed(1)], "output_type": ["pt", "np", "latent"], "return_dict": [False],
        "callback": [None], "callback_steps": [2], "cross_attention_kwargs": [{}], "temperature": [2, (2, 0)],
        "micro_conditioning_aesthetic_score": [5], "micro_conditioning_crop_coord": [(1, 2)], "prompt_embeds": [None],
        "encoder_hidden_states": [None], "negative_prompt_embeds": [None], "negative_encoder_hidden_states": [None],
    }  # fmt: skip
    draws = {"prompt": "a cat", "num_inference_steps": 1}
    moved = {name: values for name, values in pipeline.items() if name not in ("width", "height")}
    pipes = [kind.from_pretrained(world.model_folder) for kind in (AmusedPipeline, AmusedImg2ImgPipeline)]
    pipes.append(AmusedInpaintPipeline.from_pretrained(world.model_folder))
    for pipe in pipes:
        pipe.set_progress_bar_config(disable=True)
    path = {"path": world.loras[0]}
    return {
        "generate": Call(model.generate, {"prompt": "a cat", "steps": 1, "cfg": 1.0}, generate),
        "load_model": Call(
            load_model, {"path": world.model_folder},
            {"variant": ["fp16"], "dtype": ["fp16"], "device": ["cpu"], "attention": ["sdpa"], "mmap": [True]},
        ),
        "load_lora": Call(model.load_lora, path, {"strength": [0.5], "text_strength": [0.5]}),
        "save": Call(model.save, {"path": next_name("m", ".safetensors")}, {"dtype": ["fp16"]}),
        "set_attention": Call(model.set_attention, {"name": "sdpa"}, {}),
        "pipeline": Call(pipes[0], draws, {**pipeline, "latents": [result.tokens]}),
        "img2img": Call(pipes[1], {**draws, "image": picture.movedim(-1, 1)}, {**moved, "strength": [0.5]}),
        "inpaint": Call(
            pipes[2], {**draws, "image": picture.movedim(-1, 1), "mask_image": picture[..., 0]},
            {**moved, "strength": [0.5]},
        ),
        "encode": Call(model.vq.encode, {"images": picture}, {}),
        "decode": Call(model.vq.decode, {"tokens": result.tokens}, {}),
        "trace": Call(lambda **given: trace(model, **given), {"prompt": "a cat", "steps": 1}, {"cfg": [3.0]}),
        "frames": Call(lambda **given: frames(run, model.vq.decode, **given), {}, {"undecided": ["guess"]}),
        "read_trace": Call(lambda **given: read_trace(run, **given), {"kind": "order"}, {"step": [1]}),
        "read_word": Call(lambda **given: read_word(run, **given), {"word": "cat"}, {"step": [1]}),
        "token_grid": Call(token_grid, {"tokens": result.tokens, "pictures": result.images}, {"ids": [True]}),
        "preset": Call(
            lambda **given: preset(given.pop("name"), model.checkpoint.transformer_config, **given),
            {"name": "style"}, {name: [None] for name in SETTING_NAMES},
        ),
        **{f"amused {name}": call for name, call in commands(world).items()},
    }  # fmt: skip


def commands(world: World) -> dict[str, Call]:
    """The command line: options are arguments here, and a result of 2 is a refusal."""
    model = {"--model": str(world.model_folder)}
    settings = [
        "--cfg",
        "--temperature",
        "--schedule",
        "--top-k",
        "--top-p",
        "--order",
        "--seed",
        "--dtype",
        "--device",
    ]
    drawn = [*settings, "--negative", "--lora", "--image", "--mask", "--strength", "--seeding", "--batch", "--width",
             "--height", "--attention", "--output", "--save-tokens"]  # fmt: skip
    batch = ["--set", "--grid", "--seed", "--lora", "--name", "--layout", "--tokens", "--format", "--batch", "--part",
             "--shard", "--dtype", "--device", "--attention"]  # fmt: skip
    train = ["--caption", "--preset", "--learning-rate", "--batch", "--rank", "--alpha", "--targets", "--text-targets",
             "--drop-text", "--regions", "--label-smoothing", "--ema", "--prior-prompts", "--prior-count", "--warmup",
             "--prior-weight", "--optimizer", "--precision", "--seed", "--lr-schedule", "--accumulation"]  # fmt: skip
    quick = {"--steps": "1"}
    kinds = {
        "generate": (["generate", "a cat"], {**model, **quick}, drawn),
        "save": (["save", next_name("c", ".safetensors")], model, ["--variant", "--dtype"]),
        "batch": (["batch", str(world.rows), next_name("b")], {**model, "--set": "steps=1", "--dry-run": ""}, batch),
        "decode": (["decode", str(world.scratch), next_name("d")], model, batch[-7:]),
        "train lora": (
            ["train", "lora", str(world.picture), "--output", next_name("t"), "--width", "32", "--height", "32"],
            {**model, **quick, "--caption": "a cat"}, train,
        ),
    }  # fmt: skip
    return {
        name: Call(command(words), needed, {option: WORDS for option in options})
        for name, (words, needed, options) in kinds.items()
    }


def command(words: list[Any]) -> Callable[..., Any]:
    """Runs `amused` with `words`, of which those that are iterators give a new name each time."""

    def run(**options: Any) -> None:
        line = [next(word) if isinstance(word, Iterator) else word for word in words]
        for option, value in options.items():
            line += [option, str(value)] if value != "" or option != "--dry-run" else [option]
        said = io.StringIO()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
            main(line)

    return run


def next_name(stem: str, ending: str = "") -> Iterator[str]:
    return (f"{stem}{number}{ending}" for number in count())


class Cases:
    """Draws a call with allowed values for some arguments, and odd ones for one or two. Strategies are made once."""

    def __init__(self, world: World) -> None:
        self.table = calls(world)
        # The calls that most people make come up most.
        self.names = st.sampled_from([*self.table, *["generate"] * 8])
        self.some = {n: subset(call.arguments, 0, 3) for n, call in self.table.items()}
        self.odd_ones = {n: subset([*call.needed, *call.arguments], 1, 2) for n, call in self.table.items()}
        self.good = {
            (n, argument): st.sampled_from(values)
            for n, call in self.table.items()
            for argument, values in call.arguments.items()
        }
        self.odd = odd(world)
        self.words = st.sampled_from([*WORDS, str(world.picture), str(world.folder)])

    def strategy(self) -> SearchStrategy[tuple[str, dict[str, Any]]]:
        """All calls."""
        return st.composite(lambda draw: self._draw(draw))()

    def _draw(self, draw: Any) -> tuple[str, dict[str, Any]]:
        name = draw(self.names)
        given = dict(self.table[name].needed)
        for argument in draw(self.some[name]):
            given[argument] = draw(self.good[name, argument])
        values = self.words if name.startswith("amused") else self.odd
        for argument in draw(self.odd_ones[name]):
            value = draw(values)
            if argument == "path" and name == "save" and not harmless(value):
                value = "x"
            if argument != "--dry-run" and cheap(argument, value) and fits(argument, value):
                given[argument] = value
        return name, given


def subset(names: Iterable[str], least: int, most: int) -> SearchStrategy[list[str]]:
    """Some of `names`."""
    names = list(names)
    return st.lists(st.sampled_from(names), min_size=least, max_size=most) if names else st.just([])


class Kind:
    """Blocks of calls."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.cases = Cases(world)
        self.strategy = self.cases.strategy()

    def block(self, record: Record, seed: int, known: set[str]) -> None:
        """Adds to `record` what a block of calls shows."""
        os.chdir(self.world.scratch)
        explore(record, self.strategy, self.check, CASES, seed, known, describe)

    def check(self, chosen: tuple[str, dict[str, Any]]) -> None:
        """Raises what is no refusal."""
        name, given = chosen
        given = {argument: next(v) if isinstance(v, Iterator) else v for argument, v in given.items()}
        try:
            refusal(lambda: self.cases.table[name].run(**given))
        finally:
            self.world.model.unload_loras()


def describe(chosen: tuple[str, dict[str, Any]]) -> str:
    """The call as code, nearly."""
    name, given = chosen
    return f"{name}({', '.join(f'{argument}={quoted(value)}' for argument, value in given.items())})"


@contextlib.contextmanager
def kind(folder: Path) -> Iterator[Kind]:
    """The cases of this file, in a folder of their own."""
    yield Kind(World(folder))
