"""LoRAs as patches of ComfyUI's own: they stack, merge, offload and are saved like those of the stock loader."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import comfy.lora
import folder_paths
from torch import Size, Tensor, nn

from ....amused_core.checkpoint import EMBEDDED
from ....amused_core.errors import AmusedError
from ....amused_core.files.tensors import ENDING
from ....amused_core.lora import Lora, fit, read_lora
from ....amused_core.lora.file import PEFT_CONFIG
from .. import guards
from ..text.clip import AmusedClipModel
from .listing import Remembered, Stamp, is_text, leave_out, stamp

FOLDER = "loras"
NONE = "none"
# Come with the pack, for the embedded model. Not the name of a file: those end in .safetensors.
OWN = {"embedded: dotted": EMBEDDED / "loras" / "dotted.safetensors"}
# Where the two parts are among the weights of a MODEL and of a CLIP.
PREFIXES = {"transformer": "diffusion_model.", "text_encoder": "clip_l.transformer."}
logger = logging.getLogger(__name__)


def names() -> list[str]:
    """What the node offers: none, those of the pack, and the `.safetensors` files in ComfyUI's folders for LoRAs."""
    try:
        files = folder_paths.get_filename_list(FOLDER)
    except OSError as error:
        leave_out(FOLDER, error)
        files = []
    roots = tuple(folder_paths.get_folder_paths(FOLDER))
    return [NONE, *OWN, *_readable(roots, tuple(name for name in files if name.lower().endswith(ENDING)))]


@Remembered
def _readable(note: Callable[[str], Stamp], roots: tuple[str, ...], names: tuple[str, ...]) -> list[str]:
    """Those of `names` that are files below one of `roots`; links that lead nowhere are listed by ComfyUI, too."""
    found = []
    for name in filter(is_text, names):
        paths = [os.path.join(root, name) for root in roots]
        if any(map(os.path.isfile, paths)):
            found.append(name)
        else:
            leave_out(name, f"{FOLDER} has a link of that name that leads to no file")
            for path in paths:
                note(path)
    return found


def fingerprint(name: str) -> list[tuple[str, Stamp]]:
    """Path, time and size of the file, and of peft's settings beside it: changes when it is replaced."""
    if name == NONE:
        return []
    path = _path(name)
    return [(str(file), stamp(file)) for file in (path, path.with_name(PEFT_CONFIG))]


def load(model: Any, clip: Any, name: str, strength_model: float, strength_clip: float) -> tuple[Any, Any]:
    """MODEL and CLIP with the LoRA called `name`; a `clip` of None stays None. Strength 0 leaves a part as it is.

    Raises:
        AmusedError: no such file, a damaged one, one for another model, or a MODEL or CLIP that is not aMUSEd's.
    """
    guards.amused_model(model)
    if clip is not None and not isinstance(clip.cond_stage_model, AmusedClipModel):
        raise AmusedError("This CLIP is of another model; connect the CLIP of 'Load aMUSEd', or none.")
    if name == NONE or not (strength_model or (clip is not None and strength_clip)):
        return model, clip
    shapes = {"transformer": _shapes(model.model, "transformer")}
    if clip is not None:
        shapes["text_encoder"] = _shapes(clip.cond_stage_model, "text_encoder")
    lora = fit(read_lora(_path(name)), shapes)
    if warning := lora.warning():
        logger.warning("aMUSEd: %s", warning)
    return _patched(model, lora, "transformer", strength_model), _patched(clip, lora, "text_encoder", strength_clip)


def stock_names(lora: dict[str, Tensor]) -> dict[str, Tensor]:
    """A transformer's LoRA of diffusers' format under the names that ComfyUI's own loaders know; ours reads both."""
    prefix = "transformer."
    return {PREFIXES["transformer"] + key.removeprefix(prefix): value for key, value in lora.items()}


def _path(name: str) -> Path:
    """The file of that name; a workflow from Windows may have backslashes in it."""
    if name in OWN:
        return OWN[name]
    path = folder_paths.get_full_path(FOLDER, name) or folder_paths.get_full_path(FOLDER, name.replace("\\", "/"))
    if path is None:
        raise AmusedError(f"The LoRA {name!r} does not exist; allowed are {', '.join(names())}.")
    return Path(path)


def _shapes(owner: nn.Module, part: str) -> dict[str, Size]:
    prefix = PREFIXES[part]
    return {key.removeprefix(prefix): v.shape for key, v in owner.state_dict().items() if key.startswith(prefix)}


def _patched(target: Any, lora: Lora, part: str, strength: float) -> Any:
    """A clone with ComfyUI's patches for one part, made by its own loader from the names that weights have here."""
    changes = lora.parts.get(part)
    if not (changes and strength):
        return target
    tensors, keys = {}, {}
    for weight, change in changes.items():
        key = PREFIXES[part] + weight
        tensors.update(change.tensors(key))
        keys[key] = key
    clone = target.clone()
    clone.add_patches(comfy.lora.load_lora(tensors, keys), strength)
    return clone
