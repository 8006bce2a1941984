"""A family's transformer with the places where ComfyUI's nodes may patch it."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from ....amused_core.errors import AmusedError
from ....amused_core.families import Family
from ....amused_core.networks.int8 import quantized_copy
from .attention import attention

# Where a MODEL's transformer options ask for 8-bit products.
INT8 = "amused_int8"
# And where our sampler says where the run is.
PROGRESS = "amused_progress"


class HostTransformer:
    """Honours `patches_replace`: "dit" for whole trunk layers, "attn1" (self) and "attn2" (text) for their attention.

    Layers are known by two names. As a list: ("double_block", i), or ("single_block", i). As a U with its centre in the
    middle of the trunk, for nodes made for UNets: ("input", i), ("middle", 0), ("output", i).
    """

    # ComfyUI computes in another dtype than the weights' where it casts them, and reads this.
    dtype: torch.dtype | None = None

    @property
    def in_channels(self) -> int:
        """Of the one-hot grids, for nodes made for models of channels, such as 'RenormCFG'."""
        return self.config.codebook_size

    def forward(
        self,
        tokens: Tensor,
        text: Tensor,
        pooled: Tensor,
        micro: Tensor,
        options: dict[str, Any] | None = None,
        condition: Any = None,
    ) -> Tensor:
        """Logits [B,K,h,w] of every cell; `condition` is what the selected transformer made of the prompt."""
        transformer, options = self.select(options), options or {}
        condition = transformer.condition(text, pooled, micro) if condition is None else condition
        features = transformer.features(tokens, condition, options.get(PROGRESS), options)
        return transformer.logits(features.flatten(0, 2)).view(*features.shape[:3], -1).movedim(-1, 1)

    def select(self, options: dict[str, Any] | None) -> HostTransformer:
        """This transformer, or its quantized copy where `options` ask for it."""
        return self._int8() if options and options.get(INT8) else self

    def _int8(self) -> HostTransformer:
        """The copy with 8-bit products of the weights as they are now.

        Raises:
            AmusedError: some weights are elsewhere, or patched only when they are used.
        """
        if any(getattr(module, "comfy_cast_weights", False) for module in self.modules()):
            raise AmusedError("int8 needs the whole model in memory in fp32; remove 'aMUSEd speed' or its int8.")
        return quantized_copy(self)

    def may_repeat(self, options: dict[str, Any]) -> bool:
        """See `UVit.may_repeat`; a patch gets every cell."""
        return not options.get("patches_replace") and super().may_repeat(options)

    def run_layer(self, index: int, layer: nn.Module, hidden: Tensor, given: Any, options: dict[str, Any]) -> Tensor:
        """See `UVit.run_layer`."""
        options = {**options, "block": self._place(index)}
        patches = options.get("patches_replace", {}).get("dit", {})
        patch = patches.get(("double_block", index)) or patches.get(("single_block", index))

        def original(args: dict[str, Any]) -> dict[str, Any]:
            own = args["txt"] is given.text and args["vec"] is given.vector
            condition = given.layers[index] if own else layer.condition(args["txt"], args["vec"])
            return {**args, "img": layer(args["img"], condition, self.attend, options)}

        args = {"img": hidden, "txt": given.text, "vec": given.vector, "transformer_options": options}
        return (original(args) if patch is None else patch(args, {"original_block": original}))["img"]

    def _place(self, index: int) -> tuple[str, int]:
        middle = self.config.num_hidden_layers // 2
        if index == middle:
            return ("middle", 0)
        return ("input", index) if index < middle else ("output", index - middle - 1)


@cache
def host_transformer(family: Family) -> type[Any]:
    """The transformer class of a family that ComfyUI runs."""
    return type(f"Host{family.transformer.__name__}", (HostTransformer, family.transformer), {})


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int, name: str, options: dict[str, Any]) -> Tensor:
    """ComfyUI's attention, or the patch a node put in its place; see the core's `Attend`.

    Outside the trunk `options` has no block: both attentions there look at the text, so no patch would fit.
    """
    patches, block = options.get("patches_replace", {}).get(name, {}), options.get("block", ())
    patch = patches.get((*block, 0), patches.get(block))  # A UNet's block may hold several; the first is meant.
    if patch is None:
        return attention(q, k, v, heads, options)
    return patch(q, k, v, {**options, "n_heads": heads, "dim_head": q.shape[-1] // heads, "attn_precision": None})
