"""Where diffusers' pipelines are wrong, ours and `generate` are right: one test for each of its bugs."""

from __future__ import annotations

import diffusers
import pytest
import torch
from PIL import Image, ImageDraw

from amused_core.pipelines import AmusedImg2ImgPipeline, AmusedInpaintPipeline, AmusedPipeline
from amused_core.pipelines.shared import shared_uvit
from tests.parity.oracle import MASK_ID, PROMPTS, TASKS, block_mask, generator, picture, quiet

LATENT = {"output_type": "latent"}
PROMPT = PROMPTS[0]


def start(task, count=1):
    """The picture and mask that a task begins with."""
    image = {"image": picture(count)}
    return {"text2img": {}, "img2img": image, "inpaint": image | {"mask_image": block_mask()}}[task]


def own_tokens(oracle, image):
    return oracle.model.vq.encode(image.movedim(1, -1))


def cells(mask):
    """The cells of 4x4 pixels that a mask [B,1,H,W] covers."""
    return torch.nn.functional.max_pool2d(mask, 4)[:, 0] > 0


def test_strength_1_ignores_the_picture(oracle):
    call = {"prompt": PROMPT, "num_inference_steps": 4, **LATENT}
    want = oracle.ours["text2img"](**call, generator=generator()).images
    got = oracle.ours["img2img"](**call, image=picture(), strength=1.0, generator=generator()).images
    assert torch.equal(got, want)
    headless = oracle.model.generate(
        PROMPT, image=picture().movedim(1, -1), strength=1.0, steps=4, cfg=10.0, seed=3, seeding="diffusers"
    )
    assert torch.equal(headless.tokens, want)


@pytest.mark.parametrize("strength", [0.0, 0.01])
@pytest.mark.parametrize("task", ["img2img", "inpaint"])
def test_small_strengths_run_one_step(small, task, strength):
    seen = []
    call = start(task) | {"strength": strength, "num_inference_steps": 5, **LATENT}
    tokens = small.ours[task](PROMPT, **call, callback=lambda *step: seen.append(int(step[0])), generator=generator())
    assert seen == [4]
    assert (tokens.images < MASK_ID).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_kept_tokens_never_change(small, dtype):
    pipe = quiet(AmusedInpaintPipeline.from_pretrained(small.folder, torch_dtype=dtype))
    image, mask = picture(), block_mask()
    call = {"image": image, "mask_image": mask, "num_inference_steps": 6, "temperature": (60, 60)}
    tokens = pipe(PROMPT, **call, num_images_per_prompt=6, generator=generator(), **LATENT).images
    kept, own = ~cells(mask)[0], pipe._tokens_of(image.movedim(1, -1))[0]
    assert (tokens[:, kept] == own[kept]).all()
    assert (tokens[:, ~kept] != own[~kept]).any()


def test_diffusers_changes_kept_tokens_where_we_do_not(small):
    """The check above can fail: at this temperature it does, in diffusers."""
    image, mask = picture(), block_mask()
    call = {"image": image, "mask_image": mask, "num_inference_steps": 6, "temperature": (60, 60)}
    tokens = small.theirs["inpaint"](PROMPT, **call, num_images_per_prompt=6, generator=generator(), **LATENT).images
    kept = ~cells(mask)[0]
    assert (tokens[:, kept] != own_tokens(small, image)[0, kept]).any()


def test_an_empty_mask_returns_the_pictures_own_tokens(small):
    image, mask = picture(), torch.zeros(1, 1, 32, 32)
    tokens = small.ours["inpaint"](PROMPT, image, mask, generator=generator(), **LATENT).images
    assert torch.equal(tokens, own_tokens(small, image))
    headless = small.model.generate(PROMPT, image=image.movedim(1, -1), mask=mask[:, 0], seeding="diffusers")
    assert torch.equal(headless.tokens, own_tokens(small, image))


def test_a_stroke_of_one_pixel_selects_every_cell_it_touches(small):
    stroke = Image.new("L", (32, 32))
    ImageDraw.Draw(stroke).line((0, 17, 31, 17), fill=255)
    first = []
    small.ours["inpaint"](
        PROMPT, picture(), stroke, num_inference_steps=8, callback=lambda i, t, x: first.append(x.clone()), **LATENT
    )
    changed = first[-1] != own_tokens(small, picture())
    outside = torch.ones(1, 8, 8, dtype=torch.bool)
    outside[:, 4] = False
    assert not changed[outside].any()
    # 8 cells, an eighth of them settled in the first of 8 steps.
    assert (first[0] == MASK_ID).sum() == 7


def test_a_mask_of_another_size_is_stretched(small):
    call = {"prompt": PROMPT, "image": picture(), "num_inference_steps": 3, **LATENT}
    whole = small.ours["inpaint"](**call, mask_image=block_mask(), generator=generator()).images
    for factor in (0.25, 2):
        mask = torch.nn.functional.interpolate(block_mask(), scale_factor=factor)
        assert torch.equal(small.ours["inpaint"](**call, mask_image=mask, generator=generator()).images, whole)


def test_masks_of_whole_numbers(small):
    call = {"prompt": PROMPT, "image": picture(), "num_inference_steps": 3, **LATENT}
    whole = small.ours["inpaint"](**call, mask_image=block_mask(), generator=generator()).images
    for mask in (block_mask().byte(), block_mask().byte() * 255, block_mask().bool()):
        assert torch.equal(small.ours["inpaint"](**call, mask_image=mask, generator=generator()).images, whole)


def test_each_picture_has_its_own_mask_ratio(small):
    masks = torch.zeros(2, 1, 32, 32)
    masks[0] = 1
    masks[1, :, :8, :8] = 1
    counts = []
    small.ours["inpaint"](
        PROMPT,
        picture(2),
        masks,
        num_inference_steps=4,
        callback=lambda i, t, tokens: counts.append((tokens == MASK_ID).flatten(1).sum(-1).tolist()),
        **LATENT,
    )
    assert counts == [[48, 3], [32, 2], [16, 1], [0, 0]]


@pytest.mark.parametrize("task", TASKS)
def test_a_list_of_generators_is_one_for_each_picture(oracle, task):
    call = start(task) | {"num_inference_steps": 4, **LATENT}
    batch = oracle.ours[task](
        PROMPT, **call, num_images_per_prompt=3, generator=[generator(i) for i in range(3)]
    ).images
    for i in range(3):
        alone = oracle.theirs[task](PROMPT, **call, generator=generator(i)).images
        assert torch.equal(batch[i : i + 1], alone)


def test_per_image_seeds_give_the_same_picture_alone_and_in_a_batch(oracle):
    batch = oracle.model.generate(PROMPTS, seed=[5, 9], steps=4, width=32, height=32)
    alone = oracle.model.generate(PROMPTS[1], seed=9, steps=4, width=32, height=32)
    assert torch.equal(batch.tokens[1:], alone.tokens)


@pytest.mark.parametrize(
    ("task", "call"),
    [
        ("img2img", {"prompt": PROMPTS, "image": picture()}),
        ("img2img", {"prompt": PROMPT, "image": picture(2)}),
        ("inpaint", {"prompt": PROMPTS, "image": picture(), "mask_image": block_mask()}),
        ("inpaint", {"prompt": PROMPT, "image": picture(2), "mask_image": block_mask()}),
        ("inpaint", {"prompt": PROMPT, "image": picture(), "mask_image": block_mask().repeat(2, 1, 1, 1)}),
        ("text2img", {"prompt": PROMPTS, "negative_prompt": "dark"}),
        ("text2img", {"prompt": PROMPT, "negative_prompt": ["dark", "blur"]}),
    ],
    ids=lambda value: value if isinstance(value, str) else "+".join(value),
)
def test_single_things_are_shared_by_the_batch(small, task, call):
    spread = {
        name: ([value] * 2 if isinstance(value, str) else value.repeat(2, 1, 1, 1) if len(value) == 1 else value)
        for name, value in call.items()
    }
    run = {"num_inference_steps": 3, **LATENT}
    want = small.theirs[task](**spread, **run, generator=generator()).images
    assert torch.equal(small.ours[task](**call, **run, generator=generator()).images, want)


def test_things_that_do_not_fit_are_refused_with_both_sizes(small):
    with pytest.raises(ValueError, match=r"prompt \(2\) and image \(3\)"):
        small.ours["img2img"](PROMPTS, picture(3))
    with pytest.raises(ValueError, match="generator is a list of 2, but 3 images"):
        small.ours["text2img"](PROMPT, num_images_per_prompt=3, generator=[generator(), generator()])


def test_embeddings_without_negatives(small):
    cond = small.model.text.encode([PROMPT])
    given = {"prompt_embeds": cond.pooled, "encoder_hidden_states": cond.hidden}
    run = {"num_inference_steps": 3, **LATENT}
    want = small.ours["text2img"](PROMPT, **run, generator=generator()).images
    assert torch.equal(small.ours["text2img"](**given, **run, generator=generator()).images, want)


def test_no_shared_scheduler_is_changed(small):
    components = quiet(AmusedPipeline.from_pretrained(small.folder)).components
    scheduler = components["scheduler"]
    before = dict(scheduler.config), dict(vars(scheduler))
    for cls in (AmusedInpaintPipeline, AmusedImg2ImgPipeline, AmusedPipeline):
        pipe = quiet(cls(**components))
        extra = {AmusedPipeline: {}, AmusedImg2ImgPipeline: start("img2img")}.get(cls, start("inpaint"))
        pipe(PROMPT, **extra, num_inference_steps=2)
    assert (dict(scheduler.config), dict(vars(scheduler))) == before
    assert scheduler.config.masking_schedule == "cosine"


class Interrupt(Exception):
    pass


def interrupt(*given, **named):
    raise Interrupt


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("task", TASKS)
def test_no_module_is_left_in_another_dtype(small, task, dtype):
    pipe = small.ours[task]
    pipe = quiet(type(pipe).from_pretrained(small.folder, torch_dtype=dtype))
    seen = []
    decode = pipe.vqvae.decode
    pipe.vqvae.decode = lambda *a, **k: seen.append(pipe.vqvae.dtype) or decode(*a, **k)
    weights = pipe.vqvae.encoder.conv_in.weight.clone()
    for extra in ({}, LATENT, {"callback": interrupt}):
        try:
            pipe(PROMPT, **start(task), num_inference_steps=2, **extra)
        except Interrupt:
            pass
        for name in ("vqvae", "transformer", "text_encoder"):
            assert {p.dtype for p in getattr(pipe, name).parameters()} == {dtype}
    assert seen == [torch.float32]
    assert torch.equal(pipe.vqvae.encoder.conv_in.weight, weights)


def test_the_vq_is_put_back_when_decoding_fails(small):
    pipe = quiet(AmusedPipeline.from_pretrained(small.folder, torch_dtype=torch.float16))
    pipe.vqvae.decode = interrupt
    with pytest.raises(Interrupt):
        pipe(PROMPT, num_inference_steps=1)
    assert pipe.vqvae.dtype == torch.float16


@pytest.mark.parametrize("size", [(28, 36), (4, 4), (12, 40)], ids=str)
def test_odd_grids(oracle, size):
    height, width = size
    result = oracle.ours["text2img"](PROMPT, height=height, width=width, num_inference_steps=3, output_type="np")
    assert result.images.shape == (1, height, width, 3)
    assert oracle.model.generate(PROMPT, height=height, width=width, steps=3).images.shape == (1, height, width, 3)
    oracle.ours["img2img"](PROMPT, picture(1, height, width), num_inference_steps=3)
    whole = torch.ones(1, 1, height, width)
    oracle.ours["inpaint"](PROMPT, picture(1, height, width), whole, num_inference_steps=3)


@pytest.mark.parametrize("side", [30, 33, 0])
def test_sides_that_are_no_multiples_are_refused(small, side):
    with pytest.raises(ValueError, match=f"height is {side}"):
        small.ours["text2img"](PROMPT, height=side)
    if side:
        with pytest.raises(ValueError, match="multiples of 4 .nearest: 32x32"):
            small.ours["img2img"](PROMPT, Image.new("RGB", (32, side)))


def test_order_of_several_pictures_per_prompt(small):
    """p0, p1, p0, p1, as in diffusers."""
    run = {"num_inference_steps": 3, **LATENT}
    batch = small.ours["text2img"](
        PROMPTS, **run, num_images_per_prompt=2, generator=[generator(i) for i in range(4)]
    ).images
    for i in range(4):
        alone = small.ours["text2img"](PROMPTS[i % 2], **run, generator=generator(i)).images
        assert torch.equal(batch[i : i + 1], alone)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_micro_conditioning_is_not_rounded(small, dtype):
    pipe = quiet(AmusedPipeline.from_pretrained(small.folder, torch_dtype=dtype))
    seen, uvit = [], shared_uvit(pipe.transformer)
    condition = uvit.condition
    uvit.condition = lambda *given: seen.append(given[-1]) or condition(*given)
    pipe(PROMPT, num_inference_steps=1, micro_conditioning_crop_coord=(2049, 3001), **LATENT)
    assert [micro.tolist() for micro in seen] == [[[32, 32, 2049, 3001, 6]]] * 2


def test_tokens_to_go_on_from_are_kept(small):
    latents = torch.full((1, 8, 8), MASK_ID)
    latents[:, :4] = 7
    tokens = small.ours["text2img"](PROMPT, latents=latents, temperature=60, generator=generator(), **LATENT).images
    assert (tokens[:, :4] == 7).all()
    assert (tokens < MASK_ID).all()
    assert (latents[:, 4:] == MASK_ID).all()


def test_diffusers_still_has_these_bugs(small):
    """The reason for this file: should diffusers mend one, its result is the one to compare with again."""
    call = {"prompt": PROMPT, "image": picture(), "strength": 1.0, "generator": generator(), **LATENT}
    unchanged = small.theirs["img2img"](**call).images == own_tokens(small, picture())
    assert unchanged.float().mean() > 0.9
    with pytest.raises(RuntimeError):
        small.theirs["text2img"](PROMPTS, negative_prompt="dark")
    scheduler = diffusers.AmusedScheduler(mask_token_id=MASK_ID)
    diffusers.AmusedInpaintPipeline(**{**small.theirs["text2img"].components, "scheduler": scheduler})
    assert scheduler.config.masking_schedule == "linear"
