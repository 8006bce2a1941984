"""Saved pipelines load in diffusers' classes and theirs in ours: variants, dtypes, class names."""

from __future__ import annotations

import json

import diffusers
import pytest
import torch
from safetensors.torch import load_file

from amused_core import load_model
from amused_core.pipelines import AmusedImg2ImgPipeline, AmusedInpaintPipeline, AmusedPipeline
from tests.parity.oracle import PROMPTS, SEED, generator, quiet

RUN = {"num_inference_steps": 3, "output_type": "latent"}
PAIRS = [
    (AmusedPipeline, diffusers.AmusedPipeline),
    (AmusedImg2ImgPipeline, diffusers.AmusedImg2ImgPipeline),
    (AmusedInpaintPipeline, diffusers.AmusedInpaintPipeline),
]


def tokens(pipe):
    return quiet(pipe)(PROMPTS, **RUN, generator=generator()).images


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair[0].__name__)
def test_model_index_is_that_of_diffusers(small, pair, tmp_path):
    for name, cls in zip(("ours", "theirs"), pair, strict=True):
        # A scheduler of its own: diffusers' inpaint pipeline changes it.
        cls.from_pretrained(small.folder).save_pretrained(tmp_path / name)
    ours, theirs = (json.loads((tmp_path / name / "model_index.json").read_text()) for name in ("ours", "theirs"))
    for index in (ours, theirs):
        index.pop("_name_or_path", None)
    assert ours == theirs
    assert ours["_class_name"] == pair[1].__name__


def test_ours_loads_in_diffusers_and_theirs_in_ours(small, tmp_path):
    want = tokens(small.theirs["text2img"])
    small.ours["text2img"].save_pretrained(tmp_path / "ours")
    small.theirs["text2img"].save_pretrained(tmp_path / "theirs")
    assert torch.equal(tokens(diffusers.AmusedPipeline.from_pretrained(tmp_path / "ours")), want)
    assert torch.equal(tokens(AmusedPipeline.from_pretrained(tmp_path / "theirs")), want)
    generic = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "ours")
    assert type(generic) is diffusers.AmusedPipeline
    model = load_model(tmp_path / "ours", device="cpu")
    call = {"steps": 3, "cfg": 10, "temperature": (2, 0), "width": 32, "height": 32}
    assert torch.equal(model.generate(PROMPTS, **call, seed=SEED, seeding="diffusers").tokens, want)


@pytest.mark.parametrize("task", ["img2img", "inpaint"])
def test_a_text2img_folder_loads_in_the_other_classes(small, task):
    pipe = type(small.ours[task]).from_pretrained(small.folder)
    assert type(pipe).__name__ == type(small.theirs[task]).__name__
    assert set(pipe.components) == set(small.ours["text2img"].components)


def test_from_pipe_and_components_share_the_modules(small):
    pipe = small.ours["text2img"]
    for other in (AmusedInpaintPipeline.from_pipe(pipe), AmusedImg2ImgPipeline(**pipe.components)):
        assert other.transformer is pipe.transformer


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_variants_and_dtypes(small, tmp_path, dtype):
    pipe = AmusedPipeline.from_pretrained(small.folder, torch_dtype=dtype)
    pipe.save_pretrained(tmp_path, variant="half")
    file = tmp_path / "transformer" / "diffusion_pytorch_model.half.safetensors"
    assert {value.dtype for value in load_file(file).values()} == {dtype}
    assert not list((tmp_path / "transformer").glob("diffusion_pytorch_model.safetensors"))
    again = quiet(AmusedPipeline.from_pretrained(tmp_path, variant="half", torch_dtype=dtype))
    assert again.transformer.dtype == again.vqvae.dtype == again.text_encoder.dtype == dtype
    assert again(PROMPTS[0], num_inference_steps=2).images[0].size == (32, 32)
    theirs = diffusers.AmusedPipeline.from_pretrained(tmp_path, variant="half", torch_dtype=dtype)
    assert theirs.transformer.dtype == dtype
    with pytest.raises((OSError, ValueError)):
        AmusedPipeline.from_pretrained(tmp_path, variant="other")


def test_to_another_dtype_and_back(small):
    pipe = AmusedPipeline.from_pretrained(small.folder)
    want = tokens(pipe)
    for dtype in (torch.bfloat16, torch.float16):
        pipe.to(dtype)
        assert {m.dtype for m in (pipe.transformer, pipe.vqvae, pipe.text_encoder)} == {dtype}
        quiet(pipe)(PROMPTS[0], num_inference_steps=2)
        assert {m.dtype for m in (pipe.transformer, pipe.vqvae, pipe.text_encoder)} == {dtype}
    again = AmusedPipeline.from_pretrained(small.folder)
    assert torch.equal(tokens(again.to("cpu", torch.float32)), want)
