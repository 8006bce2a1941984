"""The gradients of one step: the networks, a batch, and the loss on it with its auxiliary losses."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .objective import masked_loss
from .probe import ThingProbe
from .text_encoder import PaddingLoss

_READING_WEIGHT, _PROBE_WEIGHT = 0.2, 0.3


class Batch(NamedTuple):
    """Caption ids `[B, L]`, micro-conditioning `[B, 5]`, masked and right tokens `[B, h, w]`, `ordered_things`, and
    `things_in_cells`."""

    ids: Tensor
    micro: Tensor
    masked: Tensor
    target: Tensor
    order: Tensor
    things: Tensor

    def split(self, parts: int) -> list[Batch]:
        """The batch in `parts` pieces."""
        return [Batch(*pieces) for pieces in zip(*(tensor.chunk(parts) for tensor in self), strict=True)]


class Networks(NamedTuple):
    """What is trained; `probe` only where a run has one."""

    transformer: nn.Module
    text_encoder: nn.Module
    probe: ThingProbe | None = None

    def modules(self) -> list[nn.Module]:
        """Those that there are."""
        return [module for module in self if module is not None]

    def gradients(self) -> list[Tensor]:
        """Of all parameters that have one."""
        return [p.grad for module in self.modules() for p in module.parameters() if p.grad is not None]


@dataclass(frozen=True)
class Objective:
    """The loss on a batch: weights of the codes `[K]`, the padding's target and the id that pads, and the precision."""

    weights: Tensor
    padding_loss: PaddingLoss | None
    end: int
    bf16: bool

    def backward(self, networks: Networks, batch: Batch) -> tuple[float, float, list[float]]:
        """Fresh gradients of the networks on one batch; text goes in as aMUSEd's pipeline puts it in.

        Returns the loss, the accuracy, and the loss of every picture.
        """
        transformer, text, probe = networks
        for module in networks.modules():
            module.zero_grad(set_to_none=True)
        watched = probe.watch(transformer) if probe else nullcontext([])
        with watched as outputs, torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            output = text(batch.ids, output_hidden_states=True)
            hidden = output.hidden_states[-2]
            logits = transformer(batch.masked, hidden, output.text_embeds, batch.micro)
        loss, each, accuracy = masked_loss(logits, batch.target, batch.masked != batch.target, self.weights)
        reading = self.padding_loss(hidden, batch.ids, self.end, batch.order)[0] if self.padding_loss else 0.0
        naming = probe(outputs, batch.things) if probe else 0.0
        (loss + _READING_WEIGHT * reading + _PROBE_WEIGHT * naming).backward()
        return float(loss.detach()), accuracy, each.tolist()
