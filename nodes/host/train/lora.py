"""Training a LoRA on a copy of the graph's model; the core's trainer does the work."""

from __future__ import annotations

import logging
from typing import Any

import comfy.lora
import comfy.model_management
import comfy.utils
import torch
from PIL import Image
from torch import Tensor

from ....amused_core.errors import AmusedError
from ....amused_core.files.writing import write_tensors
from ....amused_core.finetune.devices import make_accelerator
from ....amused_core.finetune.export import lora_metadata, lora_tensors
from ....amused_core.finetune.presets import preset
from ....amused_core.finetune.trainable import EmbeddedCaptions, make_trainable
from ....amused_core.finetune.trainer import START, Trainer, TrainingData
from ....amused_core.networks.predictor import module_predictor
from ....amused_core.networks.text import TextEmbedding
from ....amused_core.sampling import loop as core
from ....amused_core.sampling.randomness import PerImageDraws
from ....amused_core.sampling.schedule import Schedule
from ....amused_core.sampling.step_generator import step_generator
from .. import guards
from ..latent.latent_format import tokens_to_codes
from ..load.lora import stock_names
from ..sample.checks import check_text
from ..save import output
from . import dataset

STOPPED = "loras/amused_stopped"
PREVIEW_SIDE = 512
logger = logging.getLogger(__name__)


def train_lora(
    model: Any, clip: Any, vae: Any, image: Tensor, text: str, prior: str, name: str, preview_every: int, **changes: Any
) -> tuple[Any, dict[str, Tensor], dict[str, list[float]], int]:
    """Learns pictures as a LoRA.

    Args:
        model, clip, vae: of 'Load aMUSEd'; the model's patches are part of what is trained on.
        image: [N,H,W,3], brought to the model's own size.
        text: one caption for all, or a line for each.
        prior: prompts, one a line, that the model shall go on to draw as it does.
        name: of the preset.
        preview_every: steps from one preview to the next; 0: none.
        changes: settings of `TrainingSettings`; 0 and "" are the preset's.

    Returns:
        MODEL with the LoRA, its weights under ComfyUI's names, the losses, and the number of steps.

    Raises:
        AmusedError: peft or accelerate is missing, inputs of other models, captions that do not fit the pictures.
    """
    info, config = guards.amused_model(model).info, model.model.diffusion_model.config
    prompts = tuple(dataset.lines(prior))
    changes = {key: value or None for key, value in changes.items()} | {"prior_prompts": prompts or None}
    settings = preset(name, config, **changes)
    device = comfy.model_management.get_torch_device()
    accelerator = make_accelerator(settings.precision, settings.accumulation, device.type == "cpu")
    examples = dataset.image_dataset(vae, image, text, model)
    table = {caption: dataset.embed(clip, caption) for caption in {*examples.captions, *prompts, ""}}
    check_text(*table[""], config.encoder_hidden_size, config.cond_embed_dim)
    prior_examples = dataset.prior_dataset(model, clip, settings, info) if prompts else None
    weights = _weights(model)
    with torch.inference_mode(False), torch.enable_grad():
        network = info.family.transformer(config, device="meta")
        network.load_state_dict({key: value.clone().float() for key, value in weights.items()}, assign=True)
        texts = EmbeddedCaptions(
            {caption: TextEmbedding(*(x.clone() for x in entry)) for caption, entry in table.items()}
        )
        examples, prior_examples = (
            dataset.copy_for_autograd(examples),
            None if prior_examples is None else dataset.copy_for_autograd(prior_examples),
        )
        trainable = make_trainable(network, None, settings, step_generator(settings.seed, START))
        data = TrainingData(examples, texts, info.mask_token_id, prior_examples)
        trainer = Trainer(trainable, data, settings, accelerator)
        try:
            _run(trainer, vae, info, preview_every)
        except comfy.model_management.InterruptProcessingException:
            _keep(trainer, info.name)
            raise
        with trainer.averaged():
            lora = stock_names(lora_tensors(trainable))
    return _with_lora(model, lora), lora, {"loss": trainer.losses}, len(trainer.losses)


def _weights(model: Any) -> dict[str, Tensor]:
    """The U-ViT's weights with all patches; then everything is unloaded, to make room for training."""
    management = comfy.model_management
    management.load_models_gpu([model], force_full_load=True)
    weights = {key: value.detach().cpu().clone() for key, value in model.model.diffusion_model.state_dict().items()}
    management.unload_all_models()
    return weights


def _run(trainer: Trainer, vae: Any, info: Any, preview_every: int) -> None:
    total = trainer.settings.steps
    bar = comfy.utils.ProgressBar(total)
    for done in range(1, total + 1):
        comfy.model_management.throw_exception_if_processing_interrupted()
        trainer.step()
        due = preview_every and (done % preview_every == 0 or done == total)
        bar.update_absolute(done, total, _preview(trainer, vae, info) if due else None)


@torch.no_grad()
def _preview(trainer: Trainer, vae: Any, info: Any) -> tuple[str, Image.Image, int]:
    """What the first caption draws by now, always from the same seed."""
    device, size, mask = trainer.accelerator.device, info.recommended, info.mask_token_id
    transformer, data = trainer.trainable.transformer, trainer.data
    dtype = transformer.encoder_proj.weight.dtype
    text = TextEmbedding(*(x.to(device, dtype) for x in data.encode(data.examples.captions[:1])))
    predict = module_predictor(transformer, text, None, data.examples.micro[:1].to(device), 1.0)
    schedule = Schedule.named(size.schedule, size.steps)
    grid = torch.full((1, *data.examples.tokens.shape[1:]), mask, device=device)
    more = {"mask_token_id": mask, "temperature": size.temperature}
    tokens = core.sample(grid, predict, schedule, PerImageDraws([0]), **more)
    picture = vae.decode(tokens_to_codes(tokens, info.codebook_size))[0]
    return "JPEG", Image.fromarray((picture.cpu() * 255).round().byte().numpy()), PREVIEW_SIDE


def _keep(trainer: Trainer, base: str) -> None:
    """Writes what was learnt before the user stopped the run; an error is logged, for the interrupt goes on."""
    if not trainer.losses:
        return
    about = lora_metadata(base, trainer.settings, len(trainer.losses), trainer.data.examples.captions)
    with trainer.averaged():
        lora = stock_names(lora_tensors(trainer.trainable))
        try:
            path = output.save(STOPPED, ".safetensors", lambda path: write_tensors(path, lora, about, overwrite=False))
        except AmusedError as error:
            logger.warning("aMUSEd: the LoRA of %s training steps could not be saved: %s", len(trainer.losses), error)
            return
    logger.warning("aMUSEd: stopped after %s steps; what was learnt is in %s", len(trainer.losses), path)


def _with_lora(model: Any, lora: dict[str, Tensor]) -> Any:
    names = {key.rpartition(".lora_")[0] for key in lora}
    keys = {name: f"{name}.weight" for name in names}
    clone = model.clone()
    clone.add_patches(comfy.lora.load_lora(lora, keys), 1.0)
    return clone
