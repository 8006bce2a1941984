"""The training loop's one step, and everything that is needed to go on after it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from ..errors import AmusedError
from ..small_world.training.progress import step_generator
from . import checkpoint
from .lessons import Lessons
from .masking import masked_cross_entropy, sample_masks
from .optimizer import learning_rate, make_optimizer
from .presets import Settings
from .student import Student, Texts

START = -1  # the generator's step for start values; from -2 down, the order of each pass over the examples


class Trainer:
    """The state of one run.

    A step depends on seed and number alone, so a run that goes on from a state is the same as one without a break.

    Args:
        student: the prepared networks, from `make_student`.
        texts: turns captions into what the student wants.
        lessons: what to learn.
        settings: how.
        accelerator: accelerate's, which brings devices, half precision and accumulation.
        mask_id: the mask token.
        prior: the model's own pictures, to hold on to.

    Attributes:
        losses: of every step so far; `len(losses)` is their number.
    """

    def __init__(
        self,
        student: Student,
        texts: Texts,
        lessons: Lessons,
        settings: Settings,
        accelerator: Any,
        mask_id: int,
        prior: Lessons | None = None,
    ) -> None:
        self.texts, self.lessons, self.settings = texts, lessons, settings
        self.accelerator, self.mask_id, self.prior = accelerator, mask_id, prior
        self.parameters = [parameter for parameter in student.parameters() if parameter.requires_grad]
        self.inner_optimizer = make_optimizer(self.parameters, settings)
        self.student, self.optimizer = accelerator.prepare(student, self.inner_optimizer)
        self.ema = [parameter.detach().clone() for parameter in self.parameters] if settings.ema else []
        self.losses: list[float] = []

    def step(self) -> float:
        """One update; returns the loss.

        Raises:
            AmusedError: the loss is no number; the weights are those before the step.
        """
        number, settings, losses = len(self.losses), self.settings, []
        for group in self.inner_optimizer.param_groups:
            group["lr"] = learning_rate(number, settings)
        for turn in range(settings.accumulation):
            with self.accelerator.accumulate(self.student):
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
        return self.losses[-1]

    def _loss(self, turn: int) -> Tensor:
        """The loss of one batch; each device draws its own."""
        devices = self.accelerator.num_processes
        place = turn * devices + self.accelerator.process_index
        generator = step_generator(self.settings.seed, place)
        parts = [self._batch(self.lessons, place, self.settings.drop_text, generator)]
        if self.prior is not None:
            parts.append(self._batch(self.prior, place, 0.0, generator))
        names, *rest = zip(*parts, strict=True)
        tokens, micro, masks = (torch.cat(tensors).to(self.accelerator.device) for tensors in rest)
        captions = [caption for some in names for caption in some]
        text = tuple(tensor.to(self.accelerator.device) for tensor in self.texts(captions))
        logits = self.student(tokens.masked_fill(masks, self.mask_id), micro, text)
        count, smoothing = self.settings.batch, self.settings.label_smoothing
        loss = masked_cross_entropy(logits[:count], tokens[:count], masks[:count], smoothing)
        if self.prior is None:
            return loss
        held = masked_cross_entropy(logits[count:], tokens[count:], masks[count:], smoothing)
        return loss + self.settings.prior_weight * held

    def _batch(self, lessons: Lessons, place: int, drop: float, generator: Generator) -> tuple[Any, ...]:
        """Captions (empty with probability `drop`), tokens, micro-conditioning and masks of the batch at `place`."""
        chosen = self._order(lessons, place)
        dropped = (torch.rand(len(chosen), generator=generator) < drop).tolist()
        captions = ["" if gone else lessons.captions[i] for i, gone in zip(chosen, dropped, strict=True)]
        grid = lessons.tokens.shape[1:]
        masks = sample_masks(len(chosen), *grid, self.settings.regions, generator)
        return captions, lessons.tokens[chosen], lessons.micro[chosen], masks

    def _order(self, lessons: Lessons, place: int) -> list[int]:
        """Which examples the batch at `place` has: all once, shuffled, before any comes again."""
        first, total = place * self.settings.batch, len(lessons)
        places = range(first, first + self.settings.batch)
        shuffled = {at // total: step_generator(self.settings.seed, -2 - at // total) for at in places}
        passes = {number: torch.randperm(total, generator=chance).tolist() for number, chance in shuffled.items()}
        return [passes[at // total][at % total] for at in places]

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within it the networks have the averaged weights, where there are any."""
        if not self.ema:
            yield
            return
        own = [parameter.detach().clone() for parameter in self.parameters]
        self._put(self.ema)
        try:
            yield
        finally:
            self._put(own)

    @torch.no_grad()
    def _put(self, values: list[Tensor]) -> None:
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.copy_(value)

    def save(self, path: Path) -> None:
        """Writes everything that the run needs to go on."""
        state, numbers = checkpoint.optimizer_state(self.inner_optimizer)
        tensors = checkpoint.numbered("weight", self.parameters) | checkpoint.numbered("ema", self.ema)
        tensors |= {f"optimizer.{name}": tensor for name, tensor in state.items()}
        scaler = self.accelerator.scaler
        about = {
            "losses": self.losses,
            "settings": asdict(self.settings),
            "lessons": self.lessons.digest(),
            "numbers": numbers,
            "scaler": None if scaler is None else scaler.state_dict(),
        }
        checkpoint.put_state(path, tensors, about)

    def load(self, path: Path) -> None:
        """Goes on from what `save` wrote.

        Raises:
            AmusedError: another run: other settings, other pictures or captions, another model.
        """
        tensors, about = checkpoint.get_state(path)
        _check_same(path, about, self)
        checkpoint.fill(self.parameters, "weight", tensors)
        checkpoint.fill(self.ema, "ema", tensors)
        checkpoint.restore_optimizer(self.inner_optimizer, checkpoint.below("optimizer", tensors), about["numbers"])
        if about["scaler"] is not None and self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(about["scaler"])
        self.losses = list(about["losses"])


def _check_same(path: Path, about: dict[str, Any], trainer: Trainer) -> None:
    hint = "go on with what it was begun with, or choose another output folder."
    new = json.loads(json.dumps(asdict(trainer.settings)))
    if trainer.settings.lr_schedule == "constant":
        new["steps"] = about["settings"].get("steps")  # a run may be made longer
    for name, value in new.items():
        old = about["settings"].get(name)
        if old != value:
            raise AmusedError(f"The run in {str(path.parent)!r} was begun with {name} {old!r}, not {value!r}; {hint}")
    if about["lessons"] != trainer.lessons.digest():
        raise AmusedError(f"The run in {str(path.parent)!r} was begun with other pictures or captions; {hint}")
