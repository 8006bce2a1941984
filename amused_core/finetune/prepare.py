"""The steps before training: read the examples, draw the prior, prepare the networks, load a saved state."""

from __future__ import annotations

from typing import Any

from ..errors import AmusedError
from ..files.training_state import load_state, save_state
from ..files.writing import write_text
from ..model import AmusedModel
from ..networks.text import cut
from ..sampling.step_generator import step_generator
from ..settings.inputs import texts
from .dataset import TokenDataset, encode_examples, generate_prior
from .devices import make_accelerator
from .examples import read_examples
from .folder import DatasetReport
from .plan import PRIOR, STATE, TrainingPlan
from .run import TrainingRun
from .settings import TrainingSettings
from .trainable import embed_captions, make_trainable, tokenizer_of
from .trainer import START, STATE_KEY, Trainer, TrainingData


def prepare(model: AmusedModel, plan: TrainingPlan, settings: TrainingSettings) -> TrainingRun:
    """A run that is ready to train; where `plan.output` holds the state of one, that run, to go on with.

    Writes `report.txt` and, with prior prompts, `prior.safetensors` into `plan.output`.

    Args:
        model: loaded in fp32; it is changed by the run.
        plan: the examples and the output folder.
        settings: how to train.

    Raises:
        AmusedError: no usable example, a size that is no multiple of a token's, a missing package, or a saved state
            of another run.
    """
    accelerator = make_accelerator(settings.precision, settings.accumulation, model.device.type == "cpu")
    report = DatasetReport()
    size = _size(model, plan)
    examples = encode_examples(read_examples(plan.source, plan.caption, size, model.vq.factor, report), model.vq)
    for caption in dict.fromkeys(examples.captions):
        if words := model.text.left_out(caption):
            report.changed.append((f"caption {caption[:30]!r}", cut(words, model.text.limit)))
    if accelerator.is_main_process:
        write_text(plan.output / "report.txt", report.text() + "\n")
    prior = _load_prior(model, plan, settings, accelerator) if settings.prior_prompts else None
    captions = [*examples.captions, *(prior.captions if prior else ())]
    encode = tokenizer_of(model.text) if settings.text_encoder else embed_captions(model.text, captions)
    trainable = make_trainable(model.transformer, model.text, settings, step_generator(settings.seed, START))
    data = TrainingData(examples, encode, model.checkpoint.mask_token_id, prior)
    trainer = Trainer(trainable, data, settings, accelerator)
    if (state := plan.output / STATE).exists():
        trainer.load(state)
    return TrainingRun(model, plan, trainer, report)


def _size(model: AmusedModel, plan: TrainingPlan) -> tuple[int, int]:
    """Width and height of the examples."""
    recommended = model.checkpoint.recommended
    size = (plan.width or recommended.width, plan.height or recommended.height)
    for name, side in zip(("width", "height"), size, strict=True):
        if side % model.vq.factor:
            raise AmusedError(f"{name} is {side}; allowed are multiples of {model.vq.factor}.")
    return size


def _load_prior(model: AmusedModel, plan: TrainingPlan, settings: TrainingSettings, accelerator: Any) -> TokenDataset:
    """The model's own pictures, drawn once and stored, so that a resumed run has the same."""
    path = plan.output / PRIOR
    prompts = texts(settings.prior_prompts, "prior_prompts")
    about = {"prompts": prompts, "count": settings.prior_count, "seed": settings.seed}
    if accelerator.is_main_process and not (path.exists() and load_state(path, STATE_KEY)[1]["about"] == about):
        prior = generate_prior(model, prompts, settings.prior_count, settings.seed)
        meta = {"about": about, "captions": list(prior.captions)}
        save_state(path, {"tokens": prior.tokens, "micro": prior.micro}, meta, STATE_KEY)
    accelerator.wait_for_everyone()
    tensors, meta = load_state(path, STATE_KEY)
    return TokenDataset(tensors["tokens"], tuple(meta["captions"]), tensors["micro"])
