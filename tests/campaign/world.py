"""The small models and files that all kinds of cases use."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from PIL import Image

from amused_core import AmusedModel, load_model
from tests import loras
from tests.tiny import write_tiny_checkpoint


class World:
    """A folder with a tiny model, LoRAs, a picture, a mask and a table of prompts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model_folder = write_tiny_checkpoint(folder / "tiny")
        self.model: AmusedModel = load_model(self.model_folder)
        self.one_file = folder / "one.safetensors"
        self.model.save(self.one_file)
        parts = {"transformer": self.model.transformer, "text_encoder": self.model.text.module}
        self.loras = [folder / f"{form}.safetensors" for form in ("diffusers", "kohya", "peft")]
        for seed, file in enumerate(self.loras):
            factors = loras.factors(parts["transformer"], loras.ATTENTION, seed=seed)
            text = loras.factors(parts["text_encoder"], loras.TEXT, seed=seed) if file.stem != "peft" else None
            loras.write(file, file.stem, factors, text)
        self.picture = folder / "picture.png"
        self.mask = folder / "mask.png"
        Image.linear_gradient("L").resize((32, 32)).convert("RGB").save(self.picture)
        Image.linear_gradient("L").resize((32, 32)).save(self.mask)
        self.rows = folder / "rows.jsonl"
        self.rows.write_text("".join(json.dumps({"prompt": f"a cat {number}"}) + "\n" for number in range(8)))
        self.scratch = folder / "scratch"
        self.scratch.mkdir()


def noise(count: int = 1, height: int = 32, width: int = 32, seed: int = 7) -> torch.Tensor:
    """Pictures [count,H,W,3] of noise."""
    return torch.rand(count, height, width, 3, generator=torch.Generator().manual_seed(seed))
