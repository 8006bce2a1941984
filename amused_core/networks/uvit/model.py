"""The U-ViT: logits over the codebook for every cell of a partly masked token grid."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...sampling.schedule import Progress
from ..attention import Attend, sdpa
from ..layers import TORCH_LAYERS, Layers
from ..transformer import ONE_TOKEN
from .config import UVitConfig
from .ends import LogitsHead, PairCondition, TokenEmbed, UVitBlock
from .repeats import REPEATS, Repeats, find_repeats
from .trunk import LayerCondition, TransformerLayer, sinusoid

# The layers that run once a run, besides those that make keys and values of the text.
_ONCE = frozenset({"encoder_proj", "cond_embed", "cond_embeds_mapper", "kv_mapper", "linear"})


class Condition(NamedTuple):
    """What the U-ViT takes from a text and its micro-conditioning: constant over a run, so worked out once.

    `text` [B,L,H] and `vector` [B,H] are what the parts were made from.
    """

    text: Tensor
    vector: Tensor
    down: tuple[PairCondition, ...]
    layers: tuple[LayerCondition, ...]
    up: tuple[PairCondition, ...]


class CondEmbed(nn.Module):
    """Pooled text and micro-conditioning to one vector (diffusers' `TimestepEmbedding`)."""

    def __init__(self, config: UVitConfig, layers: Layers, **kw: Any) -> None:
        super().__init__()
        dim, bias = config.hidden_size, config.use_bias
        self.linear_1 = layers.Linear(config.micro_cond_embed_dim + config.cond_embed_dim, dim, bias=bias, **kw)
        self.linear_2 = layers.Linear(dim, dim, bias=bias, **kw)

    def forward(self, x: Tensor) -> Tensor:
        """`x` [B, P + 5*micro_cond_encode_dim] -> [B,H]."""
        return self.linear_2(F.silu(self.linear_1(x)))


class UVit(nn.Module):
    """The masked-image transformer of aMUSEd; state-dict keys and logits are those of diffusers' `UVit2DModel`.

    Args:
        config: the sizes.
        layers: classes for every layer that holds weights, so that a host can offload or cast them.
        attend: the attention function; may be replaced at any time through the attribute of that name.
        device, dtype: where and in what the weights are created ("meta" for weights that are assigned later).
    """

    def __init__(
        self,
        config: UVitConfig,
        layers: Layers = TORCH_LAYERS,
        attend: Attend = sdpa,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        kw: dict[str, Any] = {"device": device, "dtype": dtype}
        dim, channels, bias = config.hidden_size, config.block_out_channels, config.use_bias
        eps, affine = config.layer_norm_eps, config.ln_elementwise_affine
        self.config = config
        self.attend = attend
        self.encoder_proj = layers.Linear(config.encoder_hidden_size, dim, bias=bias, **kw)
        self.encoder_proj_layer_norm = layers.RMSNorm(dim, eps, affine, **kw)
        self.embed = TokenEmbed(config, layers, **kw)
        self.cond_embed = CondEmbed(config, layers, **kw)
        self.down_block = UVitBlock(config, layers, down=config.downsample, **kw)
        self.project_to_hidden_norm = layers.RMSNorm(channels, eps, affine, **kw)
        self.project_to_hidden = layers.Linear(channels, dim, bias=bias, **kw)
        self.transformer_layers = nn.ModuleList(
            [TransformerLayer(config, layers, **kw) for _ in range(config.num_hidden_layers)]
        )
        self.project_from_hidden_norm = layers.RMSNorm(dim, eps, affine, **kw)
        self.project_from_hidden = layers.Linear(dim, channels, bias=bias, **kw)
        self.up_block = UVitBlock(config, layers, up=config.upsample, **kw)
        self.mlm_layer = LogitsHead(config, layers, **kw)

    def forward(
        self, tokens: Tensor, text: Tensor, pooled: Tensor, micro: Tensor, options: dict[str, Any] | None = None
    ) -> Tensor:
        """Predicts every cell from the known tokens and the text.

        Args:
            tokens: int64 [B,h,w], ids below `vocab_size`; masked cells hold the mask token.
            text: penultimate hidden states of the text encoder, [B,L,encoder_hidden_size], in the compute dtype.
            pooled: projected text embedding, [B,cond_embed_dim].
            micro: [B,5] = width, height (pixels), crop top, crop left, aesthetic score (SDXL's micro-conditioning).
            options: passed on untouched to `run_layer` and to the attention function.

        Returns:
            Logits [B,K,h,w]; K = codebook_size.
        """
        return self.mlm_layer(self.grid(tokens, self.condition(text, pooled, micro), options))

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return self.encoder_proj.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in."""
        return self.encoder_proj.weight.dtype

    def condition(self, text: Tensor, pooled: Tensor, micro: Tensor) -> Condition:
        """The part of `forward` that does not depend on the tokens."""
        text = self.encoder_proj_layer_norm(self.encoder_proj(text))
        vector = self._vector(pooled, micro, text)
        return Condition(
            text,
            vector,
            self.down_block.condition(text, vector),
            tuple(layer.condition(text, vector) for layer in self.transformer_layers),
            self.up_block.condition(text, vector),
        )

    def grid(self, tokens: Tensor, given: Condition, options: dict[str, Any] | None = None) -> Tensor:
        """`tokens` int64 [B,h,w] -> what `mlm_layer` makes logits from, [B,C,h,w]."""
        options = {} if options is None else options
        repeats, computed, inner = self._repeats(tokens, options), tokens, options
        if repeats is not None:
            height, width = (self._step * side for side in repeats.sides)
            computed, inner = tokens[:, :height, :width], {**options, REPEATS: repeats}
        x = self.down_block(self.embed(computed, given.text), given.down, self.attend, inner)
        hidden = self.project_to_hidden(self.project_to_hidden_norm(x.flatten(2).transpose(1, 2)))
        for index, layer in enumerate(self.transformer_layers):
            hidden = self.run_layer(index, layer, hidden, given, inner)
        x = self.project_from_hidden(self.project_from_hidden_norm(hidden))
        x = x if repeats is None else repeats.spread(x)
        x = self.up_block(x.transpose(1, 2).unflatten(2, self._trunk_sides(tokens)), given.up, self.attend, options)
        return x[..., : tokens.shape[-2], : tokens.shape[-1]]

    def features(
        self,
        tokens: Tensor,
        condition: Condition,
        progress: Progress | None = None,
        options: dict[str, Any] | None = None,
    ) -> Tensor:
        """See `Transformer.features`; aMUSEd's does not look at the progress."""
        return self.mlm_layer.features(self.grid(tokens, condition, options))

    def logits(self, features: Tensor) -> Tensor:
        """See `Transformer.logits`."""
        return self.mlm_layer.logits(features[None, :, None])[0, :, :, 0].T

    def runs_once(self, name: str) -> bool:
        """See `Transformer.runs_once`: what `condition` runs, keys and values of the text among it."""
        if not _ONCE.isdisjoint(name.split(".")) or name.endswith(("attn2.to_k", "attn2.to_v")):
            return True
        return "attention_blocks" in name and name.endswith(("to_k", "to_v"))

    def row_bytes(self, tokens: Tensor) -> int:
        """The largest activation that a row of `tokens` [B,h,w] has on its way through `grid`."""
        config, cells = self.config, math.prod(self._trunk_sides(tokens))
        widest = max(2 * config.intermediate_size, 4 * config.block_out_channels)
        return cells * widest * self.encoder_proj.weight.itemsize

    def may_repeat(self, options: dict[str, Any]) -> bool:
        """Whether a grid of one token may be computed from a few cells; hosts override it."""
        return True

    def run_layer(
        self, index: int, layer: TransformerLayer, hidden: Tensor, given: Condition, options: dict[str, Any]
    ) -> Tensor:
        """Runs trunk layer `index`; hosts override it to patch layers. `hidden` [B,N,H] -> [B,N,H]."""
        return layer(hidden, given.layers[index], self.attend, options)

    @property
    def _step(self) -> int:
        """Cells of the grid for one of the trunk's, along a side."""
        return 2 if self.config.downsample else 1

    def _trunk_sides(self, tokens: Tensor) -> tuple[int, int]:
        """Height and width of the trunk's grid."""
        height, width = (-(-side // self._step) for side in tokens.shape[1:])
        return height, width

    def _repeats(self, tokens: Tensor, options: dict[str, Any]) -> Repeats | None:
        """What the grid repeats; None: it is not known to be one token, or every cell is wanted."""
        padded = any(side % self._step for side in tokens.shape[1:])  # Which tells cells apart, too.
        if padded or not options.get(ONE_TOKEN) or not self.may_repeat(options):
            return None
        return find_repeats(*self._trunk_sides(tokens), self.config.num_res_blocks, tokens.device)

    def _vector(self, pooled: Tensor, micro: Tensor, text: Tensor) -> Tensor:
        """The condition vector [B,H] after the SiLU that every user of it applies."""
        embedded = sinusoid(micro, self.config.micro_cond_encode_dim)
        cond = self.cond_embed(torch.cat([pooled.float(), embedded], dim=1).to(text.dtype))
        return F.silu(cond)
