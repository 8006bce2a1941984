"""The core's U-ViT with the places where ComfyUI's nodes may patch it."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ...amused_core.errors import AmusedError
from ...amused_core.insight.attention import TEXT
from ...amused_core.networks.int8 import int8_twin
from ...amused_core.networks.uvit import Condition, UVit
from ...amused_core.networks.weights import weights_version
from .attention import attention

# Where a MODEL's transformer options hold what wants to see all attention: `(q, k, heads, options)`.
WATCH = "amused_watch"
# And whether 8-bit products are wanted.
INT8 = "amused_int8"


class HostUVit(UVit):
    """Honours `patches_replace`: "dit" for whole trunk layers, "attn1" (self) and "attn2" (text) for their attention.

    Layers are known by two names. As a list: ("double_block", i), or ("single_block", i). As a U with its centre in the
    middle of the trunk, for nodes made for UNets: ("input", i), ("middle", 0), ("output", i).
    """

    def forward(
        self,
        tokens: Tensor,
        text: Tensor,
        pooled: Tensor,
        micro: Tensor,
        options: dict[str, Any] | None = None,
        given: Condition | None = None,
    ) -> Tensor:
        """See `UVit.forward`; `given` is what `condition` of the chosen U-ViT made of text, pooled and micro."""
        uvit = self.chosen(options)
        given = uvit.condition(text, pooled, micro) if given is None else given
        return uvit.mlm_layer(uvit.grid(tokens, given, options))

    def chosen(self, options: dict[str, Any] | None) -> HostUVit:
        """This U-ViT, or its twin with 8-bit products where `options` ask for it."""
        return self._int8() if options and options.get(INT8) else self

    def _int8(self) -> HostUVit:
        """The twin with 8-bit products of the weights as they are now.

        Raises:
            AmusedError: some weights are elsewhere, or patched only when they are used.
        """
        if any(getattr(module, "comfy_cast_weights", False) for module in self.modules()):
            raise AmusedError("int8 needs the whole model in memory in fp32; take 'aMUSEd speed' out, or its int8.")
        return int8_twin(self, weights_version(self))

    def run_layer(
        self, index: int, layer: nn.Module, hidden: Tensor, given: Condition, options: dict[str, Any]
    ) -> Tensor:
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


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int, name: str, options: dict[str, Any]) -> Tensor:
    """ComfyUI's attention, or the patch a node put in its place; see `amused_core.attention.Attend`.

    Outside the trunk `options` has no block: both attentions there look at the text, so no patch would fit.
    """
    if name == TEXT and WATCH in options:
        options[WATCH](q, k, heads, options)
    patches = options.get("patches_replace", {}).get(name, {})
    patch = patches.get(options.get("block"))
    if patch is None:
        return attention(q, k, v, heads, options)
    return patch(q, k, v, {**options, "n_heads": heads, "dim_head": q.shape[-1] // heads, "attn_precision": None})
