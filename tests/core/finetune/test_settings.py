"""Fine-tuning: settings, presets, learning rates and missing packages."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch

from amused_core import AmusedError, AmusedModel
from amused_core.finetune import adapters, presets
from amused_core.finetune.optimizer import learning_rate
from amused_core.finetune.presets import preset
from amused_core.finetune.settings import TrainingSettings
from amused_core.finetune.trainable import TrainableModel, make_trainable
from amused_core.finetune.trainer import START
from amused_core.sampling.step_generator import step_generator
from tests.core.finetune.runs import QUICK, MakeRun, same, weights


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"learning_rate": -1.0}, "learning_rate is -1"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"drop_text": 1.5}, "drop_text is 1.5"),
        ({"batch": 2.5}, "batch is 2.5"),
        ({"precision": "fp8"}, "precision is 'fp8'; allowed are fp32, bf16, fp16"),
        ({"optimizer": "sgd"}, "optimizer is 'sgd'"),
        ({"lr_schedule": "step"}, "lr_schedule is 'step'"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_bad_settings(change: dict[str, Any], said: str) -> None:
    with pytest.raises(AmusedError, match=said):
        TrainingSettings(**change)


def test_unknown_layers_are_refused(run: MakeRun) -> None:
    with pytest.raises(AmusedError, match="targets are 'to_z'.*to_k, to_q"):
        run(settings=QUICK.with_changes(targets=("to_z",)))


def test_missing_bitsandbytes_is_said(run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(AmusedError, match="'bitsandbytes'; install it"):
        run(settings=QUICK.with_changes(optimizer="adamw8bit"))


@pytest.mark.parametrize("package", ["peft", "accelerate"])
def test_missing_packages_are_said(run: MakeRun, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(AmusedError, match=f"'{package}'; install it with: pip install {package}"):
        run()


@pytest.mark.skipif(torch.cuda.is_available(), reason="fp16 works on this machine")
def test_fp16_without_a_graphics_card(run: MakeRun) -> None:
    with pytest.raises(AmusedError, match="precision is 'fp16', which a CPU cannot train in"):
        run(settings=QUICK.with_changes(precision="fp16"))


def test_a_loss_that_is_no_number_stops_the_run(run: MakeRun) -> None:
    training = run()
    training.trainer.step()
    before = weights(training)
    training.trainer.data.examples.micro.fill_(float("nan"))
    with pytest.raises(AmusedError, match="The loss is nan at step 2"):
        training.trainer.step()
    assert same(before, weights(training))


def test_learning_rates() -> None:
    warm = TrainingSettings(learning_rate=1.0, steps=10, warmup=3)
    assert [learning_rate(step, warm) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    falling = TrainingSettings(learning_rate=1.0, steps=10, lr_schedule="cosine")
    rates = [learning_rate(step, falling) for step in range(11)]
    assert rates[0] == 1 and rates == sorted(rates, reverse=True) and rates[-1] < 1e-9


def test_presets_are_those_of_the_paper_and_of_diffusers() -> None:
    from amused_core.networks.uvit.config import UVitConfig

    small = UVitConfig(hidden_size=256)
    configs = {"256": UVitConfig(), "512": UVitConfig(downsample=True, upsample=True), "embedded": small}
    for name in presets.PRESETS:
        for size, config in configs.items():
            assert presets.size_of(config) == size and isinstance(preset(name, config), TrainingSettings)
    style = preset("style", configs["512"])
    assert (style.learning_rate, style.alpha, style.rank, style.batch) == (1e-3, 1.0, 16, 1)
    assert style.targets == ("to_q", "to_k", "to_v")
    assert preset("style", configs["256"]).learning_rate == 4e-4
    assert preset("full", configs["256"], steps=3).steps == 3
    with pytest.raises(AmusedError, match="preset is 'sdxl'; allowed are style, dataset, full"):
        preset("sdxl", small)


def test_frozen_weights_stay(fresh: AmusedModel) -> None:
    before = {name: value.clone() for name, value in fresh.transformer.state_dict().items()}
    trainable = make_trainable(fresh.transformer, fresh.text, QUICK, step_generator(0, START))
    assert isinstance(trainable, TrainableModel) and trainable.text_encoder is None
    trained = {name for name, parameter in trainable.named_parameters() if parameter.requires_grad}
    assert trained and all("lora_" in name for name in trained)
    state = {name.replace(".base_layer", ""): value for name, value in fresh.transformer.state_dict().items()}
    assert all(torch.equal(state[name], value) for name, value in before.items())
    assert all(
        value.abs().sum() == 0 for name, value in adapters.lora_state(fresh.transformer, "t").items() if "_B." in name
    )
