"""Values of any type in any argument: one sentence before any work begins, or a picture; never anything else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from amused_core import AmusedError, AmusedModel, insight, load_model
from amused_core.errors import QUOTED, quoted
from amused_core.finetune.presets import preset
from amused_core.finetune.settings import SETTING_NAMES
from amused_core.pipelines import AmusedPipeline
from tests.odd import ODD, NoRepr

ARGUMENTS = (
    "prompt", "negative_prompt", "image", "mask", "strength", "steps", "cfg", "temperature", "schedule", "seed",
    "seeding", "batch_size", "width", "height", "on_step", "fast", "on_attention", "reuse", "keep_original",
    "cfg_schedule", "cfg_interval", "cfg_every", "sampling_temperature", "top_k", "top_p", "int8",
    "order", "sampling_temperature_end", "revision", "cfg_rescale", "entropy_bound",
)  # fmt: skip
GOOD: dict[str, Any] = {"prompt": "a cat", "steps": 1, "cfg": 1.0}
odd_values = pytest.mark.parametrize("value", ODD.values(), ids=ODD)


def sentence(call: Callable[[], Any]) -> str | None:
    """What a refusal says, after a look at its form; None where there was none."""
    try:
        call()
    except AmusedError as error:
        text = str(error)
        assert "\n" not in text and text.endswith(".") and len(text) < 450, text
        return text
    return None


@odd_values
def test_generate(model: AmusedModel, value: Any) -> None:
    # A function is not made for a step, and a text of 10,000 characters is a prompt.
    for name in ARGUMENTS:
        if callable(value) and name in ("on_step", "on_attention"):
            continue
        sentence(lambda name=name: model.generate(**{**GOOD, name: value}))


@odd_values
def test_images_and_masks(model: AmusedModel, picture: torch.Tensor, value: Any) -> None:
    for name in ("mask", "width", "height", "strength", "keep_original"):
        sentence(lambda name=name: model.generate(**{**GOOD, "image": picture, name: value}))
    sentence(lambda: model.generate(**GOOD, image=[picture, value]))


@odd_values
def test_loading(folder: Path, model: AmusedModel, value: Any) -> None:
    for name in ("variant", "dtype", "device", "attention", "mmap"):
        sentence(lambda name=name: load_model(folder, **{name: value}))
    if value is not None:
        assert sentence(lambda: load_model(value))
        assert sentence(lambda: model.load_lora(value))
        assert sentence(lambda: model.load_lora("x", strength=value))
        assert sentence(lambda: model.set_attention(value))
        assert sentence(lambda: model.save("x", dtype=value))


@odd_values
def test_pipelines(folder: Path, value: Any) -> None:
    pipe = AmusedPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    for name in (
        "prompt", "negative_prompt", "height", "width", "num_inference_steps", "guidance_scale", "temperature",
        "num_images_per_prompt", "generator", "latents", "output_type", "return_dict", "callback", "callback_steps",
        "micro_conditioning_aesthetic_score", "micro_conditioning_crop_coord",
    ):  # fmt: skip
        if name != "callback" or not callable(value):
            given = {"prompt": "a cat", "num_inference_steps": 1, name: value}
            sentence(lambda given=given: pipe(**given))


@odd_values
def test_tokens_and_images(model: AmusedModel, picture: torch.Tensor, value: Any) -> None:
    tokens = model.vq.encode(picture)
    sentence(lambda: model.vq.encode(value))
    sentence(lambda: model.vq.decode(value))
    for given in ({"tokens": value}, {"pictures": value}, {"ids": value}):
        sentence(lambda given=given: insight.token_grid(**{"tokens": tokens, "pictures": picture, **given}))


@odd_values
def test_traces(model: AmusedModel, value: Any) -> None:
    _, run = insight.trace(model, **GOOD)
    sentence(lambda: insight.frames(run, model.vq.decode, value))
    sentence(lambda: insight.read_trace(run, value))
    sentence(lambda: insight.read_trace(run, "entropy", value))
    sentence(lambda: insight.read_word(run, value))
    sentence(lambda: insight.read_word(run, "cat", value))


@odd_values
def test_saving_and_presets(model: AmusedModel, value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sentence(lambda: model.save(value))
    sentence(lambda: preset(value, model.checkpoint.transformer_config))
    for name in SETTING_NAMES:
        sentence(lambda name=name: preset("style", model.checkpoint.transformer_config, **{name: value}))


@odd_values
def test_embeddings_and_lists_of_images(folder: Path, model: AmusedModel, value: Any) -> None:
    pipe = AmusedPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    negative = {"negative_prompt_embeds": value, "negative_encoder_hidden_states": value}
    sentence(lambda: pipe("a cat", num_inference_steps=1, **negative))
    sentence(lambda: model.generate(**GOOD, image=[np.array([1, 2]), value]))


def test_what_is_no_function_is_refused_before_the_first_step(model: AmusedModel) -> None:
    steps: list[int] = []
    model_steps = {"on_step": lambda step: steps.append(1)}
    for name in ("on_step", "on_attention"):
        text = sentence(lambda name=name: model.generate(**{**GOOD, **model_steps, name: 5}))
        assert text == f"{name} is 5; allowed are a function, or None." and steps == []


@odd_values
def test_a_value_is_quoted_in_80_characters(value: Any) -> None:
    text = quoted(value)
    assert 0 < len(text) <= QUOTED == 80 and "\n" not in text
    assert len(quoted([value])) <= 80


def test_quoted_values() -> None:
    assert quoted("a cat") == "'a cat'" and quoted(3.5) == "3.5" and quoted(None) == "None"
    assert quoted("x" * 100) == "'" + "x" * 75 + " ..."
    assert quoted(10**5000) == "a whole number of 16610 bits"
    assert quoted(np.ones((2, 3))) == "a ndarray of the shape (2, 3)"
    assert quoted(NoRepr()) == "a NoRepr"


def test_many_seeds_take_no_memory(model: AmusedModel) -> None:
    text = sentence(lambda: model.generate(**GOOD, seed=range(10**12)))
    assert text == "seed has more than 4096 items; allowed are at most as many."
