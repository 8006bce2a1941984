"""The nodes that look into a run, and the previews while it goes on."""

from __future__ import annotations

import pytest
import torch

from tests.comfy import graphs
from tests.comfy.harness import GraphError
from tests.comfy.runs import conditioning, speed, stock


def trace(comfy, loader, latent, text=None, **settings):
    """AmusedTrace with the settings of `graphs.sample`."""
    node = graphs.sample(comfy, loader, latent, text, **settings)
    node.class_type = "AmusedTrace"
    return node


def look(comfy, node, run, loader, **widgets):
    """A node that shows a trace."""
    own = {
        "AmusedTraceFrames": {"undecided": "guess"},
        "AmusedTraceMap": {"kind": "order", "step": 0, "opacity": 0.7, "legend": True},
        "AmusedWordAttention": {"word": "apple", "step": 0, "opacity": 0.7, "legend": True},
    }[node]
    return comfy.node(node, trace=(run, 1), vae=(loader, 2), **(own | widgets))


@pytest.mark.parametrize("model", ["tiny", "tiny512", "tiny8", "embedded"])
def test_every_node_runs(comfy, model):
    """On all layouts of the U-ViT; maps have 512 pixels and a strip, frames the picture's size."""
    loader = graphs.load(comfy, model)
    side = 128 if model == "embedded" else 40
    run = trace(comfy, loader, graphs.empty(comfy, loader, side, side), steps=3)
    maps = [look(comfy, "AmusedTraceMap", run, loader, kind=kind) for kind in ("order", "confidence", "entropy")]
    nodes = [*maps, look(comfy, "AmusedWordAttention", run, loader), look(comfy, "AmusedTraceFrames", run, loader)]
    *heats, frames, picture = comfy.run(*nodes, comfy.node("VAEDecode", samples=run, vae=(loader, 2)))
    for heat in heats:
        assert heat.shape[1] == heat.shape[2] + 36 and heat.shape[2] >= 512
        assert heat.min() >= 0 and heat.max() <= 1 and heat.std() > 0.01
    assert frames.shape == (3, side, side, 3)
    torch.testing.assert_close(frames[-1:], picture)


@pytest.mark.parametrize("cfg_schedule", ["constant", "ramp"])
def test_trace_draws_what_the_sampler_draws(comfy, cfg_schedule):
    loader = graphs.load(comfy)
    latent = graphs.empty(comfy, loader, batch=2)
    settings = {"top_k": 8, "cfg_schedule": cfg_schedule}
    run = trace(comfy, loader, latent, **settings)
    plain, traced, record = comfy.run(graphs.sample(comfy, loader, latent, **settings), run, (run, 1))
    assert graphs.same(plain, traced)
    assert torch.equal(record.tokens[-1], graphs.tokens(plain))


@pytest.mark.parametrize("settings", [{}, {"guidance_to": 0.5, "guidance_every": 2}], ids=["int8", "all"])
@pytest.mark.parametrize(("side", "batch"), [(128, 2), (256, 1)])
def test_trace_draws_what_the_sampler_draws_in_int8(comfy, side, batch, settings):
    """Where a last bit that differs becomes another token; and the attention is that of the positive prompt."""
    loader = graphs.load(comfy, "embedded")
    latent, text = graphs.empty(comfy, loader, side, side, batch), graphs.prompts(comfy, loader, "a red apple", "a cat")
    model = speed(comfy, loader, int8=True, **settings)
    run = trace(comfy, loader, latent, text, model=model)
    plain, traced, record = comfy.run(graphs.sample(comfy, loader, latent, text, model=model), run, (run, 1))
    exact = comfy.run((trace(comfy, loader, latent, text), 1))
    assert graphs.same(plain, traced)
    torch.testing.assert_close(record.attention[0], exact.attention[0], atol=0.01, rtol=0)


@pytest.mark.parametrize("settings", [{}, {"guidance_to": 0.5}, {"guidance_every": 2}], ids=str)
@pytest.mark.parametrize("cfg", [1.0, 3.0])
@pytest.mark.parametrize("name", ["tiny", "tiny512"])
def test_the_attention_is_that_of_each_pictures_prompt(comfy, name, cfg, settings):
    """On the fast path, whose passes have other rows, as on the stock path."""
    loader, words = graphs.load(comfy, name), ("a red apple", "two blue cats", "a red apple")
    rows = [conditioning(comfy, loader, text)[0] for text in words]
    pooled = torch.cat([more["pooled_output"] for _, more in rows])
    positive = comfy.give([[torch.cat([hidden for hidden, _ in rows]), {**rows[0][1], "pooled_output": pooled}]])
    latent, model = graphs.empty(comfy, loader, 36, 20, 3), speed(comfy, loader, **settings)
    runs = [
        trace(comfy, loader, latent, model=model, positive=positive, cfg=cfg, steps=4)
        for model in (model, stock(comfy, model))
    ]
    one, two = comfy.run(*((run, 1) for run in runs))
    assert torch.equal(one.tokens, two.tokens)
    torch.testing.assert_close(one.attention, two.attention, atol=1e-3, rtol=0)
    assert (two.attention[:, 0] - two.attention[:, 1]).abs().max() > 0.01


def test_trace_is_that_of_the_core(comfy):
    """Same steps, same certainty, same attention, same words as headless."""
    from amused_core import insight, load_model

    loader = graphs.load(comfy)
    run = trace(comfy, loader, graphs.empty(comfy, loader), seed=3, steps=4, cfg=3.0)
    got = comfy.run((run, 1))
    model = load_model(comfy.models / "amused" / "tiny", device="cpu")
    _, want = insight.trace(model, "a red apple", seed=3, steps=4, cfg=3.0, temperature=(2.0, 0.0))
    assert torch.equal(got.tokens, want.tokens) and torch.equal(got.predicted, want.predicted)
    torch.testing.assert_close(got.probability, want.probability, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(got.entropy, want.entropy, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(got.attention, want.attention, atol=2e-3, rtol=1e-2)
    assert got.words == want.words and "apple" in got.words[0]


def test_a_batch(comfy):
    """A map for each picture; frames of the first picture, then of the second."""
    loader = graphs.load(comfy)
    run = trace(comfy, loader, graphs.empty(comfy, loader, batch=2), steps=3)
    nodes = [look(comfy, kind, run, loader) for kind in ("AmusedTraceMap", "AmusedWordAttention", "AmusedTraceFrames")]
    order, word, frames, picture = comfy.run(*nodes, comfy.node("VAEDecode", samples=run, vae=(loader, 2)))
    assert len(order) == len(word) == 2 and len(frames) == 6
    torch.testing.assert_close(frames[[2, 5]], picture)


def test_under_a_mask(comfy):
    """What is kept is known from the start, and never grey."""
    loader = graphs.load(comfy)
    latent = graphs.latent() | {"noise_mask": graphs.block_mask()[:, None]}
    run = trace(comfy, loader, comfy.give(latent), steps=3)
    record, frames = comfy.run((run, 1), look(comfy, "AmusedTraceFrames", run, loader, undecided="hidden"))
    kept = graphs.block_mask()[0, ::4, ::4] == 0
    assert (record.tokens[:, 0][:, kept] == graphs.tokens(latent)[0][kept]).all()
    assert (record.tokens[0, 0][~kept] == -1).all()
    assert frames.shape == (3, 32, 32, 3)


def test_a_run_without_steps(comfy):
    """A denoise of 0 draws nothing: maps still show, attention says that there is none."""
    loader = graphs.load(comfy)
    run = trace(comfy, loader, comfy.give(graphs.latent()), denoise=0.0)
    order, frames = comfy.run(look(comfy, "AmusedTraceMap", run, loader), look(comfy, "AmusedTraceFrames", run, loader))
    assert len(order) == len(frames) == 1
    with pytest.raises(GraphError, match="its run had no step"):
        comfy.run(look(comfy, "AmusedWordAttention", run, loader))


@pytest.mark.parametrize(
    ("node", "widgets", "message"),
    [
        (
            "AmusedWordAttention",
            {"word": "pear"},
            "The word 'pear' is not in the prompt; its words are: a, red, apple.",
        ),
        ("AmusedWordAttention", {"word": " "}, "is not in the prompt"),
        ("AmusedWordAttention", {"step": 9}, "step is 9; this run had 3: allowed are 0 to 3."),
        ("AmusedTraceMap", {"step": 4, "kind": "entropy"}, "step is 4; this run had 3"),
        ("AmusedTraceMap", {"kind": "size"}, "kind is 'size'|not in list"),
        ("AmusedTraceFrames", {"undecided": "red"}, "undecided is 'red'|not in list"),
    ],
)
def test_one_sentence_for_each_mistake(comfy, node, widgets, message):
    loader = graphs.load(comfy)
    run = trace(comfy, loader, graphs.empty(comfy, loader), steps=3)
    with pytest.raises(GraphError, match=message):
        comfy.run(look(comfy, node, run, loader, **widgets))


def test_the_vae_of_another_model(comfy):
    loader = graphs.load(comfy)
    run = trace(comfy, loader, graphs.empty(comfy, loader), steps=2)
    with pytest.raises(GraphError, match="connect the VAE of the same 'Load aMUSEd'"):
        comfy.run(look(comfy, "AmusedTraceMap", run, graphs.load(comfy, "embedded")))


def test_several_prompts_have_no_words(comfy):
    loader = graphs.load(comfy)
    one, two = graphs.prompts(comfy, loader), graphs.prompts(comfy, loader, "a dog")
    for kind, names in (
        ("Combine", ("conditioning_1", "conditioning_2")),
        ("Concat", ("conditioning_to", "conditioning_from")),
    ):
        both = comfy.node(f"Conditioning{kind}", **dict(zip(names, (one, two), strict=True)))
        run = trace(comfy, loader, graphs.empty(comfy, loader), positive=both, steps=2)
        with pytest.raises(GraphError, match="its prompt is not plain text of one"):
            comfy.run(look(comfy, "AmusedWordAttention", run, loader))


def test_words_of_unequal_prompts(comfy):
    """ComfyUI repeats the shorter prompt; weights, case and the stock node do not hide a word."""
    loader = graphs.load(comfy)
    text = comfy.node("CLIPTextEncode", clip=(loader, 1), text="a (Red:1.3) apple")
    blurred = comfy.node("CLIPTextEncode", clip=(loader, 1), text="blurred " * 3)
    long = comfy.node("ConditioningConcat", conditioning_to=blurred, conditioning_from=blurred)
    run = trace(comfy, loader, graphs.empty(comfy, loader), positive=text, negative=long, steps=2)
    record, heat = comfy.run((run, 1), look(comfy, "AmusedWordAttention", run, loader, word="red"))
    assert record.attention.shape[-1] > len(record.words[0]) == 24
    assert heat.std() > 0.01


def test_cached_rerun(comfy):
    """Another map of the same run does not draw again."""
    loader = graphs.load(comfy)
    run = trace(comfy, loader, graphs.empty(comfy, loader), steps=3)
    first = comfy.run(look(comfy, "AmusedTraceMap", run, loader))
    assert len(comfy.steps) == 3
    second = comfy.run(look(comfy, "AmusedTraceMap", run, loader, kind="confidence"))
    assert not comfy.steps and not torch.equal(first, second)


@pytest.mark.parametrize("ids", [False, True])
def test_token_grid(comfy, ids):
    loader = graphs.load(comfy)
    samples = comfy.give(graphs.latent(2))
    image = comfy.node("VAEDecode", samples=samples, vae=(loader, 2))
    grid, picture = comfy.run(comfy.node("AmusedTokenGrid", samples=samples, image=image, ids=ids), image)
    assert grid.shape == (2, 512, 512, 3)
    assert (grid[:, ::64] <= 0.16).all() and (grid[:, :, ::64] <= 0.16).all()
    inside = grid[:, 2:62, 2:62].sum()
    assert ids or torch.allclose(inside, picture.repeat_interleave(16, 1).repeat_interleave(16, 2)[:, 2:62, 2:62].sum())


def test_token_grid_refuses_another_picture(comfy):
    node = comfy.node(
        "AmusedTokenGrid", samples=comfy.give(graphs.latent()), image=comfy.give(graphs.picture(1, 36, 32)), ids=False
    )
    with pytest.raises(GraphError, match="32x36 pixels, which 8x8 tokens do not fill"):
        comfy.run(node)


@pytest.fixture
def previews(comfy):
    """Sets ComfyUI's preview method, for one test."""
    yield comfy.previews
    comfy.previews("none")


def sent(comfy):
    """The pictures of all previews that the last run sent."""
    return [step[2][1] for step in comfy.steps if step[2]]


def decodes_previews():
    """Whether this ComfyUI asks a latent format for decoded previews; older ones show the cheap one."""
    import comfy.latent_formats

    return hasattr(comfy.latent_formats.LatentFormat, "latent_rgb_factors_reshape")


@pytest.mark.parametrize("node", [graphs.sample, graphs.ksampler, graphs.custom, trace])
def test_previews_follow_comfyuis_setting(comfy, previews, monkeypatch, node):
    """In our nodes and in stock ones: none computes nothing, latent2rgb one pixel per cell, taesd a picture."""
    loader = graphs.load(comfy)
    model = comfy.run(loader)
    asked = []
    colors, decoder = model.model.latent_format._colors, model.model.latent_format._decoder
    monkeypatch.setattr(model.model.latent_format, "_colors", lambda: asked.append("colors") or colors())
    monkeypatch.setattr(model.model.latent_format, "_decoder", lambda: asked.append("decoder") or decoder())
    good = (32, 32) if decodes_previews() else (8, 8)
    wanted = {"none": None, "latent2rgb": (8, 8), "auto": (8, 8), "taesd": good}
    for seed, (method, size) in enumerate(wanted.items()):
        previews(method)
        asked.clear()
        settings = {"noise_seed": seed} if node is graphs.custom else {"seed": seed}
        comfy.run(node(comfy, loader, graphs.empty(comfy, loader), **settings))
        assert len(comfy.steps) == 6
        assert [picture.size for picture in sent(comfy)] == [size] * (6 if size else 0)
        assert set(asked) == {None: set(), (8, 8): {"colors"}, (32, 32): {"decoder"}}[size]


@pytest.mark.parametrize("method", ["latent2rgb", "taesd"])
def test_undecided_cells_are_veiled(comfy, previews, method):
    """Nearer to grey than what is decided, and not at all in the last preview."""
    import numpy as np

    if method == "taesd" and not decodes_previews():
        pytest.skip("this ComfyUI has no decoded previews for new models")

    comfy.fresh()
    loader = graphs.load(comfy)
    previews(method)
    run = trace(comfy, loader, graphs.empty(comfy, loader))
    vae, record = comfy.run((loader, 2), (run, 1))
    shown = [torch.from_numpy(np.array(picture)).float() / 255 for picture in sent(comfy)]
    assert len(shown) == record.steps == 6
    for picture, guess, tokens in zip(shown, record.predicted[:, 0], record.tokens[1:, 0], strict=True):
        plain = vae.decode((guess + 1)[None, None].float())[0] if method == "taesd" else vae.code_colors()[guess]
        undecided = (tokens < 0).repeat_interleave(len(picture) // 8, 0).repeat_interleave(len(picture) // 8, 1)
        torch.testing.assert_close(picture[~undecided], plain[~undecided], atol=0.01, rtol=0)
        grey = 0.1 if method == "taesd" else 0.01
        if undecided.any():
            assert (picture - 0.5).abs()[undecided].max() <= 0.5 * (plain - 0.5).abs()[undecided].max() + grey
    assert not undecided.any()


def test_large_previews_are_small(comfy):
    preview = comfy.module("nodes.host.latent.preview")
    vq = comfy.run((graphs.load(comfy), 2)).first_stage_model.vq
    planes = torch.zeros(2, 64, 100, 50)
    planes[:, 3] = 1
    shown = preview.decoded(planes, vq)
    assert shown.shape == (1, 3, 256, 128) and shown.min() >= -1 and shown.max() <= 1
