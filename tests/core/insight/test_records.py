"""Seeing inside a run: records, maps, and their pictures."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from amused_core import AmusedError, Step, insight
from amused_core.insight.attention import AttentionMeter, to_grid
from amused_core.insight.cells import DARK, LIGHT, cell_size, enlarge, paint_undecided
from amused_core.networks import predictor
from amused_core.sampling.loop import sample
from amused_core.sampling.randomness import PerImageDraws
from amused_core.sampling.schedule import Schedule
from tests.core.fakes import masked_only

CODES, MASK = 16, 99


def flat(tokens: Tensor, index: int) -> Tensor:
    """A model that has no idea."""
    return torch.zeros(len(tokens), CODES, *tokens.shape[1:])


def sharp(tokens: Tensor, index: int) -> Tensor:
    """A model that is sure of code 5."""
    logits = torch.zeros(len(tokens), CODES, *tokens.shape[1:])
    logits[:, 5] = 100.0
    return logits


def record(predict: Any, tokens: Tensor, steps: int = 4, **more: Any) -> insight.Trace:
    """A recorded run of a fake model."""
    schedule, recorder = Schedule.named("linear", steps), insight.Recorder(CODES)
    draws, more["on_step"] = PerImageDraws(range(len(tokens))), recorder
    return recorder.trace(
        sample(tokens, masked_only(predict), schedule, draws, mask_token_id=MASK, temperature=(2.0, 0.0), **more)
    )


def made(order: list[int], steps: int = 3, **more: Any) -> insight.Trace:
    """A trace of one row of cells that were decided in these steps; cell i always becomes token i."""
    when, cells = torch.tensor(order), torch.arange(len(order))
    after = torch.arange(steps + 1)[:, None]
    tokens = torch.where(when <= after, cells, insight.UNDECIDED)[:, None, None]
    values = (after[1:] * 0.1 + cells * 0.01)[:, None, None]
    predicted = cells.expand(steps, 1, 1, -1)
    return insight.Trace(tokens, predicted, values, values * 2, codebook_size=CODES, **more)


def test_order_is_that_of_the_steps() -> None:
    seen: list[Tensor] = []
    schedule, recorder = Schedule.named("cosine", 5), insight.Recorder(CODES)

    def on_step(step: Step) -> None:
        recorder(step)
        seen.append(step.tokens.clone())

    tokens = torch.full((2, 4, 6), MASK)
    tokens[:, 0] = 3
    more = {"mask_token_id": MASK, "temperature": (2.0, 0.0), "on_step": on_step}
    trace = recorder.trace(sample(tokens, masked_only(flat), schedule, PerImageDraws([0, 1]), **more))
    order = insight.order_map(trace)
    assert trace.steps == 5 and (order[:, 0] == 0).all() and order.max() == 5
    for index, after in enumerate(seen):
        assert torch.equal(order <= index + 1, after != MASK)
    assert torch.equal(trace.tokens[0], torch.where(tokens == MASK, -1, tokens))


def test_a_model_without_an_idea_has_the_entropy_log_k() -> None:
    trace = record(flat, torch.full((2, 4, 4), MASK))
    torch.testing.assert_close(trace.entropy[0], torch.full((2, 4, 4), math.log(CODES)))
    torch.testing.assert_close(trace.probability[0], torch.full((2, 4, 4), 1 / CODES))
    torch.testing.assert_close(insight.entropy_map(trace), torch.full((2, 4, 4), math.log(CODES)))
    known = trace.tokens[1] != insight.UNDECIDED
    assert (trace.entropy[1][known] == 0).all() and (trace.probability[1][known] == 1).all()


def test_a_sure_model_has_none() -> None:
    trace = record(sharp, torch.full((1, 4, 4), MASK))
    assert insight.entropy_map(trace).max() < 1e-6 and insight.confidence_map(trace).min() > 1 - 1e-6
    assert (trace.predicted == 5).all()


def test_an_unfinished_run() -> None:
    """Cells still masked at the end come after the last step."""
    recorder, schedule = insight.Recorder(CODES), Schedule.from_ratios(torch.tensor([1.0, 0.75, 0.5]))
    more = {"mask_token_id": MASK, "temperature": (1.0, 1.0), "on_step": recorder}
    tokens = sample(torch.full((1, 4, 4), MASK), masked_only(flat), schedule, PerImageDraws([0]), **more)
    order = insight.order_map(recorder.trace(tokens))
    assert order.unique(return_counts=True)[1].tolist() == [4, 4, 8] and (order[tokens == MASK] == 3).all()


def test_nothing_to_do() -> None:
    """Every map of a run without steps says that all was known."""
    trace = record(flat, torch.full((1, 2, 2), 7))
    assert trace.steps == 0 and (insight.order_map(trace) == 0).all()
    assert (insight.confidence_map(trace) == 1).all() and (insight.entropy_map(trace) == 0).all()
    for kind in insight.KINDS:
        assert insight.heatmap(insight.read_trace(trace, kind)).isfinite().all()


def test_maps_of_a_hand_made_run() -> None:
    trace = made([0, 1, 3, 4])
    assert insight.order_map(trace).tolist() == [[[0, 1, 3, 4]]]
    torch.testing.assert_close(insight.confidence_map(trace), torch.tensor([[[1.0, 0.11, 0.32, 0.33]]]))
    torch.testing.assert_close(insight.entropy_map(trace), torch.tensor([[[0.0, 0.22, 0.64, 0.66]]]))
    torch.testing.assert_close(insight.confidence_map(trace, 2), torch.tensor([[[0.2, 0.21, 0.22, 0.23]]]))


@pytest.mark.parametrize("step", [-1, 4])
def test_a_step_that_was_not(step: int) -> None:
    with pytest.raises(AmusedError, match=f"step is {step}; this run had 3: allowed are 0 to 3"):
        insight.entropy_map(made([1, 2]), step)


def test_measures_end_with_their_step() -> None:
    kept: list[Step] = []
    schedule = Schedule.named("linear", 2)
    more = {"mask_token_id": MASK, "temperature": (0.0, 0.0), "on_step": kept.append}
    sample(torch.full((1, 2, 2), MASK), masked_only(flat), schedule, PerImageDraws([0]), **more)
    with pytest.raises(AmusedError, match="only while on_step runs"):
        _ = kept[0].measures.entropy


def test_words(model: Any) -> None:
    ids = model.text.ids(["A red APPLE, don't!", "café 苹果"]).tolist()
    one, two = (insight.words_of(model.text.tokenizer, row) for row in ids)
    assert list(dict.fromkeys(one)) == ["", "a", "red", "apple", ",", "don", "'t", "!"]
    assert one.count("apple") == 5 and len(one) == 24
    assert list(dict.fromkeys(two)) == ["", "café", "苹果"]
    assert insight.words_of(model.text.tokenizer, [ids[0][0], torch.zeros(8), ids[0][1]]) == ("", "", "a")


WORDS = ("", "a", "red", "red", "apple", "on", "a", "don", "'t", "")


@pytest.mark.parametrize(
    ("word", "places"),
    [
        ("apple", [4]),
        ("RED", [2, 3]),
        ("a", [1, 6]),
        ("red apple", [2, 3, 4]),
        ("don't", [7, 8]),
        (" on ", [5]),
    ],
)
def test_places_of_a_word(word: str, places: list[int]) -> None:
    assert insight.positions(WORDS, word) == places


@pytest.mark.parametrize("word", ["", " ", "app", "apples", "red on", "ple"])
def test_a_word_that_is_not_there(word: str) -> None:
    with pytest.raises(AmusedError, match=r"is not in the prompt; its words are: a, red, apple, on, don, 't\."):
        insight.positions(WORDS, word)


def test_attention_is_the_mean_of_softmaxes() -> None:
    meter = AttentionMeter()
    q, k = torch.randn(2, 2, 6, 8, generator=torch.Generator().manual_seed(0)).unbind(0)
    assert meter.take() is None
    meter.add(q, k, 2)
    meter.add(torch.zeros(2, 6, 8), k, 2)
    meter.add(torch.zeros(2, 3, 8), k, 2)  # of a part of the grid: left out
    heads = [(a @ b.mT / 2).softmax(-1) for a, b in zip(q.chunk(2, -1), k.chunk(2, -1), strict=True)]
    torch.testing.assert_close(meter.take(), (torch.stack(heads).mean(0) + 1 / 6) / 2)
    assert meter.take() is None


def test_attention_of_halved_grids() -> None:
    weights = torch.arange(6.0)[None, :, None]
    whole = to_grid(weights, 3, 5)[0, :, :, 0]
    assert whole.tolist() == [[0, 0, 1, 1, 2], [0, 0, 1, 1, 2], [3, 3, 4, 4, 5]]
    assert to_grid(weights, 2, 3)[0, :, :, 0].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert to_grid(weights, 8, 8) is None


def test_word_map_sums_over_its_tokens() -> None:
    attention = torch.zeros(2, 1, 1, 2, 4)
    attention[0, ..., 1], attention[1, ..., 2], attention[:, ..., 3] = 0.5, 0.25, 0.125
    trace = made([1, 2], 2, attention=attention, words=(("", "red", "red", "dog"),))
    torch.testing.assert_close(insight.word_map(trace, "red"), torch.full((1, 1, 2), 0.375))
    torch.testing.assert_close(insight.word_map(trace, "red", 1), torch.full((1, 1, 2), 0.5))
    torch.testing.assert_close(insight.word_map(trace, "red dog", 2), torch.full((1, 1, 2), 0.375))
    with pytest.raises(AmusedError, match="no attention to the prompt"):
        insight.word_map(made([1, 2]), "red")
    with pytest.raises(AmusedError, match="attention to 4 tokens, but its prompt has 3"):
        insight.word_map(made([1, 2], 2, attention=attention, words=(("", "red", "dog"),)), "red")


@pytest.mark.parametrize("name", ["model", "model_512"])
@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_trace_of_a_model(name: str, cfg: float, request: pytest.FixtureRequest) -> None:
    """The same tokens as without, the model as it was, attention that sums to 1, each picture as alone."""
    model = request.getfixturevalue(name)
    attend, seen = model.transformer.attend, []
    settings = {"steps": 4, "cfg": cfg, "seed": [3, 4], "width": 28, "height": 20}
    result, trace = insight.trace(model, ["a red apple", "a dog"], on_step=seen.append, **settings)
    assert torch.equal(result.tokens, model.generate(["a red apple", "a dog"], **settings).tokens)
    assert torch.equal(trace.tokens[-1], result.tokens) and len(seen) == trace.steps == 4
    assert model.transformer.attend is attend
    assert trace.attention.shape == (4, 2, 5, 7, 24)
    torch.testing.assert_close(trace.attention.float().sum(-1), torch.ones(4, 2, 5, 7), atol=5e-3, rtol=0)
    _, alone = insight.trace(model, "a dog", **(settings | {"seed": 4}))
    torch.testing.assert_close(alone.attention[:, 0], trace.attention[:, 1], atol=2e-3, rtol=1e-2)
    torch.testing.assert_close(alone.entropy[:, 0], trace.entropy[:, 1], atol=1e-3, rtol=1e-3)
    with pytest.raises(AmusedError, match="'dog' is not in the prompt; its words are: a, red, apple"):
        insight.word_map(trace, "dog")


@pytest.mark.parametrize("rows", [1, 3])
def test_attention_of_a_step_of_several_passes(model: Any, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large batch goes through the U-ViT in parts, and quantized rows one at a time; negative prompts come first."""
    prompts, settings = ["a red apple", "a dog", "a cat on a bus"], {"steps": 2, "cfg": 3.0, "seed": [3, 4, 5]}
    whole = insight.trace(model, prompts, **settings)[1].attention
    size = model.transformer.row_bytes(torch.zeros(1, 8, 8, dtype=torch.int64))
    monkeypatch.setattr(predictor, "KEPT_BYTES", rows * size)
    torch.testing.assert_close(insight.trace(model, prompts, **settings)[1].attention, whole, atol=2e-3, rtol=1e-2)
    assert (whole[:, 0] - whole[:, 1]).abs().max() > 0.01


def test_attention_of_int8_is_near_that_of_fp32(model: Any) -> None:
    settings = {"steps": 1, "cfg": 3.0, "seed": 3, "negative_prompt": "a blue bus"}
    exact, near = (insight.trace(model, "a red apple", int8=int8, **settings)[1].attention for int8 in (False, True))
    torch.testing.assert_close(near, exact, atol=1e-2, rtol=0.1)


def test_a_trace_calls_the_callbacks_it_is_given(model: Any) -> None:
    seen, want = [], []
    _, trace = insight.trace(model, "a cat", steps=2, on_attention=lambda *passed: seen.append(passed))
    model.generate("a cat", steps=2, on_attention=lambda *passed: want.append(passed))
    assert trace.attention is not None and len(seen) == len(want) > 0
    for name in ("on_step", "on_attention"):
        with pytest.raises(AmusedError, match=f"{name} is 5; allowed are a function, or None."):
            insight.trace(model, "a cat", steps=2, **{name: 5})


def test_the_example_of_the_package(model: Any) -> None:
    """Its imports are there."""
    (line,) = [line for line in insight.__doc__.splitlines() if line.startswith("from amused_core.insight import")]
    assert all(hasattr(insight, name.strip()) for name in line.partition("import")[2].split(","))
    assert all(name in line for name in ("heatmap", "read_word"))


def test_colours_rise_evenly() -> None:
    shown = insight.colors(torch.linspace(0, 1, 65))
    light = shown @ torch.tensor([0.2126, 0.7152, 0.0722])
    assert (light.diff() > 0).all() and shown.min() >= 0 and shown.max() <= 1
    assert torch.equal(insight.colors(torch.tensor([-1.0, 2.0])), insight.colors(torch.tensor([0.0, 1.0])))


def test_heat() -> None:
    reading = insight.Reading(torch.tensor([[[0.0, 1.0]]]), 0, 1, "low", "high")
    picture = torch.rand(1, 8, 16, 3, generator=torch.Generator().manual_seed(0))
    alone = insight.heatmap(reading, legend=False)
    assert alone.shape == (1, 256, 512, 3)
    assert torch.equal(alone[0, 0, [0, -1]], insight.colors(torch.tensor([0.0, 1.0])))
    over = insight.heatmap(reading, picture, 0.0, legend=False)
    torch.testing.assert_close(over, enlarge(picture).mean(-1, keepdim=True).expand(-1, -1, -1, 3))
    assert torch.equal(insight.heatmap(reading, picture, 1.0, legend=False), alone)
    legend = insight.heatmap(reading)[:, 256:]
    assert legend.shape == (1, 36, 512, 3) and legend[:, 20:].min() < 0.4 and legend.max() == 1
    for opacity in (1.5, "a"):
        with pytest.raises(AmusedError, match=f"opacity is {opacity!r}; allowed are numbers from 0 to 1"):
            insight.heatmap(reading, picture, opacity)
    for odd in (picture.repeat(2, 1, 1, 1), picture[..., :2], (picture * 255).byte()):
        with pytest.raises(AmusedError, match=r"pictures have the (shape|dtype) .*; allowed "):
            insight.heatmap(reading, odd)


def test_cells_nobody_decided_are_grey_squares() -> None:
    reading = insight.read_trace(made([1, 3, 4]), "order")
    shown = insight.heatmap(reading, legend=False)[0]
    grey = shown[:, -shown.shape[1] // 3 :]
    assert set(grey.flatten().tolist()) == {torch.tensor(v).item() for v in (DARK, LIGHT)}
    assert reading.start == "step 1" and reading.end == "step 3"
    assert insight.read_trace(made([0, 3]), "order").start == "known before"
    with pytest.raises(AmusedError, match="kind is 'size'; allowed are order, confidence, entropy"):
        insight.read_trace(made([1]), "size")


def test_frames(model: Any) -> None:
    result, trace = insight.trace(model, "a red apple", steps=3, batch_size=2)
    guess, hidden = (insight.frames(trace, model.vq.decode, look) for look in insight.UNDECIDED_LOOKS)
    assert guess.shape == hidden.shape == (6, 32, 32, 3)
    for shown in (guess, hidden):
        torch.testing.assert_close(shown[[2, 5]], result.images)
    undecided = (trace.tokens[1, 0] < 0).repeat_interleave(4, 0).repeat_interleave(4, 1)
    assert set(hidden[0][undecided].flatten().tolist()) == {torch.tensor(v).item() for v in (DARK, LIGHT)}
    plain = model.vq.decode(trace.predicted[0, :1])[0]
    torch.testing.assert_close(guess[0][~undecided], plain[~undecided])
    assert (guess[0][undecided] - 0.5).abs().mean() < (plain[undecided] - 0.5).abs().mean()
    with pytest.raises(AmusedError, match="undecided is 'red'; allowed are guess, hidden"):
        insight.frames(trace, model.vq.decode, "red")


@pytest.mark.parametrize(("size", "ids"), [(8, False), (8, True), (512, True)])
def test_token_grid(size: int, ids: bool) -> None:
    tokens = torch.arange(64).view(1, 8, 8) * 100
    tokens[0, 0, 0] = -1
    shown = insight.token_grid(tokens, torch.ones(1, size, size, 3), ids)
    assert shown.shape == (1, 512, 512, 3)
    lines = shown[0, ::64].flatten().tolist()
    assert max(lines) < 0.16
    assert (shown[0, 66:126, 66:126].min() < 0.5) == ids


def test_pictures_of_other_cells_are_refused() -> None:
    with pytest.raises(AmusedError, match="The image is 20x16 pixels, which 4x4 tokens do not fill"):
        cell_size(torch.zeros(1, 16, 20, 3), (4, 4))
    with pytest.raises(AmusedError, match="The image is 2x2 pixels"):
        paint_undecided(torch.zeros(1, 2, 2, 3), torch.ones(1, 4, 4, dtype=torch.bool))
