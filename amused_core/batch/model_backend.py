"""Drawing the pictures of a batch job with an `AmusedModel`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

import psutil
import torch
from torch import Tensor

from ..errors import AmusedError, quoted
from ..images.files import open_mask, open_picture
from ..lora.argument import split_lora
from ..model import AmusedModel
from ..model.request import Request, join_requests
from ..networks.prompt_cache import PromptCache
from ..settings import VALUES
from .backend import Drawn
from .columns import TEXTS
from .pictures import Picture
from .store import neighbour, open_url

MAX_BATCH = 32
# Copies of the logits that a step holds at a time, at most.
COPIES = 6
# Of the free memory.
SHARE = 0.4


class ModelBackend:
    """Draws with a model.

    Args:
        model: what draws; LoRAs of rows are merged into its weights, and taken out again.
        source: the file or URL of the rows; pictures, masks and LoRAs are named relative to it.
    """

    def __init__(self, model: AmusedModel, source: str = "") -> None:
        self.model = model
        self.source = source
        self._loras: tuple[str, ...] = ()
        self.model.prompt_cache = PromptCache(4 * MAX_BATCH)

    def identity(self) -> dict[str, Any]:
        """See `Backend`: the model's name, number format, and a digest of its weights."""
        modules = (self.model.transformer, self.model.text.module, self.model.vq.module)
        weights = (item for module in modules for item in module.state_dict().items())
        return {**self._common(), "weights": digest(weights)}

    def group(self, picture: Picture) -> Hashable:
        """See `Backend`."""
        return self._request(picture).group, self._lora(picture)

    def batch_size(self, picture: Picture) -> int:
        """See `Backend`: what fits in a part of the free memory, and no more than gains speed."""
        request = self._request(picture)
        cells = request.width * request.height // self.model.vq.factor**2
        bytes_each = COPIES * cells * self.model.checkpoint.transformer_config.codebook_size * 4
        return int(max(1, min(MAX_BATCH, SHARE * self.free_memory() // bytes_each)))

    def free_memory(self) -> int:
        """Bytes that drawing may use a share of."""
        if self.model.device.type == "cuda":
            return torch.cuda.mem_get_info(self.model.device)[0]
        return psutil.virtual_memory().available

    def locate(self, name: str) -> str:
        """The path or URL of a picture, mask or LoRA that a row names."""
        return neighbour(self.source, name)

    def draw(self, pictures: Sequence[Picture]) -> Drawn:
        """See `Backend`; a batch that does not fit into memory is drawn in halves."""
        self._use(self._lora(pictures[0]))
        request = self.join(pictures)
        tokens = self._tokens(request, pictures)
        settings = [self._settings(request, index, picture) for index, picture in enumerate(pictures)]
        return Drawn(tokens.cpu(), settings, lambda: self.model.decode(request, tokens))

    def _tokens(self, request: Request, pictures: Sequence[Picture]) -> Tensor:
        try:
            return self.model.draw_tokens(request)
        except torch.OutOfMemoryError as error:
            if len(pictures) == 1:
                raise AmusedError(f"The memory does not suffice for one picture: {error}") from error
        half = len(pictures) // 2
        parts = (pictures[:half], pictures[half:])
        return torch.cat([self._tokens(self.join(part), part) for part in parts])

    def join(self, pictures: Sequence[Picture]) -> Request:
        """One request for the pictures of a group."""
        return join_requests([self._request(picture) for picture in pictures])

    def _request(self, picture: Picture) -> Request:
        arguments = {name: value for name, value in picture.arguments.items() if name != "lora"}
        settings = {name: arguments.pop(name) for name in VALUES if name in arguments}
        for name in TEXTS:
            if not isinstance(arguments.get(name, ""), str):
                raise AmusedError(f"{name} is {quoted(arguments[name])}; allowed is a text.")
        for name, read in (("image", open_picture), ("mask", open_mask)):
            if name in arguments:
                arguments[name] = self._open(arguments[name], name, read)
        return self.model.request(settings=settings, **arguments)

    def _open(self, name: Any, column: str, read: Callable[..., Any]) -> Any:
        if not isinstance(name, str):
            raise AmusedError(f"{column} is {quoted(name)}; allowed are names of picture files.")
        url = self.locate(name)
        if "://" not in url:
            return read(url)
        with open_url(url) as file:
            return read(url, file)

    def _lora(self, picture: Picture) -> tuple[str, ...]:
        value = picture.arguments.get("lora", ())
        items = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, (list, tuple)) else (value,)
        if not all(isinstance(item, str) for item in items):
            raise AmusedError(f"lora is {quoted(value)}; allowed are FILE[:STRENGTH] or a list of them.")
        return items

    def _use(self, loras: tuple[str, ...]) -> None:
        """Merges these LoRAs into the weights, in place of those of the batch before."""
        if loras == self._loras:
            return
        self.model.unload_loras()
        self._loras = ()
        try:
            for item in loras:
                self.load_lora(item)
        except AmusedError:
            self.model.unload_loras()
            raise
        self._loras = loras

    def load_lora(self, item: str) -> None:
        """Merges FILE[:STRENGTH] into the weights."""
        self.model.load_lora(*split_lora(self.locate(item)))

    def _settings(self, request: Request, index: int, picture: Picture) -> dict[str, Any]:
        names = {name: picture.arguments[name] for name in ("image", "mask") if name in picture.arguments}
        loras = self._lora(picture)
        more = {"lora": list(loras)} if loras else {}
        return {**self._common(), **names, **more, **request.picture_settings(index)}

    def _common(self) -> dict[str, str]:
        dtype = str(self.model.transformer.dtype).removeprefix("torch.")
        return {"model": self.model.checkpoint.name, "dtype": dtype}


def digest(weights: Iterable[tuple[str, Tensor]]) -> str:
    """Of some numbers of every weight: tells models apart without a look at gigabytes."""
    found = hashlib.sha256()
    for name, weight in weights:
        flat = weight.detach().reshape(-1)
        some = flat[:: max(1, len(flat) // 256)].float().cpu().numpy()
        found.update(f"{name} {tuple(weight.shape)}".encode() + some.tobytes())
    return found.hexdigest()[:32]
