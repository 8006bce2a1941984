"""The VQ-GAN of a pipeline, in fp32 for as long as it runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ..networks.vq import VQ


@contextmanager
def running(module: Any, device: torch.device) -> Iterator[VQ]:
    """The VQ of `module`, whose halves become fp32 (fp16 overflows, diffusers#5437) and are put back whatever happens.

    Inputs go to `device`: an offload hook may bring the weights there only when they are called.
    """
    put_back = {torch.float16: module.half, torch.bfloat16: module.bfloat16}.get(module.dtype)
    if put_back:
        module.float()
    try:
        yield VQ(module, device)
    finally:
        if put_back:
            put_back()
