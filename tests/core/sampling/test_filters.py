"""Which codes are drawn (sampling temperature, top-k, top-p), and the guidance of each step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from amused_core import AmusedError, AmusedModel, Step, load_model
from amused_core.sampling.filters import ends, filtered_probabilities, logits_filter
from amused_core.sampling.guidance import cfg_weights
from amused_core.sampling.loop import sample
from amused_core.sampling.randomness import PerImageDraws, SharedDraws, seeded
from amused_core.sampling.schedule import Schedule
from tests.core.fakes import masked_only

PROBS = torch.tensor([0.1, 0.4, 0.2, 0.3])
NEUTRAL = {"sampling_temperature": 1.0, "top_k": 0, "top_p": 1.0, "cfg_schedule": "constant", "cfg_interval": (0, 1)}
NEUTRAL |= {"sampling_temperature_end": 0.0, "revision": 0.0, "cfg_rescale": 0.0}
CODES, MASK = 16, 99


def run(model: AmusedModel, **more: Any) -> Tensor:
    return model.generate(**{"prompt": "a cat", "steps": 4, "cfg": 3.0, "seed": 3, **more}).tokens


def kept(**more: Any) -> list[int]:
    """Codes that are left of `PROBS`."""
    return filtered_probabilities(PROBS.log(), **more).nonzero().flatten().tolist()


@pytest.mark.parametrize(
    ("top_k", "left"), [(0, [0, 1, 2, 3]), (1, [1]), (2, [1, 3]), (3, [1, 2, 3]), (4, [0, 1, 2, 3])]
)
def test_top_k(top_k: int, left: list[int]) -> None:
    assert kept(top_k=top_k) == left


@pytest.mark.parametrize(
    ("top_p", "left"),
    [(0.01, [1]), (0.39, [1]), (0.41, [1, 3]), (0.69, [1, 3]), (0.71, [1, 2, 3]), (0.95, [0, 1, 2, 3])],
)
def test_top_p_is_the_smallest_set_that_reaches_it(top_p: float, left: list[int]) -> None:
    assert kept(top_p=top_p) == left


def test_a_set_that_reaches_top_p_exactly_is_enough() -> None:
    assert filtered_probabilities(torch.tensor([0.25, 0.5, 0.25]).log(), top_p=0.5).tolist() == [0, 1, 0]
    assert filtered_probabilities(torch.zeros(4), top_p=0.75).tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0])


def test_top_p_is_a_share_of_what_top_k_left() -> None:
    """0.4 and 0.3 become 4/7 and 3/7: the first alone reaches 0.5, which it would not of all four."""
    assert kept(top_k=2, top_p=0.5) == [1] and kept(top_p=0.5) == [1, 3]


def test_what_is_left_sums_to_one_and_keeps_its_proportions() -> None:
    torch.testing.assert_close(filtered_probabilities(PROBS.log(), top_k=2), torch.tensor([0, 4 / 7, 0, 3 / 7]))
    torch.testing.assert_close(filtered_probabilities(PROBS.log(), top_p=0.8), torch.tensor([0, 4 / 9, 2 / 9, 3 / 9]))


def test_the_temperature_divides_the_logits() -> None:
    squares = PROBS**2
    torch.testing.assert_close(filtered_probabilities(PROBS.log(), temperature=0.5), squares / squares.sum())
    assert filtered_probabilities(torch.randn(64, generator=seeded(0)), temperature=0.01).max() > 0.99
    assert kept(temperature=10.0, top_p=0.5) == [1, 3], "top_p counts the flattened probabilities"


def test_the_temperature_changes_over_the_run(model: AmusedModel) -> None:
    """From 1 to 0.5 in three steps; the same end, or none, is a constant temperature."""
    schedule, logits = Schedule.named("cosine", 3), torch.randn(5, 8, generator=seeded(0))
    heats = schedule.temperatures(ends(1.0, 0.5))
    assert heats == [1.0, 0.75, 0.5] and heats[1:] == Schedule.named("cosine", 3, 1).temperatures((1.0, 0.5))
    for index, heat in enumerate(heats):
        wanted = filtered_probabilities(logits, heat, top_k=3)
        assert torch.equal(logits_filter(heats, 3, 1.0)(logits, index), wanted)
    assert ends(0.8, 0) == ends(0.8, 0.8)
    assert torch.equal(
        run(model, sampling_temperature=0.8, sampling_temperature_end=0.8), run(model, sampling_temperature=0.8)
    )


def test_ties_go_to_the_lower_codes() -> None:
    assert filtered_probabilities(torch.zeros(5, 3, 8), top_k=3)[2, 1].tolist() == pytest.approx([1 / 3] * 3 + [0] * 5)


def test_the_defaults_are_the_softmax() -> None:
    logits = torch.randn(2, 9, 64, generator=seeded(0)) * 5
    assert torch.equal(filtered_probabilities(logits), logits.softmax(-1))
    assert logits_filter([1.0, 1.0], 0, 1.0) is None and logits_filter([1], 0, 1) is None
    torch.testing.assert_close(filtered_probabilities(logits, top_k=64), logits.softmax(-1))


def test_forbidden_codes_stay_forbidden() -> None:
    logits = torch.tensor([1.0, -torch.inf, 0.5, -torch.inf])
    probs = filtered_probabilities(logits, temperature=2.0, top_k=3, top_p=0.99)
    assert probs[[1, 3]].tolist() == [0, 0] and probs.sum().item() == pytest.approx(1)


@pytest.mark.parametrize("shared", [False, True])
def test_top_1_draws_the_likeliest(shared: bool) -> None:
    logits = torch.randn(2, CODES, 8, 8, generator=seeded(0))
    steps: list[Step] = []
    sample(
        torch.full((2, 8, 8), MASK), masked_only(lambda tokens, index: logits), Schedule.named("cosine", 4),
        SharedDraws(seeded(0)) if shared else PerImageDraws([0, 1]),
        mask_token_id=MASK, temperature=(2.0, 2.0), on_step=steps.append,
        logits_filter=logits_filter([1.0] * 4, 1, 1.0),
    )  # fmt: skip
    assert all(torch.equal(step.predicted, logits.argmax(1)) for step in steps)


def test_the_cells_to_keep_are_chosen_by_the_unfiltered_probability() -> None:
    """All are certain after the filter, but the model itself is surer of the upper half."""
    logits = torch.zeros(1, CODES, 8, 8)
    logits[:, 5, :4], logits[:, 7, 4:] = 8.0, 2.0
    steps: list[Step] = []
    sample(
        torch.full((1, 8, 8), MASK), masked_only(lambda tokens, index: logits),
        Schedule.named("linear", 2), PerImageDraws([0]),
        mask_token_id=MASK, temperature=(0.0, 0.0), on_step=steps.append,
        logits_filter=logits_filter([0.5] * 2, 1, 1.0),
    )  # fmt: skip
    assert (steps[0].tokens[:, :4] == 5).all() and (steps[0].tokens[:, 4:] == MASK).all()
    assert (steps[1].tokens[:, 4:] == 7).all()


@pytest.mark.parametrize("seeding", ["per_image", "diffusers"])
@pytest.mark.parametrize("task", ["text", "image", "mask"])
def test_neutral_values_change_nothing(model: AmusedModel, picture: Tensor, seeding: str, task: str) -> None:
    mask = torch.zeros(1, 32, 32)
    mask[:, 8:24] = 1
    given = {"text": {}, "image": {"image": picture}, "mask": {"image": picture, "mask": mask}}[task]
    plain = run(model, seeding=seeding, batch_size=2, **given)
    assert torch.equal(plain, run(model, seeding=seeding, batch_size=2, **given, **NEUTRAL))


@pytest.mark.parametrize("seeding", ["per_image", "diffusers"])
@pytest.mark.parametrize(
    "option",
    [
        {"sampling_temperature": 0.3},
        {"sampling_temperature_end": 0.3},
        {"top_k": 2},
        {"top_p": 0.3},
        {"cfg_schedule": "ramp"},
        {"cfg_interval": (0, 0.5)},
        {"cfg_rescale": 0.7},
        {"revision": 0.3},
    ],
    ids=lambda option: next(iter(option)),
)
def test_each_option_matters(model: AmusedModel, seeding: str, option: dict[str, Any]) -> None:
    assert not torch.equal(run(model, seeding=seeding, **option), run(model, seeding=seeding))


OPTIONS = {"sampling_temperature": 0.8, "top_k": 20, "top_p": 0.9, "cfg_interval": (0.25, 0.75)}
OPTIONS |= {"sampling_temperature_end": 1.2, "revision": 0.2, "cfg_rescale": 0.5}


def test_a_picture_in_a_batch_is_the_picture_alone(model: AmusedModel) -> None:
    batch = run(model, batch_size=3, **OPTIONS)
    assert torch.equal(batch[2:], run(model, seed=5, **OPTIONS))


@pytest.mark.parametrize("options", [OPTIONS, {"cfg_schedule": "ramp", "top_k": 3}], ids=["interval", "ramp"])
def test_the_settings_draw_the_picture_again(model: AmusedModel, options: dict[str, Any]) -> None:
    result = model.generate("a cat", steps=4, seed=3, batch_size=2, **options)
    about = json.loads(json.dumps(result.settings[1]))
    assert about.items() >= json.loads(json.dumps(options)).items() and NEUTRAL.keys() <= about.keys()
    assert torch.equal(model.generate(**about).tokens, result.tokens[1:])


@pytest.mark.parametrize(
    ("cfg", "schedule", "start", "weights"),
    [
        (3.0, "constant", 0, [3, 3, 3, 3, 3]),
        (3.0, "ramp", 0, [1, 1.5, 2, 2.5, 3]),
        (3.0, "ramp", 3, [2.5, 3]),
        (3.0, "interval", 0, [1, 3, 3, 1, 1]),
        (3.0, "interval", 2, [3, 1, 1]),
        (1.0, "ramp", 0, [1] * 5),
        (0.0, "constant", 0, [1] * 5),
        (0.5, "interval", 4, [1]),
    ],
)
def test_weights(cfg: float, schedule: str, start: int, weights: list[float]) -> None:
    """The interval holds the steps that begin in it: at 0.2 and 0.4, but not at its end, 0.6."""
    assert cfg_weights(cfg, schedule, Schedule.named("cosine", 5, start), (0.2, 0.6)) == weights


def test_ends_of_the_weights() -> None:
    long, short = Schedule.named("cosine", 1000), Schedule.named("cosine", 1)
    assert cfg_weights(7.0, "interval", long) == cfg_weights(7.0, "constant", long) == [7.0] * 1000
    assert cfg_weights(7.0, "ramp", short) == [1.0]
    with pytest.raises(AmusedError, match="cfg_schedule is 'x'; allowed are constant, ramp, interval"):
        cfg_weights(7.0, "x", short)


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        ({}, [2, 2, 2, 2]),
        ({"cfg": 1.0}, [1, 1, 1, 1]),
        ({"cfg_schedule": "ramp"}, [1, 2, 2, 2]),
        ({"cfg_schedule": "ramp", "cfg": 1.0}, [1, 1, 1, 1]),
        ({"cfg_schedule": "interval", "cfg_interval": (0.25, 0.75)}, [1, 2, 2, 1]),
        ({"cfg_interval": (0.5, 1.0)}, [1, 1, 2, 2]),
        ({"cfg_interval": (0.3, 0.4)}, [1, 1, 1, 1]),
        ({"cfg_schedule": "ramp", "strength": 0.5}, [2, 2]),
        ({"cfg_interval": (0.25, 0.75), "strength": 0.5}, [2, 1]),
    ],
    ids=str,
)
def test_passes_of_the_network(model: AmusedModel, picture: Tensor, options: dict[str, Any], rows: list[int]) -> None:
    """Rows of each call: a step without guidance leaves out the unconditional one."""
    seen: list[int] = []
    hook = model.transformer.embed.register_forward_hook(lambda module, given, out: seen.append(len(given[0])))
    run(model, image=picture if "strength" in options else None, reuse=False, **options)
    hook.remove()
    assert seen == rows


def test_no_guidance_is_the_prompt_alone(model: AmusedModel) -> None:
    """An interval without a step in it is guidance 1."""
    assert torch.equal(run(model, cfg_interval=(0.3, 0.4)), run(model, cfg=1.0))


def test_what_the_checkpoint_recommends(copy: Path, model: AmusedModel) -> None:
    best = model.checkpoint.recommended
    assert {name: getattr(best, name) for name in NEUTRAL} == NEUTRAL
    wanted = {**OPTIONS, "cfg_schedule": "interval"}
    (copy / "amused.json").write_text(json.dumps({"recommended": wanted}))
    mine = load_model(copy)
    assert torch.equal(run(mine), run(model, **OPTIONS))
    assert torch.equal(run(mine, **NEUTRAL), run(model))


def test_top_k_ends_at_the_codebook(model: AmusedModel) -> None:
    assert run(model, top_k=64).max() < 64
    with pytest.raises(AmusedError, match="top_k is 65; allowed are whole numbers from 0 to 64"):
        run(model, top_k=65)
