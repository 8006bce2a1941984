"""The training loop's one step, and everything that is needed to go on after it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from ..errors import AmusedError
from ..files import training_state
from ..sampling.step_generator import step_generator
from .dataset import TokenDataset
from .masking import masked_cross_entropy, sample_masks
from .optimizer import learning_rate, make_optimizer
from .settings import TrainingSettings
from .trainable import CaptionEncoder, TrainableModel

START = -1  # the generator's step for start values; from -2 down, the order of each pass over the examples
STATE_KEY = "amused_training"


@dataclass(frozen=True)
class TrainingData:
    """What a run learns from.

    Attributes:
        examples: what to learn.
        encode: turns captions into the inputs of the `TrainableModel`.
        mask_id: the mask token.
        prior: the model's own pictures, learnt beside the examples to preserve what it knows.
    """

    examples: TokenDataset
    encode: CaptionEncoder
    mask_id: int
    prior: TokenDataset | None = None


class Trainer:
    """The state of one run.

    A step depends on seed and number alone, so a run that goes on from a state is the same as one without a break.

    Args:
        trainable: the prepared networks, from `make_trainable`.
        data: what to learn.
        settings: how.
        accelerator: accelerate's, which brings devices, half precision and accumulation.

    Attributes:
        parameters: those that are trained.
        ema: their running averages; empty without `settings.ema`.
        losses: of every step so far; `len(losses)` is their number.
        whole: False within a step, and after an interrupt there: some weights are a step ahead of others.
    """

    def __init__(
        self, trainable: TrainableModel, data: TrainingData, settings: TrainingSettings, accelerator: Any
    ) -> None:
        self.trainable, self.data, self.settings, self.accelerator = trainable, data, settings, accelerator
        self.parameters = [parameter for parameter in trainable.parameters() if parameter.requires_grad]
        self.inner_optimizer = make_optimizer(self.parameters, settings)
        self._prepared, self.optimizer = accelerator.prepare(trainable, self.inner_optimizer)
        self.ema = [parameter.detach().clone() for parameter in self.parameters] if settings.ema else []
        self.losses: list[float] = []
        self.whole = True

    def step(self) -> float:
        """One update; returns the loss.

        Raises:
            AmusedError: the loss is no number; the weights are those before the step.
        """
        number, settings, losses = len(self.losses), self.settings, []
        self.whole = False
        for group in self.inner_optimizer.param_groups:
            group["lr"] = learning_rate(number, settings)
        for turn in range(settings.accumulation):
            with self.accelerator.accumulate(self._prepared):
                loss = self._loss(number * settings.accumulation + turn)
                losses.append(float(self.accelerator.gather(loss.detach()).mean()))
                if not math.isfinite(losses[-1]):
                    raise AmusedError(
                        f"The loss is {losses[-1]} at step {number + 1}: the learning rate {settings.learning_rate:g} "
                        f"may be too high, or {settings.precision} too narrow."
                    )
                self.accelerator.backward(loss)
                if self.accelerator.sync_gradients:
                    self.accelerator.clip_grad_norm_(self.parameters, settings.max_norm)
                self.optimizer.step()
                self.optimizer.zero_grad()
        self.losses.append(sum(losses) / len(losses))
        if self.ema:
            decay = min(settings.ema, (1 + number) / (10 + number))
            with torch.no_grad():
                torch._foreach_lerp_(self.ema, self.parameters, 1 - decay)
        self.whole = True
        return self.losses[-1]

    def _loss(self, turn: int) -> Tensor:
        """The loss of one batch; each device draws its own."""
        devices = self.accelerator.num_processes
        position = turn * devices + self.accelerator.process_index
        generator = step_generator(self.settings.seed, position)
        parts = [self._batch(self.data.examples, position, self.settings.drop_text, generator)]
        if self.data.prior is not None:
            parts.append(self._batch(self.data.prior, position, 0.0, generator))
        captions, *tensors = zip(*parts, strict=True)
        tokens, micro, masks = (torch.cat(pieces).to(self.accelerator.device) for pieces in tensors)
        text = tuple(piece.to(self.accelerator.device) for piece in self.data.encode(sum(captions, [])))
        logits = self._prepared(tokens.masked_fill(masks, self.data.mask_id), micro, text)
        count, smoothing = self.settings.batch, self.settings.label_smoothing
        loss = masked_cross_entropy(logits[:count], tokens[:count], masks[:count], smoothing)
        if self.data.prior is None:
            return loss
        prior_loss = masked_cross_entropy(logits[count:], tokens[count:], masks[count:], smoothing)
        return loss + self.settings.prior_weight * prior_loss

    def _batch(self, dataset: TokenDataset, position: int, drop: float, generator: Generator) -> tuple[Any, ...]:
        """Captions (empty with probability `drop`), tokens, micro-conditioning and masks of the batch at `position`."""
        indices = self._order(dataset, position)
        dropped = (torch.rand(len(indices), generator=generator) < drop).tolist()
        captions = ["" if gone else dataset.captions[i] for i, gone in zip(indices, dropped, strict=True)]
        masks = sample_masks(len(indices), *dataset.tokens.shape[1:], self.settings.regions, generator)
        return captions, dataset.tokens[indices], dataset.micro[indices], masks

    def _order(self, dataset: TokenDataset, position: int) -> list[int]:
        """Indices of the examples in the batch at `position`: all once, shuffled, before any comes again."""
        first, total = position * self.settings.batch, len(dataset)
        epochs = [divmod(number, total) for number in range(first, first + self.settings.batch)]
        shuffled = {
            epoch: torch.randperm(total, generator=step_generator(self.settings.seed, -2 - epoch)).tolist()
            for epoch in {epoch for epoch, _ in epochs}
        }
        return [shuffled[epoch][index] for epoch, index in epochs]

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within it the networks have the averaged weights, where there are any."""
        if not self.ema:
            yield
            return
        live = [parameter.detach().clone() for parameter in self.parameters]
        self._assign(self.ema)
        try:
            yield
        finally:
            self._assign(live)

    @torch.no_grad()
    def _assign(self, values: list[Tensor]) -> None:
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.copy_(value)

    def save(self, path: Path) -> None:
        """Writes everything that the run needs to go on."""
        state, numbers = training_state.optimizer_state(self.inner_optimizer)
        tensors = training_state.add_prefix("weight", self.parameters) | training_state.add_prefix("ema", self.ema)
        scaler = self.accelerator.scaler
        about = {
            "losses": self.losses,
            "settings": asdict(self.settings),
            "lessons": self.data.examples.digest(),  # the key of earlier versions' states
            "numbers": numbers,
            "scaler": None if scaler is None else scaler.state_dict(),
        }
        training_state.save_state(path, tensors | state, about, STATE_KEY)

    def load(self, path: Path) -> None:
        """Goes on from what `save` wrote.

        Raises:
            AmusedError: another run: other settings, other pictures or captions, another model.
        """
        tensors, about = training_state.load_state(path, STATE_KEY)
        self._check_same(path, about)
        training_state.copy_into(self.parameters, "weight", tensors)
        training_state.copy_into(self.ema, "ema", tensors)
        training_state.restore_optimizer(self.inner_optimizer, tensors, about["numbers"])
        if about["scaler"] is not None and self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(about["scaler"])
        self.losses = list(about["losses"])

    def _check_same(self, path: Path, about: dict[str, Any]) -> None:
        """Raises `AmusedError` unless `about` describes a run with these settings and examples."""
        message = f"The run in {str(path.parent)!r} was begun with"
        hint = "go on with what it was begun with, or choose another output folder."
        settings = json.loads(json.dumps(asdict(self.settings)))
        presets = about["settings"].get("preset"), settings.pop("preset")
        if self.settings.lr_schedule == "constant":
            settings["steps"] = about["settings"].get("steps")  # a run may be made longer
        for name, value in settings.items():
            old = about["settings"].get(name)
            if old != value:
                said = f"{name} {old!r}, not {value!r}"
                if None not in presets and presets[0] != presets[1]:
                    said = "the preset {!r}, not {!r} ({})".format(*presets, said)
                raise AmusedError(f"{message} {said}; {hint}")
        if about["lessons"] != self.data.examples.digest():
            raise AmusedError(f"{message} other images or captions; {hint}")
