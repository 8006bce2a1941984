"""Less work for nearly the same picture: what 'aMUSEd speed' puts on a MODEL."""

from __future__ import annotations

from typing import Any

import comfy.samplers
import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...amused_core import inputs
from ...amused_core.errors import AmusedError
from ...amused_core.networks.int8 import int8_problem
from ...amused_core.sampling.schedule import places
from . import guards
from .uvit import INT8

# Of a share of the run worked out from a float32 ratio: less than a tenth of the shortest step.
ROUNDING = 1e-4


def faster(model: Any, int8: bool, interval: tuple[float, float], every: int) -> Any:
    """A clone of a MODEL that uses 8-bit products, and guidance only in a part of the run or on some steps.

    Raises:
        AmusedError: another kind of MODEL, an empty interval, or int8 where it cannot work.
    """
    unet = guards.amused_model(model).diffusion_model
    first, end = interval
    if first >= end:
        raise AmusedError(f"guidance_from is {first:g} and guidance_to {end:g}; guidance_to must be the larger one.")
    problem = int8_problem(unet) if int8 else None
    if int8 and problem is None and model.load_device.type != "cpu":
        where = str(model.load_device)
        problem = f"int8 works in fp32 on a CPU only, and ComfyUI runs this model on {where!r}; switch it off."
    if problem is not None:
        raise AmusedError(problem)
    clone = model.clone()
    if int8:
        clone.model_options.setdefault("transformer_options", {})[INT8] = True
    guidance = SparedGuidance(inputs.cfg_interval(interval), every)
    if guidance.spares:
        clone.model_options["sampler_calc_cond_batch_function"] = guidance
        clone.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, "amused_speed", guidance.run)
    return clone


class SparedGuidance:
    """Asks a model without its prompt only where that pays; for `sampler_calc_cond_batch_function`.

    The core's predictor does the same by itself, and only reads the settings.

    Args:
        interval: shares of the whole schedule; steps that begin outside have no guidance.
        every: of this many guided steps the first asks, the others take its difference.
    """

    def __init__(self, interval: tuple[float, float], every: int) -> None:
        self.interval = interval
        self.every = every
        self._begin(torch.ones(1))

    @property
    def spares(self) -> bool:
        """Whether there is anything to leave out."""
        return self.interval != (0.0, 1.0) or self.every > 1

    def weights(self, weights: list[float], ratios: Tensor) -> list[float]:
        """The guidance of each step of a run, 1 where this leaves it out."""
        begins = places(ratios)[:-1].tolist()
        return [weight if self._guides(place) else 1.0 for weight, place in zip(weights, begins, strict=True)]

    def run(
        self, executor: Any, noise: Tensor, latent: Tensor, sampler: Any, sigmas: Tensor, *more: Any, **kw: Any
    ) -> Tensor:
        """Wraps a whole run (`WrappersMP.OUTER_SAMPLE`): it starts with nothing of another, broken off or not."""
        self._begin(sigmas)
        try:
            return executor(noise, latent, sampler, sigmas, *more, **kw)
        finally:
            self._difference = None

    def __call__(self, args: dict[str, Any]) -> list[Tensor]:
        """The predictions for both conditions, as ComfyUI's own function gives them."""
        conds, x = args["conds"], args["input"]
        if len(conds) != 2 or conds[1] is None:
            return self._predict(conds, args)
        done = self._places[(self._sigmas - args["sigma"].max().cpu()).abs().argmin()]
        if not self._guides(float(done)):
            alone = self._predict([conds[0], None], args)[0]
            return [alone, alone]
        fresh = self._guided % self.every == 0 or self._difference is None or self._difference.shape != x.shape
        self._guided += 1
        if not fresh:
            alone = self._predict([conds[0], None], args)[0]
            return [alone, alone - self._difference]
        both = self._predict(conds, args)
        if self.every > 1:
            self._difference = both[0] - both[1]
        return both

    def _guides(self, place: float) -> bool:
        return self.interval[0] - ROUNDING <= place < self.interval[1] - ROUNDING

    def _begin(self, sigmas: Tensor) -> None:
        self._sigmas, self._places = sigmas.cpu(), places(sigmas)
        self._guided = 0
        self._difference: Tensor | None = None

    @staticmethod
    def _predict(conds: list[Any], args: dict[str, Any]) -> list[Tensor]:
        return comfy.samplers.calc_cond_batch(args["model"], conds, args["input"], args["sigma"], args["model_options"])
