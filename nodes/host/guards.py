"""One clear sentence for every wrong connection."""

from __future__ import annotations

from typing import Any

from ...amused_core.errors import AmusedError
from .latent.vae import AmusedVAE
from .model.base_model import AmusedBaseModel
from .model.model_sampling import AmusedModelSampling
from .origin import is_comfyui
from .text.clip import AmusedClipModel


def amused_model(model: Any) -> AmusedBaseModel:
    """The aMUSEd model inside a MODEL.

    Raises:
        AmusedError: the MODEL is of another kind.
    """
    inner = getattr(model, "model", None)
    if isinstance(inner, AmusedBaseModel):
        return inner
    raise AmusedError(f"This MODEL is a {type(inner).__name__}, not aMUSEd; connect the MODEL of 'Load aMUSEd'.")


def amused_vae(vae: Any) -> Any:
    """`vae` itself.

    Raises:
        AmusedError: it is not the VAE of 'Load aMUSEd'.
    """
    if isinstance(vae, AmusedVAE):
        return vae
    raise AmusedError("This VAE is of another model; connect the VAE of 'Load aMUSEd'.")


def matching_vae(vae: Any, model: Any) -> Any:
    """`vae` itself.

    Raises:
        AmusedError: it is not the VAE of an aMUSEd model with tokens like those of MODEL.
    """
    vae, info = amused_vae(vae), amused_model(model).info
    if (vae.codebook_size, vae.downscale_ratio) != (info.codebook_size, info.factor):
        raise AmusedError(
            f"This VAE has {vae.codebook_size} tokens of {vae.downscale_ratio} pixels and the MODEL "
            f"{info.codebook_size} of {info.factor}; connect those of the same 'Load aMUSEd'."
        )
    return vae


def amused_clip(clip: Any) -> Any:
    """`clip` itself.

    Raises:
        AmusedError: it is not the CLIP of 'Load aMUSEd'.
    """
    if isinstance(getattr(clip, "cond_stage_model", None), AmusedClipModel):
        return clip
    raise AmusedError("This CLIP is of another model; connect the CLIP of 'Load aMUSEd'.")


def sampled_model(wrapped: Any) -> AmusedBaseModel:
    """The aMUSEd model that a sampler function was given, under any number of wrappers.

    Raises:
        AmusedError: it is another model, or its sampling was replaced by another node.
    """
    inner = wrapped
    while not isinstance(inner, AmusedBaseModel) and hasattr(inner, "inner_model"):
        inner = inner.inner_model
    if not isinstance(inner, AmusedBaseModel):
        raise AmusedError(
            f"The sampler 'amused' works on aMUSEd models only, and this MODEL is a {type(inner).__name__}; "
            "choose another sampler, or connect the MODEL of 'Load aMUSEd'."
        )
    if not isinstance(inner.model_sampling, AmusedModelSampling):
        raise AmusedError(
            f"The node {sampling_node(inner.model_sampling)!r} replaces the sampling of this aMUSEd "
            "MODEL. Remove it from the graph."
        )
    return inner


def sampling_node(model_sampling: Any) -> str | None:
    """The node that put a `model_sampling` on a MODEL, such as "ModelSamplingSD3"; None for a model's own."""
    kind = type(model_sampling)
    node, _, rest = kind.__qualname__.partition(".")
    if not rest or is_comfyui(kind):
        return None
    # One node's class inherits from the other's.
    auraflow = node == "ModelSamplingSD3" and getattr(model_sampling, "multiplier", None) == 1
    return "ModelSamplingAuraFlow" if auraflow else node
