"""The drop-in classes: signatures, outputs, callbacks, shared weights, adapters and hooks."""

from __future__ import annotations

import gc
import inspect
import types
import weakref

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from amused_core.pipelines import AmusedPipeline
from amused_core.pipelines.shared import shared_uvit
from tests.parity.oracle import MASK_ID, PROMPTS, TASKS, block_mask, generator, picture, quiet
from tests.tiny import tiny_transformer

PROMPT = PROMPTS[0]
RUN = {"num_inference_steps": 3, "output_type": "latent"}


@pytest.fixture
def pipe(small):
    """A pipeline with weights of its own."""
    return quiet(AmusedPipeline.from_pretrained(small.folder))


def start(task):
    image = {"image": picture()}
    return {"text2img": {}, "img2img": image, "inpaint": image | {"mask_image": block_mask()}}[task]


@pytest.mark.parametrize("task", TASKS)
def test_signature_is_that_of_diffusers(small, task):
    ours, theirs = (inspect.signature(type(pipes[task]).__call__).parameters for pipes in (small.ours, small.theirs))
    assert list(ours) == list(theirs)
    assert {k: p.default for k, p in ours.items()} == {k: p.default for k, p in theirs.items()}
    ours, theirs = (inspect.signature(type(pipes[task]).__init__).parameters for pipes in (small.ours, small.theirs))
    assert list(ours) == list(theirs)


@pytest.mark.parametrize("task", TASKS)
def test_components_are_those_of_diffusers(small, task):
    ours, theirs = small.ours[task], small.theirs[task]
    assert set(ours.components) == set(theirs.components)
    assert type(ours).__name__ == type(theirs).__name__
    assert type(ours).model_cpu_offload_seq == type(theirs).model_cpu_offload_seq
    assert type(ours)._exclude_from_cpu_offload == type(theirs)._exclude_from_cpu_offload
    assert ours.vae_scale_factor == theirs.vae_scale_factor == 4


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    ("kind", "check"),
    [
        ("pil", lambda out: isinstance(out, list) and isinstance(out[0], Image.Image) and out[0].size == (32, 32)),
        ("np", lambda out: isinstance(out, np.ndarray) and out.shape == (1, 32, 32, 3) and 0 <= out.min() < out.max()),
        ("pt", lambda out: out.shape == (1, 3, 32, 32) and out.dtype == torch.float32),
        ("latent", lambda out: out.shape == (1, 8, 8) and out.dtype == torch.int64),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_outputs(small, task, kind, check):
    call = {"num_inference_steps": 2, "output_type": kind} | start(task)
    result = small.ours[task](PROMPT, **call)
    assert isinstance(result, diffusers.ImagePipelineOutput)
    assert check(result.images)
    result = small.ours[task](PROMPT, **call, return_dict=False)
    assert isinstance(result, tuple)
    assert len(result) == 1
    assert check(result[0])


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("every", [1, 2])
def test_callback_is_called_as_in_diffusers(small, task, every):
    seen = {}
    for name, pipes in (("theirs", small.theirs), ("ours", small.ours)):
        calls = seen[name] = []
        pipes[task](
            PROMPT,
            **start(task) | RUN | {"num_inference_steps": 5},
            generator=generator(),
            callback=lambda i, t, x, calls=calls: calls.append((i, int(t), x.shape, x.tolist())),
            callback_steps=every,
        )
    assert seen["ours"] == seen["theirs"] != []


def test_callback_may_change_the_tokens(small):
    """In place, as diffusers allows."""

    def put_back(step, timestep, tokens):
        tokens[:, 0] = MASK_ID if step < 2 else 5

    tokens = small.ours["text2img"](PROMPT, **RUN, callback=put_back).images
    assert (tokens[:, 0] == 5).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"prompt": PROMPT, "prompt_embeds": torch.zeros(1, 32)}, "pass either both `prompt_embeds`"),
        ({}, "pass only one of `prompt` or `prompt_embeds`"),
        ({"prompt": PROMPT, "negative_prompt_embeds": torch.zeros(1, 32)}, "pass either both `negative_prompt_embeds`"),
        ({"prompt": []}, r"prompt is \[\]"),
        ({"prompt": PROMPT, "num_inference_steps": 0}, "steps is 0"),
        ({"prompt": PROMPT, "guidance_scale": float("nan")}, "guidance_scale is nan"),
        ({"prompt": PROMPT, "temperature": (1, 2, 3)}, "temperature is"),
        ({"prompt": PROMPT, "num_images_per_prompt": 0}, "num_images_per_prompt is 0"),
        ({"prompt": PROMPT, "callback_steps": 0}, "callback_steps is 0"),
        ({"prompt": PROMPT, "output_type": "jpeg"}, "output_type is 'jpeg'"),
        ({"prompt": PROMPT, "generator": 3}, "generator is 3"),
        ({"prompt": PROMPT, "latents": torch.zeros(1, 4, 4).long(), "height": 32}, "32x32|16x32"),
        ({"prompt": PROMPT, "latents": torch.full((1, 8, 8), 70)}, "latents hold ids from 70 to 70"),
        ({"prompt": PROMPT, "latents": torch.zeros(8).long()}, r"must be \[B,h,w\]"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_input_of_text2img(small, call, message):
    with pytest.raises(ValueError, match=message):
        small.ours["text2img"](**call)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"image": None}, "image is a NoneType"),
        ({"image": torch.rand(1, 4, 32, 32)}, r"\(1, 4, 32, 32\); it must be \[B,3,H,W\]"),
        ({"image": picture() * 2 - 1}, "values run from"),
        ({"image": picture() * torch.nan}, "values run from nan"),
        ({"strength": 1.5}, "strength is 1.5"),
        ({"mask_image": None}, "mask_image is a NoneType"),
        ({"mask_image": []}, "empty list"),
        ({"mask_image": torch.rand(1, 2, 32, 32)}, "one or more planes"),
        ({"mask_image": block_mask() * torch.nan}, "NaN"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_input_of_inpaint(small, call, message):
    with pytest.raises(ValueError, match=message):
        small.ours["inpaint"](PROMPT, **start("inpaint") | call)


def test_weights_are_shared_and_not_copied(pipe):
    uvit = shared_uvit(pipe.transformer)
    theirs, ours = dict(pipe.transformer.named_parameters()), dict(uvit.named_parameters())
    assert theirs.keys() == ours.keys()
    assert all(ours[name] is theirs[name] for name in ours)


def test_weights_stay_shared_when_they_move_or_change(pipe, small):
    def tokens(**kwargs):
        return pipe(PROMPT, **RUN, generator=generator()).images

    def component(pipe):
        return quiet(diffusers.AmusedPipeline(**pipe.components))(PROMPT, **RUN, generator=generator()).images

    first = tokens()
    pipe.to(torch.float64).to(torch.float32)
    assert torch.equal(tokens(), first)
    with torch.no_grad():
        pipe.transformer.mlm_layer.conv2.weight.mul_(-1)
    assert torch.equal(tokens(), component(pipe))
    assert not torch.equal(tokens(), first)
    other = tiny_transformer().eval()
    state = {name: value.clone() for name, value in other.state_dict().items()}
    pipe.transformer.load_state_dict(state, assign=True)
    changed = tokens()
    assert torch.equal(changed, component(pipe))
    pipe.transformer = small.ours["text2img"].transformer
    assert torch.equal(tokens(), first)


def test_a_replaced_transformer_is_freed(pipe, small):
    pipe(PROMPT, **RUN)
    weight = weakref.ref(pipe.transformer.encoder_proj.weight)
    pipe.transformer = small.ours["text2img"].transformer
    gc.collect()
    assert weight() is None


class LowRank(nn.Linear):
    """A linear layer with something added, as an adapter does."""

    def forward(self, x):
        return super().forward(x) + x.flip(-1)


def adapt(transformer):
    for layer in transformer.transformer_layers:
        layer.attn1.to_q.__class__ = LowRank


def hook(transformer):
    transformer.transformer_layers[0].register_forward_hook(lambda module, given, out: out * 2)


def patch(transformer):
    layer = transformer.transformer_layers[0]
    old = layer.forward
    layer.forward = lambda *given, **named: old(*given, **named) * 2


def processor(transformer):
    class Doubled(diffusers.models.attention_processor.AttnProcessor):
        def __call__(self, *given, **named):
            return 2 * super().__call__(*given, **named)

    transformer.set_attn_processor(Doubled())


def around(layer, x, weight, bias):
    """Seamless tiling, as packs put it in the place of `Conv2d._conv_forward`."""
    edge = layer.padding[0]
    padded = nn.functional.pad(x, (edge,) * 4, mode="circular") if edge else x
    return nn.functional.conv2d(padded, weight, bias, layer.stride, 0, layer.dilation, layer.groups)


def tile(transformer):
    for layer in transformer.modules():
        if isinstance(layer, nn.Conv2d):
            layer._conv_forward = types.MethodType(around, layer)


def pad(transformer):
    for layer in transformer.modules():
        if isinstance(layer, nn.Conv2d) and layer.padding == (1, 1):
            layer.padding_mode, layer._reversed_padding_repeated_twice = "reflect", [1] * 4


def attribute(transformer):
    for layer in transformer.transformer_layers:
        layer.norm3.norm.eps = 100.0


def parametrize(transformer):
    linear = transformer.transformer_layers[0].attn1.to_v
    nn.utils.parametrize.register_parametrization(linear, "weight", nn.ReLU())


@pytest.mark.parametrize(
    "change", [adapt, hook, patch, processor, tile, pad, attribute, parametrize], ids=lambda f: f.__name__
)
def test_a_changed_transformer_is_called_itself(pipe, change):
    call = {**RUN, "num_inference_steps": 1, "temperature": 0}
    before = pipe(PROMPT, **call, generator=generator()).images
    change(pipe.transformer)
    assert shared_uvit(pipe.transformer) is None
    want = quiet(diffusers.AmusedPipeline(**pipe.components))(PROMPT, **call, generator=generator()).images
    got = pipe(PROMPT, **call, generator=generator()).images
    assert torch.equal(got, want)
    assert not torch.equal(got, before)


def test_a_method_of_a_class_is_called(pipe, monkeypatch):
    call = {**RUN, "num_inference_steps": 1, "temperature": 0}
    before = pipe(PROMPT, **call, generator=generator()).images
    monkeypatch.setattr(nn.Conv2d, "_conv_forward", around)
    assert shared_uvit(pipe.transformer) is None
    want = quiet(diffusers.AmusedPipeline(**pipe.components))(PROMPT, **call, generator=generator()).images
    got = pipe(PROMPT, **call, generator=generator()).images
    assert torch.equal(got, want)
    assert not torch.equal(got, before)


def test_an_odd_grid_with_a_changed_transformer(oracle):
    pipe = quiet(AmusedPipeline.from_pretrained(oracle.folder))
    call = {**RUN, "height": 28, "width": 36}
    before = pipe(PROMPT, **call, generator=generator()).images
    pipe.transformer.register_forward_hook(lambda module, given, out: out)
    assert shared_uvit(pipe.transformer) is None
    assert torch.equal(pipe(PROMPT, **call, generator=generator()).images, before)


def test_cross_attention_kwargs_reach_the_processors(pipe):
    seen = []

    class Listening(diffusers.models.attention_processor.AttnProcessor2_0):
        def __call__(self, *given, strength=None, **named):
            seen.append(strength)
            return super().__call__(*given, **named)

    pipe.transformer.set_attn_processor(Listening())
    pipe(PROMPT, **RUN, cross_attention_kwargs={"strength": 0.3})
    assert set(seen) == {0.3}


@pytest.mark.parametrize("task", TASKS)
def test_offload(small, task):
    pytest.importorskip("accelerate")
    pipe = quiet(type(small.ours[task]).from_pretrained(small.folder))
    want = pipe(PROMPT, **start(task) | RUN | {"output_type": "np"}, generator=generator()).images
    pipe.enable_model_cpu_offload(device="cpu")
    assert shared_uvit(pipe.transformer) is None
    for _ in range(2):
        got = pipe(PROMPT, **start(task) | RUN | {"output_type": "np"}, generator=generator()).images
        assert np.abs(got - want).max() < 1e-5


def test_lora_through_peft(pipe):
    peft = pytest.importorskip("peft")
    before = pipe(PROMPT, **RUN, generator=generator()).images
    pipe.transformer.add_adapter(peft.LoraConfig(r=4, target_modules=["to_q", "to_v"], init_lora_weights=False))
    with_lora = pipe(PROMPT, **RUN, generator=generator()).images
    want = quiet(diffusers.AmusedPipeline(**pipe.components))(PROMPT, **RUN, generator=generator()).images
    assert torch.equal(with_lora, want)
    assert not torch.equal(with_lora, before)
    pipe.transformer.unload_lora()
    assert torch.equal(pipe(PROMPT, **RUN, generator=generator()).images, before)
