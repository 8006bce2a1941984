"""LATENTs of tokens as files, the same as those of `amused generate --save-tokens`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from ....amused_core.files.tokens import UNDECIDED, read_tokens, save_tokens
from .. import guards
from ..latent.latent_format import codes_to_tokens, tokens_to_codes
from ..load.input_files import InputFiles
from ..sample import checks
from . import output

ENDING = ".npy"
files = InputFiles("token file", ENDING)


def save(latent: dict[str, Tensor], prefix: str) -> Path:
    """Writes a LATENT's tokens below ComfyUI's output folder; a masked cell is -1. Returns the new file."""
    codes = checks.check_codes(latent["samples"], checks.MAX_CODES)
    tokens = codes_to_tokens(codes, UNDECIDED)
    return output.save(prefix, ENDING, lambda path: save_tokens(tokens, path, overwrite=False))


def load(name: str, model: Any) -> dict[str, Tensor]:
    """The LATENT in a file of ComfyUI's input folder, for a MODEL.

    Raises:
        AmusedError: no such file, not a file of tokens, or tokens of another model.
    """
    size = guards.amused_model(model).info.codebook_size
    tokens = read_tokens(files.path(name), size)
    return {"samples": tokens_to_codes(tokens.where(tokens != UNDECIDED, size), size)}
