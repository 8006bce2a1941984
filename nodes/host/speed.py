"""Less work for nearly the same picture: what 'aMUSEd speed' puts on a MODEL."""

from __future__ import annotations

from typing import Any

import comfy.samplers
from torch import Tensor

from ...amused_core import inputs
from ...amused_core.errors import AmusedError
from ...amused_core.int8 import int8_problem
from . import guards
from .uvit import INT8


def faster(model: Any, int8: bool, interval: tuple[float, float], every: int) -> Any:
    """A clone of a MODEL that uses 8-bit products, and guidance only in a part of the run or on some steps.

    Raises:
        AmusedError: another kind of MODEL, an empty interval, or int8 where it cannot work.
    """
    unet = guards.amused_model(model).diffusion_model
    problem = int8_problem(unet) if int8 else None
    if problem is not None:
        raise AmusedError(problem)
    clone = model.clone()
    if int8:
        clone.model_options.setdefault("transformer_options", {})[INT8] = True
    guidance = SparedGuidance(inputs.cfg_interval(interval), every)
    if guidance.spares:
        clone.model_options["sampler_calc_cond_batch_function"] = guidance
    return clone


class SparedGuidance:
    """Asks a model without its prompt only where that pays; for `sampler_calc_cond_batch_function`.

    Args:
        interval: shares of the run; steps that begin outside have no guidance.
        every: of this many guided steps the first asks, the others take its difference.
    """

    def __init__(self, interval: tuple[float, float], every: int) -> None:
        self.interval = interval
        self.every = every
        self._run: Any = None
        self._sigma, self._guided = 0.0, 0
        self._difference: Tensor | None = None

    @property
    def spares(self) -> bool:
        """Whether there is anything to leave out."""
        return self.interval != (0.0, 1.0) or self.every > 1

    def __call__(self, args: dict[str, Any]) -> list[Tensor]:
        """The predictions for both conditions, as ComfyUI's own function gives them."""
        conds, x, sigma = args["conds"], args["input"], args["sigma"]
        if len(conds) != 2 or conds[1] is None:
            return self._predict(conds, args)
        now = float(sigma.max())
        if now >= self._sigma or args["model_options"] is not self._run:  # Ratios fall within a run.
            self._guided, self._difference = 0, None
        self._sigma, self._run = now, args["model_options"]
        done = args["model"].model_sampling.done(now)
        if not self.interval[0] - 1e-6 <= done < self.interval[1] - 1e-6:
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

    @staticmethod
    def _predict(conds: list[Any], args: dict[str, Any]) -> list[Tensor]:
        return comfy.samplers.calc_cond_batch(args["model"], conds, args["input"], args["sigma"], args["model_options"])
