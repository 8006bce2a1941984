"""Tokens and pictures equal to diffusers', headless and through the drop-in pipelines."""

from __future__ import annotations

import diffusers
import numpy as np
import pytest
import torch

from tests.parity.oracle import MASK_ID, PROMPTS, TASKS, block_mask, generator, picture
from tests.tiny import CODES


@pytest.mark.parametrize("task", TASKS)
# 7 divides no length of the grid's sides: every value of every argument is still met.
@pytest.mark.parametrize("stride", [7, pytest.param(1, marks=pytest.mark.slow)], ids=["sample", "all"])
def test_tokens_are_those_of_diffusers(oracle, task, stride):
    count, unequal = oracle.differences(task, stride)
    print(f"\n{task}: {count} cases, {count - len(unequal)} equal")
    assert count >= (100 if stride == 1 else 15)
    assert not unequal, "\n".join(unequal[:5])


def arguments(task):
    start = {"img2img": {"image": picture()}, "inpaint": {"image": picture(), "mask_image": block_mask()}}
    return {"prompt": PROMPTS[0], "num_inference_steps": 3} | start.get(task, {})


@pytest.mark.parametrize("task", TASKS)
def test_pictures_are_those_of_diffusers(oracle, task):
    want, got = (
        pipes[task](**arguments(task), generator=generator(), output_type="np").images
        for pipes in (oracle.theirs, oracle.ours)
    )
    assert got.shape == want.shape
    assert np.abs(got - want).max() < 1e-5
    want, got = (
        pipes[task](**arguments(task), generator=generator()).images[0] for pipes in (oracle.theirs, oracle.ours)
    )
    assert got.size == want.size
    assert got.mode == "RGB"
    assert np.abs(np.asarray(got, int) - np.asarray(want, int)).max() <= 1


def test_decoding_a_batch_equals_diffusers(oracle):
    tokens = torch.randint(CODES, (3, 5, 6), generator=generator())
    module = oracle.theirs["text2img"].vqvae
    with torch.no_grad():
        want = module.decode(tokens, force_not_quantize=True, shape=(3, 5, 6, 8)).sample.clip(0, 1)
    assert (oracle.model.vq.decode(tokens) - want.movedim(1, -1)).abs().max() < 1e-5


@pytest.mark.parametrize(
    "extra",
    [
        {"negative_prompt": ["blur", "dark"]},
        {"micro_conditioning_aesthetic_score": 3, "micro_conditioning_crop_coord": (16, 5)},
        {"latents": torch.tensor([MASK_ID, 1, 2, 3] * 32).view(2, 8, 8)},
        {"latents": torch.tensor([MASK_ID, 1, 2, 3] * 64).view(4, 8, 8), "num_images_per_prompt": 2},
        {"guidance_scale": 0.5},
        {"cross_attention_kwargs": {}},
        {"temperature": [3, 1]},
    ],
    ids=lambda extra: next(iter(extra)),
)
def test_other_arguments_of_text2img(oracle, extra):
    call = {"prompt": PROMPTS, "num_inference_steps": 4, "output_type": "latent"} | extra
    want = oracle.theirs["text2img"](**call, generator=generator()).images
    assert torch.equal(oracle.ours["text2img"](**call, generator=generator()).images, want)


def test_one_grid_to_go_on_from_for_each_picture(oracle):
    latents = torch.randint(CODES, (2, 8, 8), generator=generator())
    latents[:, ::2] = MASK_ID
    call = {"prompt": PROMPTS[0], "latents": latents, "num_images_per_prompt": 2, "output_type": "latent"}
    want = oracle.theirs["text2img"](**call, generator=generator()).images
    assert torch.equal(oracle.ours["text2img"](**call, generator=generator()).images, want)


@pytest.mark.parametrize("task", TASKS)
def test_embeddings_in_place_of_texts(oracle, task):
    call = arguments(task) | {"output_type": "latent"}
    prompt = call.pop("prompt")
    cond, uncond = (oracle.model.text.encode([text]) for text in (prompt, ""))
    call |= {"prompt_embeds": cond.pooled, "encoder_hidden_states": cond.hidden}
    call |= {"negative_prompt_embeds": uncond.pooled, "negative_encoder_hidden_states": uncond.hidden}
    want = oracle.theirs[task](**call, generator=generator()).images
    assert torch.equal(oracle.ours[task](**call, generator=generator()).images, want)


def test_global_stream_without_a_generator(small):
    with torch.random.fork_rng():
        results = []
        for pipes in (small.theirs, small.ours):
            torch.random.manual_seed(5)
            results.append(pipes["text2img"](PROMPTS[0], num_inference_steps=3, output_type="latent").images)
    assert torch.equal(*results)


def test_linear_schedule_of_the_scheduler_is_used(small):
    components = small.ours["text2img"].components
    scheduler = diffusers.AmusedScheduler(mask_token_id=MASK_ID, masking_schedule="linear")
    pipes = [type(pipes["text2img"])(**{**components, "scheduler": scheduler}) for pipes in (small.theirs, small.ours)]
    want, got = (pipe(PROMPTS[0], generator=generator(), output_type="latent").images for pipe in pipes)
    assert torch.equal(want, got)
    assert not torch.equal(want, small.ours["text2img"](PROMPTS[0], generator=generator(), output_type="latent").images)


@pytest.mark.parametrize("kind", ["pil", "numpy", "list"])
def test_inpaint_takes_pictures_in_every_form(small, kind):
    image, mask = picture(), block_mask()
    image = (image * 255).round() / 255
    if kind == "numpy":
        given = {"image": image.movedim(1, -1).numpy(), "mask_image": mask[:, 0].numpy()}
    elif kind == "pil":
        from diffusers.utils.pil_utils import numpy_to_pil

        given = {
            "image": numpy_to_pil(image.movedim(1, -1).numpy())[0],
            "mask_image": numpy_to_pil(mask.movedim(1, -1).numpy())[0],
        }
    else:
        given = {"image": [image[0]], "mask_image": [mask[0]]}
    call = {"prompt": PROMPTS[0], "num_inference_steps": 4, "output_type": "latent"}
    want = small.theirs["inpaint"](**call, **given, generator=generator()).images
    assert torch.equal(small.ours["inpaint"](**call, **given, generator=generator()).images, want)
    assert torch.equal(small.ours["inpaint"](**call, image=image, mask_image=mask, generator=generator()).images, want)
