"""A second family of models runs in a graph without a change to the pack."""

from __future__ import annotations

import shutil

import pytest
import torch

from amused_core import families, load_model
from tests import toy_family
from tests.comfy import graphs
from tests.comfy.graphs import same, tokens


@pytest.fixture
def toy(comfy):
    """The name of a checkpoint of the toy family; the core knows it here and in ComfyUI."""
    known = [families, comfy.module("amused_core.families")]
    for module in known:
        toy_family.register(module)
    yield (folder := toy_family.write_toy_checkpoint(comfy.models / "amused" / "toy"))
    shutil.rmtree(folder)
    for module in known:
        del module.FAMILIES[toy_family.CLASS]


def test_the_graph_draws_what_the_core_draws(comfy, toy):
    """On the fast path and on the stock path, where a node has put something around the model."""
    loader = graphs.load(comfy, toy.name)
    latent = graphs.empty(comfy, loader)
    drawn = comfy.run(graphs.sample(comfy, loader, latent, steps=5, cfg=0.0))
    want = load_model(toy).generate("a red apple", seed=3, steps=5, temperature=(2.0, 0.0)).tokens
    assert torch.equal(tokens(drawn), want)
    wrapped = comfy.run(loader).clone()
    wrapped.set_model_unet_function_wrapper(lambda ask, args: ask(args["input"], args["timestep"], **args["c"]))
    assert same(drawn, comfy.run(graphs.sample(comfy, loader, latent, steps=5, cfg=0.0, model=comfy.give(wrapped))))


def test_it_is_saved(comfy, toy):
    loader = graphs.load(comfy, toy.name)
    node = comfy.node(
        "AmusedSaveModel",
        model=loader, clip=(loader, 1), vae=(loader, 2), filename_prefix="toy", layout="one file", dtype="auto",
    )  # fmt: skip
    comfy.finish(node)
    (file,) = (comfy.models / "output").rglob("toy*.safetensors")
    assert torch.equal(load_model(file).generate("a").tokens, load_model(toy).generate("a").tokens)
