"""A model without an id of its own for the mask token, as in diffusers' former tests: the last code stands for it."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers import AmusedScheduler, UVit2DModel
from transformers import CLIPTokenizer

from amused_core import CheckpointError, load_model, pipelines
from amused_core.pipelines.shared import shared_uvit
from tests.parity.oracle import PROMPTS, block_mask, generator, picture, quiet
from tests.tiny import CODES, tiny_text_encoder, tiny_transformer, tiny_vq, write_json, write_tiny_checkpoint

MASK = CODES - 1
CLASSES = ("AmusedPipeline", "AmusedImg2ImgPipeline", "AmusedInpaintPipeline")


@pytest.fixture(scope="module")
def components(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = write_tiny_checkpoint(tmp_path_factory.mktemp("small") / "model")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformer = UVit2DModel.from_config({**tiny_transformer().config, "vocab_size": CODES}).eval()
        for parameter in transformer.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        return {
            "vqvae": tiny_vq().eval(),
            "tokenizer": CLIPTokenizer.from_pretrained(folder / "tokenizer"),
            "text_encoder": tiny_text_encoder().eval(),
            "transformer": transformer,
        }


@pytest.mark.parametrize("name", CLASSES)
def test_tokens_are_those_of_diffusers(components: dict[str, Any], name: str) -> None:
    ours, theirs = (
        quiet(getattr(module, name)(**components, scheduler=AmusedScheduler(mask_token_id=MASK)))
        for module in (pipelines, diffusers)
    )
    assert shared_uvit(components["transformer"]) is not None
    takes = inspect.signature(type(ours).__call__).parameters
    start = {"image": picture(), "mask_image": block_mask()}
    start = {key: value for key, value in start.items() if key in takes}
    drawn_as_mask = 0
    for steps in (3, 8):
        for strength in (0.4, 0.9, *([1.0] if "mask_image" in takes else [])) if start else (None,):
            for seed in range(6):
                more = {} if strength is None else {"strength": strength}
                call = {"num_inference_steps": steps, "guidance_scale": 3.0, "output_type": "latent", **start, **more}
                want = theirs(PROMPTS[0], **call, generator=generator(seed)).images
                assert torch.equal(ours(PROMPTS[0], **call, generator=generator(seed)).images, want), call
                drawn_as_mask += int((want == MASK).any())
    assert drawn_as_mask, "the case that matters: a drawn code looks like a masked cell"
    images = ours(PROMPTS[0], **start, num_inference_steps=2, output_type="np").images
    assert images.shape == (1, 32, 32, 3)


def test_a_checkpoint_needs_an_id_for_the_mask(components: dict[str, Any], tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(tmp_path / "model")
    components["transformer"].save_pretrained(folder / "transformer")
    write_json(
        folder / "scheduler" / "scheduler_config.json",
        {"_class_name": "AmusedScheduler", "mask_token_id": MASK, "masking_schedule": "cosine"},
    )
    with pytest.raises(CheckpointError, match="vocab_size 64 must be larger than codebook_size 64: one id"):
        load_model(folder)
