"""What an aMUSEd checkpoint holds, wherever it lies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from ..errors import AmusedError, CheckpointError, quoted
from ..families import family_of
from ..settings import VALUES, Recommended, check_settings, inputs
from .config import check_fit, check_layers, read_factor, read_scheduler


class Source(Protocol):
    """Where a checkpoint's parts come from."""

    def config(self, part: str) -> dict[str, Any]:
        """The configuration of a part as diffusers or transformers wrote it."""

    def state(self, part: str) -> dict[str, Tensor]:
        """The weights of a part, in their stored dtype."""

    def layout(self, part: str) -> dict[str, Tensor]:
        """The same without their values, on the meta device."""

    def tokenizer(self) -> Any:
        """The transformers tokenizer of the text encoder."""

    def extra(self) -> dict[str, Any]:
        """Our own `amused.json` (name, recommended settings); empty where a checkpoint has none."""


class Checkpoint:
    """An aMUSEd checkpoint whose weights are read part by part, when asked for.

    Attributes:
        path: the folder or file.
        name: for people.
        family: what is known of models of its kind.
        transformer_config: sizes of the transformer.
        factor: pixels per side of a token's cell, from the VQ's own config.
        mask_token_id: the id of the mask token, from the scheduler's config.
        schedule: the masking schedule of the scheduler's config.
        recommended: the settings the model is at its best with.
    """

    def __init__(self, path: Path, source: Source) -> None:
        self.path = path
        self._source = source
        configs = {part: self.config(part) for part in ("transformer", "vqvae", "text_encoder", "scheduler")}
        try:
            self._read(configs)
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from error
        extra = source.extra()
        self.name = str(extra.get("name", path.stem if path.is_file() else path.name))
        try:
            self.recommended = self._recommend(extra.get("recommended") or {})
        except (AmusedError, TypeError) as error:
            raise CheckpointError(f"{path}: the recommended settings of amused.json cannot be used: {error}") from error

    def config(self, part: str) -> dict[str, Any]:
        """The configuration of "transformer", "vqvae", "text_encoder" or "scheduler"."""
        return self._source.config(part)

    def state(self, part: str) -> dict[str, Tensor]:
        """The weights of "transformer", "vqvae" or "text_encoder", in their stored dtype."""
        return self._source.state(part)

    def layout(self, part: str) -> dict[str, Tensor]:
        """The same without their values, on the meta device: costs next to nothing."""
        return self._source.layout(part)

    def weights(self, part: str, dtype: torch.dtype | None) -> dict[str, Tensor]:
        """The weights of a part for writing: on the CPU, contiguous, floating-point ones in `dtype` (None: as is).

        Raises:
            CheckpointError: NaN or infinite weights, which no loader would take.
        """
        weights = {}
        for key, value in self.state(part).items():
            value = value.detach().to("cpu", dtype if value.is_floating_point() else None).contiguous()
            if not bool(torch.isfinite(value).all()):
                raise CheckpointError(f"The {part} has NaN or infinite values in {key} and is not saved.")
            weights[key] = value
        return weights

    def tokenizer(self) -> Any:
        """The transformers tokenizer of the text encoder."""
        return self._source.tokenizer()

    def extra(self) -> dict[str, Any]:
        """Our own `amused.json`; empty where the checkpoint has none."""
        return self._source.extra()

    def _read(self, configs: Mapping[str, dict[str, Any]]) -> None:
        """Sizes and classes of the parts, and whether they fit together."""
        self.family = family_of(configs["transformer"].get("_class_name"))
        for part, expected in self.family.classes.items():
            name = configs[part].get("_class_name")
            if name != expected:
                raise CheckpointError(f"the {part} is a {quoted(name)}, but {self.family.name} needs {expected!r}.")
        self.transformer_config = self.family.read_config(configs["transformer"])
        self.mask_token_id, self.schedule = read_scheduler(configs["scheduler"], self.transformer_config)
        self.factor = read_factor(configs["vqvae"])
        check_layers(configs["vqvae"], configs["text_encoder"])
        check_fit(self.transformer_config, configs["vqvae"], configs["text_encoder"])

    def _recommend(self, stored: Mapping[str, Any]) -> Recommended:
        """Stored settings, and what the family recommends for the others."""
        side = self.transformer_config.sample_size * self.factor
        known = {name: stored[name] for name in VALUES if name in stored}
        if "cfg_interval" in known:
            known.setdefault("cfg_schedule", "interval")
        defaults = {"schedule": self.schedule, **self.family.recommended(self.transformer_config)}
        return Recommended(
            **check_settings({**defaults, **known}, self.transformer_config.codebook_size),
            width=inputs.side(stored.get("width", side), "width", self.factor),
            height=inputs.side(stored.get("height", side), "height", self.factor),
        )
