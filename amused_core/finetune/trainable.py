"""What is trained: the U-ViT and, optionally, the text encoder as one module; and the captions that go into it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..networks.text import Text, TextEmbedding, embed
from ..networks.uvit import UVit
from .adapters import add_lora
from .settings import TrainingSettings

CaptionEncoder = Callable[[Sequence[str]], tuple[Tensor, ...]]
_CHECKPOINTED = ("res_blocks", "attention_blocks", "transformer_layers")


class TrainableModel(nn.Module):
    """The networks behind one `forward`, so that one wrapper (several devices, half precision) holds both.

    Args:
        transformer: the U-ViT.
        text_encoder: transformers' CLIP text model with projection; None where captions come embedded.
    """

    def __init__(self, transformer: UVit, text_encoder: nn.Module | None = None) -> None:
        super().__init__()
        self.transformer = transformer
        self.text_encoder = text_encoder

    def forward(self, tokens: Tensor, micro: Tensor, text: tuple[Tensor, ...]) -> Tensor:
        """Logits [B,K,h,w]; `text` is what the `CaptionEncoder` of this model gives for the captions."""
        hidden, pooled = text if self.text_encoder is None else embed(self.text_encoder, text[0])
        dtype = self.transformer.encoder_proj.weight.dtype
        return self.transformer(tokens, hidden.to(dtype), pooled.to(dtype), micro)


class EmbeddedCaptions:
    """A `CaptionEncoder` of captions that were embedded once.

    Embeddings of several lengths are repeated to a common one, which attention does not notice: it weighs the same
    keys several times.
    """

    def __init__(self, table: Mapping[str, TextEmbedding]) -> None:
        length = math.lcm(*(entry.hidden.shape[1] for entry in table.values()))
        self.table = {
            caption: (entry.hidden.repeat(1, length // entry.hidden.shape[1], 1), entry.pooled)
            for caption, entry in table.items()
        }

    def __call__(self, captions: Sequence[str]) -> tuple[Tensor, ...]:
        """Hidden states [B,L,D] and pooled [B,P]."""
        hidden, pooled = zip(*(self.table[caption] for caption in captions), strict=True)
        return torch.cat(hidden), torch.cat(pooled)


def embed_captions(text: Text, captions: Sequence[str]) -> EmbeddedCaptions:
    """Embeds each caption, and the empty one, by itself."""
    return EmbeddedCaptions({caption: text.encode([caption]) for caption in {*captions, ""}})


def tokenizer_of(text: Text) -> CaptionEncoder:
    """Captions as token ids, for a text encoder that is trained."""
    return lambda captions: (text.ids(captions),)


def make_trainable(
    transformer: UVit, text: Text | None, settings: TrainingSettings, generator: torch.Generator
) -> TrainableModel:
    """Prepares the networks: what is trained is fp32 and has gradients, all else is frozen.

    Modules stay in eval mode: there is no dropout, which would take its chance from torch's global generator.
    """
    encoder = text.module if text is not None and settings.text_encoder else None
    model = TrainableModel(transformer, encoder).eval()
    frozen = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(settings.precision, torch.float32)
    for module, targets in ((transformer, settings.targets), (encoder, settings.text_targets)):
        if module is None:
            continue
        module.to(frozen if settings.kind == "lora" else torch.float32)
        if settings.kind == "lora":
            add_lora(module, settings.rank, settings.alpha, targets, generator)
        else:
            for parameter in module.parameters():
                parameter.data = parameter.data.clone()  # it may still be a file mapped into memory
            module.requires_grad_(True)
    if settings.gradient_checkpointing:
        checkpoint_layers(transformer)
    return model


def checkpoint_layers(transformer: nn.Module) -> None:
    """Makes every block of the U-ViT drop its activations and compute them again in the backward pass."""
    for name, part in transformer.named_modules():
        if name.rpartition(".")[2] in _CHECKPOINTED:
            for layer in part:
                layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
