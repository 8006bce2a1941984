"""A whole run into a folder: it goes on where it was stopped, saves its state, and draws samples on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from ..files.writing import write_tensors
from ..images.grids import save_grid
from ..model import AmusedModel
from .curve import write_curve
from .export import lora_metadata, lora_tensors, write_model
from .folder import DatasetReport
from .plan import LORA, STATE, TrainingPlan
from .trainer import Trainer

SAMPLE_SEED = 0


@dataclass(frozen=True)
class TrainingRun:
    """A run that is ready to train, from `prepare`.

    Attributes:
        model: the model that is trained in place.
        plan: where the run writes, and how often.
        trainer: the state.
        report: which pictures are used.
    """

    model: AmusedModel
    plan: TrainingPlan
    trainer: Trainer
    report: DatasetReport

    @property
    def main(self) -> bool:
        """Whether this process is the one that writes files."""
        return self.trainer.accelerator.is_main_process

    def train(self, on_step: Callable[[int, float], None] | None = None) -> Path:
        """Trains to the end and returns the LoRA file or the model folder.

        Args:
            on_step: called with the number of finished steps and the loss; an interrupt that it raises passes through
                after the state and the result so far have been written. One within a step leaves those of before.
        """
        trainer, plan, total = self.trainer, self.plan, self.trainer.settings.steps
        try:
            while len(trainer.losses) < total:
                loss = trainer.step()
                done = len(trainer.losses)
                if done % plan.save_every == 0 and done < total:
                    self.save()
                if plan.sample_every and done % plan.sample_every == 0:
                    self.sample()
                if on_step is not None:
                    on_step(done, loss)
        except KeyboardInterrupt:
            if trainer.whole and trainer.losses:
                self.save()
                self.export()
            raise
        self.save()
        return self.export()

    def save(self) -> None:
        """Writes the state and the curve."""
        if self.main:
            self.trainer.save(self.plan.output / STATE)
            write_curve(self.plan.output, self.trainer.losses)

    def export(self) -> Path:
        """Writes the result so far, a full model as the folder `model-000750` of that many steps; returns its path."""
        trainer, settings, steps = self.trainer, self.trainer.settings, len(self.trainer.losses)
        path = self.plan.output / (LORA if settings.kind == "lora" else f"model-{steps:06}")
        base = self.model.checkpoint
        with trainer.averaged():
            if self.main and settings.kind == "lora":
                metadata = lora_metadata(base.name, settings, steps, trainer.data.examples.captions)
                write_tensors(path, lora_tensors(trainer.trainable), metadata)
            elif self.main:
                write_model(path, base, trainer.trainable)
        return path

    @torch.no_grad()
    def sample(self) -> None:
        """Draws the sample prompts, always from the same seeds, as `samples/step-000100.png`."""
        if not self.main:
            return
        prompts = list(self.plan.sample_prompts or dict.fromkeys(self.trainer.data.examples.captions))[:8]
        with self.trainer.averaged():
            seeds = [SAMPLE_SEED + i for i in range(len(prompts))]
            images = self.model.generate(prompts, seed=seeds, reuse=False).images
        path = self.plan.output / "samples" / f"step-{len(self.trainer.losses):06}.png"
        save_grid(images.movedim(-1, 1), path, min(4, len(prompts)))
