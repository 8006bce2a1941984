"""MODEL, CLIP and VAE as they are in the graph, merges and LoRAs included, back to disk."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import comfy.model_management
from comfy.cli_args import args
from torch import Tensor

from ....amused_core.checkpoint import Checkpoint
from ....amused_core.checkpoint.folder import write_folder
from ....amused_core.checkpoint.single_file import ENDING, write_checkpoint
from ....amused_core.errors import AmusedError
from .. import guards
from ..load.bundle import DTYPES
from . import output

ONE_FILE, FOLDER = "one file", "diffusers folder"
LAYOUTS = (ONE_FILE, FOLDER)


class GraphSource:
    """A checkpoint's parts out of a graph; see `amused_core.checkpoint.Source`.

    Args:
        model, clip, vae: as the nodes pass them on.
        name: for people.

    Raises:
        AmusedError: one of them is of another kind of model.
    """

    def __init__(self, model: Any, clip: Any, vae: Any, name: str) -> None:
        self._base = guards.amused_model(model)
        self._text = guards.amused_clip(clip).cond_stage_model
        self._vq = guards.amused_vae(vae).first_stage_model.module
        self._name = name

    def config(self, part: str) -> dict[str, Any]:
        """See `Source`."""
        info = self._base.info
        if part == "transformer":
            config = asdict(self._base.diffusion_model.config)
        elif part == "scheduler":
            config = {"mask_token_id": info.mask_token_id, "masking_schedule": info.schedule}
        elif part == "vqvae":
            config = {key: value for key, value in self._vq.config.items() if not key.startswith("_")}
        else:
            return dict(self._text.stored_config)
        return {"_class_name": info.family.classes[part], **config}

    def state(self, part: str) -> dict[str, Tensor]:
        """See `Source`. What patches do to the weights is in them only once ComfyUI has loaded the model."""
        modules = {
            "transformer": self._base.diffusion_model,
            "text_encoder": self._text.clip_l.transformer,
            "vqvae": self._vq,
        }
        return modules[part].state_dict()

    def layout(self, part: str) -> dict[str, Tensor]:
        """See `Source`."""
        return {key: value.to("meta") for key, value in self.state(part).items()}

    def tokenizer(self) -> Any:
        """See `Source`."""
        return self._text.tokenizer

    def extra(self) -> dict[str, Any]:
        """See `Source`."""
        return {"name": self._name, "recommended": asdict(self._base.info.recommended)}


def save_model(
    model: Any, clip: Any, vae: Any, prefix: str, layout: str, dtype: str, prompt: Any = None, more: Any = None
) -> Path:
    """Writes a whole checkpoint below ComfyUI's output folder.

    Args:
        model, clip, vae: the parts, with all patches of their weights.
        prefix: of the name, as in ComfyUI's own nodes; a number follows.
        layout: "one file" or "diffusers folder".
        dtype: of the weights; "auto" is what each part has in memory.
        prompt, more: the graph and what the frontend adds to it, for the metadata of a file, unless ComfyUI is told
            to write none.

    Returns:
        The new file or folder.

    Raises:
        AmusedError: parts of other models, or that do not fit together; an unknown layout or dtype; a bad prefix.
    """
    if layout not in LAYOUTS:
        raise AmusedError(f"layout is {layout!r}; allowed are {', '.join(LAYOUTS)}.")
    if dtype not in DTYPES:
        raise AmusedError(f"dtype is {dtype!r}; allowed are {', '.join(DTYPES)}.")

    def write(path: Path) -> None:
        checkpoint = Checkpoint(path, GraphSource(model, clip, vae, path.name.removesuffix(ENDING).rstrip("_")))
        # As ComfyUI's own nodes do it: the weights are patched in place, and are what a sampler would compute with.
        comfy.model_management.load_models_gpu([model, clip.patcher], force_patch_weights=True)
        if layout == ONE_FILE:
            write_checkpoint(path, checkpoint, DTYPES[dtype], _graph(prompt, more), overwrite=False)
        else:
            write_folder(path, checkpoint, DTYPES[dtype])

    return output.save(prefix, ENDING if layout == ONE_FILE else "", write)


def _graph(prompt: Any, more: Any) -> dict[str, str]:
    """The entries that ComfyUI writes into its own files."""
    if args.disable_metadata:
        return {}
    entries = {"prompt": prompt, **(more or {})}
    return {key: json.dumps(value) for key, value in entries.items() if value is not None}
