"""A whole run into a folder: it goes on where it was stopped, shows its loss, and draws samples on the way."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..errors import AmusedError
from ..model import AmusedModel
from ..networks.text import cut
from ..small_world.training.grids import make_grid
from ..small_world.training.progress import step_generator
from .checkpoint import get_state, put, put_state, put_text
from .curve import write_curve
from .data import Report, read_examples
from .devices import make_accelerator
from .export import lora_metadata, write_lora, write_model
from .lessons import Lessons, draw_prior, encode
from .presets import Settings
from .student import embed_all, make_student
from .trainer import START, Trainer

STATE, PRIOR, LORA = "state.safetensors", "prior.safetensors", "lora.safetensors"
SAMPLE_SEED = 0


@dataclass(frozen=True)
class Plan:
    """Where a run gets its examples and what it writes.

    Attributes:
        source, caption: as in `data.read_examples`.
        output: the folder for everything that the run writes.
        save_every: steps from one saved state to the next; a crash loses no more than these.
        sample_every: steps from one sheet of samples to the next; 0: none.
        sample_prompts: what the samples show; empty: the captions of the first examples.
        width, height: pixels of the examples; None: the model's own.
    """

    source: Path
    caption: str | None
    output: Path
    save_every: int = 100
    sample_every: int = 0
    sample_prompts: tuple[str, ...] = ()
    width: int | None = None
    height: int | None = None


class Run:
    """One run; `model` is loaded in fp32 and is changed by it.

    Attributes:
        report: what became of the pictures.
        trainer: the state.
    """

    def __init__(self, model: AmusedModel, plan: Plan, settings: Settings) -> None:
        self.model, self.plan, self.settings = model, plan, settings
        self.report = Report()
        cpu = model.device.type == "cpu"
        accelerator = make_accelerator(settings.precision, settings.accumulation, cpu)
        self.main = accelerator.is_main_process
        own = model.checkpoint.recommended
        size = (plan.width or own.width, plan.height or own.height)
        for name, side in zip(("width", "height"), size, strict=True):
            if side % model.vq.factor:
                raise AmusedError(f"{name} is {side}; allowed are multiples of {model.vq.factor}.")
        lessons = encode(read_examples(plan.source, plan.caption, size, model.vq.factor, self.report), model.vq)
        for caption in dict.fromkeys(lessons.captions):
            if words := model.text.left_out(caption):
                self.report.changed.append((f"caption {caption[:30]!r}", cut(words, model.text.limit)))
        if self.main:
            put_text(plan.output / "report.txt", self.report.text() + "\n")
        prior = self._prior(accelerator) if settings.prior_prompts else None
        captions = {*lessons.captions, *(prior.captions if prior else ())}
        texts = self._ids if settings.text_encoder else embed_all(model.text, list(captions))
        self.student = make_student(model.transformer, model.text, settings, step_generator(settings.seed, START))
        self.trainer = Trainer(
            self.student, texts, lessons, settings, accelerator, model.checkpoint.mask_token_id, prior
        )
        if (state := plan.output / STATE).exists():
            self.trainer.load(state)

    def _ids(self, captions: Any) -> tuple[torch.Tensor, ...]:
        return (self.model.text.ids(captions),)

    def _prior(self, accelerator: Any) -> Lessons:
        """The model's own pictures, drawn once and kept, so that a run that goes on has the same."""
        settings, path = self.settings, self.plan.output / PRIOR
        about = {"prompts": list(settings.prior_prompts), "count": settings.prior_count, "seed": settings.seed}
        if self.main and not (path.exists() and get_state(path)[1]["about"] == about):
            lessons = draw_prior(self.model, settings.prior_prompts, settings.prior_count, settings.seed)
            kept = {"about": about, "captions": list(lessons.captions)}
            put_state(path, {"tokens": lessons.tokens, "micro": lessons.micro}, kept)
        accelerator.wait_for_everyone()
        tensors, kept = get_state(path)
        return Lessons(tensors["tokens"], tuple(kept["captions"]), tensors["micro"])

    def __call__(self, on_step: Callable[[int, float], None] | None = None) -> Path:
        """Trains to the end and returns the LoRA file or the model folder.

        Args:
            on_step: called with the number of steps done and the loss; what it raises (an interrupt) passes through,
                after all that was learnt has been written.
        """
        trainer, plan = self.trainer, self.plan
        try:
            while len(trainer.losses) < self.settings.steps:
                loss = trainer.step()
                done = len(trainer.losses)
                if done % plan.save_every == 0 and done < self.settings.steps:
                    self.save()
                if plan.sample_every and done % plan.sample_every == 0:
                    self.sample()
                if on_step is not None:
                    on_step(done, loss)
        except KeyboardInterrupt:
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
        """Writes what was learnt so far, a model as the folder `model-000750` of that many steps; returns where."""
        trainer, steps = self.trainer, len(self.trainer.losses)
        path = self.plan.output / (LORA if self.settings.kind == "lora" else f"model-{steps:06}")
        with trainer.averaged():
            if self.main and self.settings.kind == "lora":
                base, captions = self.model.checkpoint.name, trainer.lessons.captions
                write_lora(path, self.student, lora_metadata(base, self.settings, steps, captions))
            elif self.main:
                write_model(path, self.model.checkpoint, self.student)
        return path

    @torch.no_grad()
    def sample(self) -> None:
        """Draws the sample prompts, always from the same seeds, as `samples/step-000100.png`."""
        from PIL import Image

        if not self.main:
            return
        prompts = list(self.plan.sample_prompts or dict.fromkeys(self.trainer.lessons.captions))[:8]
        with self.trainer.averaged():
            images = self.model.generate(
                prompts, seed=[SAMPLE_SEED + i for i in range(len(prompts))], reuse=False
            ).images
        sheet = (make_grid(images.movedim(-1, 1), min(4, len(prompts))) * 255).round().byte().permute(1, 2, 0)
        picture = io.BytesIO()
        Image.fromarray(sheet.numpy()).save(picture, "PNG")
        path = self.plan.output / "samples" / f"step-{len(self.trainer.losses):06}.png"
        put(path, lambda beside: beside.write_bytes(picture.getvalue()))
