"""Text to image: the prompts of a set, judged, and diffusers' pipeline beside them."""

from __future__ import annotations

from typing import Any

from .accuracy import by_kind, measure, pictures, right
from .generation import GeneratedImages
from .judge import read
from .reference import draw_reference
from .targets import Targets
from .task import CellSettings, Evaluation, TaskResult, cell_name, show_progress
from .verdict import verdict


def text_to_image(evaluation: Evaluation, part: str, settings: CellSettings) -> TaskResult:
    """Accuracy of the pictures of a prompt set (`part`)."""
    plan, codes = evaluation.plan, evaluation.model.vq.codebook_size
    requests, targets = evaluation.targets_of(part)
    texts, name = [prompt.text for prompt in requests], cell_name("text", part, settings)
    seeding = "diffusers" if plan.reference else "per_image"
    images = evaluation.generate(name, texts, settings, seeding=seeding)
    content: dict[str, Any] = {
        "full_settings": images.settings,
        "row": measure(images, targets, codes),
        "kinds": by_kind(images.planes, targets, requests),
        "pictures": pictures(images.planes, targets, requests, plan.seed),
    }
    if evaluation.pipeline is not None:
        more = {"seed": plan.seed, "batch": plan.batch, "on_progress": show_progress(f"diffusers: {name}")}
        theirs = draw_reference(evaluation.pipeline, evaluation.model, texts, images.settings, **more)
        equal = float((theirs.tokens == images.tokens).double().mean())
        content["reference"] = {"row": measure(theirs, targets, codes), "equal_tokens": equal}
    return TaskResult(content, images.planes, texts, _marks(images, targets))


def _marks(images: GeneratedImages, targets: Targets) -> list[str]:
    result = verdict(read(images.planes), targets.scenes)
    strict = right(result, images.planes, targets)
    return ["right" if s else "nearest" if a else "wrong" for s, a in zip(strict, result.all, strict=True)]
