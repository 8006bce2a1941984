"""What other nodes have put on a MODEL: which of it cannot work here, and which is never asked."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from comfy.patcher_extension import WrappersMP

from ....amused_core.errors import AmusedError
from ..origin import node_of

# Node -> why it cannot work on tokens.
REASONS = {
    "EasyCache": "it leaves steps out while an image hardly changes, but a token changes wholly or not at all",
    "LazyCache": "it leaves steps out while an image hardly changes, but a token changes wholly or not at all",
    "SelfAttentionGuidance": "it blurs the image between two steps, and token ids cannot be blurred",
    "TemporalScoreRescaling": "it scales the noise of an image, and tokens have none",
}
INSTEAD = {
    "EasyCache": " and use 'aMUSEd speed' for faster sampling",
    "LazyCache": " and use 'aMUSEd speed' for faster sampling",
    "SelfAttentionGuidance": " and use 'PerturbedAttentionGuidance', which works",
}
# Nodes that compare a number of one picture where a batch has several.
ONE_PICTURE = ("RenormCFG",)
# Nodes whose functions are called and change nothing: a run's mask is whole cells, and its options are not theirs.
NO_EFFECT = (
    "ChromaRadianceOptions",
    "DifferentialDiffusion",
    "LTXVModalityGuidance",
    "LTXVSpatioTemporalGuidance",
)
logger = logging.getLogger(__name__)


def check(options: dict[str, Any], batch: int) -> None:
    """Looks at a run's model options; logs a line for what has no effect.

    Args:
        options: of the guider.
        batch: number of pictures.

    Raises:
        AmusedError: a node that cannot work here.
    """
    own = options.get("transformer_options", {})
    names = nodes(options)
    if cache := getattr(own.get("easycache"), "name", None):  # Its functions do not say whose of two nodes they are.
        names.append(cache)
    for name in names:
        if name in REASONS:
            advice = f"Remove it{INSTEAD.get(name, '')}."
            raise AmusedError(f"The node {name!r} cannot work on an aMUSEd model: {REASONS[name]}. {advice}")
        if name in ONE_PICTURE and batch > 1:
            raise AmusedError(f"The node {name!r} works on one image at a time, and this batch has {batch}.")
    unused = [*nodes(_never_asked(own)), *(name for name in names if name in NO_EFFECT)]
    if "rope_options" in own:
        unused.append("ScaleROPE")
    if unused:
        logger.warning("aMUSEd: these have no effect on an aMUSEd model: %s", ", ".join(unused))


def nodes(value: Any) -> list[str]:
    """The names of the nodes whose functions are in a nest of dicts and lists, without ours and ComfyUI's own."""
    names = dict.fromkeys(filter(None, map(node_of, _functions(value))))
    return list(names)


def changed_tokens(sampler: Any, options: dict[str, Any]) -> str:
    """The sentence for a run in which the model received something other than tokens.

    Args:
        sampler: the function that sampled, or the object; ours gives tokens.
        options: the run's model options.
    """
    suspects = ", ".join(map(repr, nodes(options)))
    if node_of(sampler) is None:
        return (
            "A node changed the tokens on their way to this aMUSEd model, and token ids cannot be changed so; remove "
            f"{suspects or 'that node'}."
        )
    also = f" Another cause may be {suspects}." if suspects else ""
    return wrong_sampler(getattr(sampler, "__name__", type(sampler).__name__)) + also


def spoilt_guidance(guider: Any, options: dict[str, Any]) -> str:
    """The sentence for a run in which logits were finite before guidance, and are not after it."""
    makers = ", ".join(map(repr, (type(guider).__name__, *nodes(options))))
    return (
        f"The guidance of {makers} turns the model's logits into NaN or infinity; change its prompts or "
        "settings ('PerpNegGuider' needs a positive prompt that differs from the empty one)."
    )


def wrong_sampler(name: str) -> str:
    """The sentence for a sampler that cannot run aMUSEd."""
    return f"The sampler {name!r} cannot run an aMUSEd model; choose the sampler 'amused', or use 'aMUSEd sampler'."


def _never_asked(options: dict[str, Any]) -> list[Any]:
    """What our U-ViT does not ask, of the transformer options: it knows `patches_replace` only (see `uvit`)."""
    wrappers = options.get("wrappers", {}).get(WrappersMP.DIFFUSION_MODEL, {})
    return [options.get("patches", {}), wrappers]


def _functions(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from _functions(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _functions(inner)
    elif callable(value) and not isinstance(value, type):
        yield value
