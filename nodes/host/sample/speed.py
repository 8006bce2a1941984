"""Less work for nearly the same picture: what 'aMUSEd speed' puts on a MODEL."""

from __future__ import annotations

import logging
from typing import Any

import comfy.samplers
import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ....amused_core.errors import AmusedError
from ....amused_core.networks.int8 import int8_problem
from ....amused_core.sampling.guidance import limit_guidance
from ....amused_core.sampling.schedule import Schedule
from ....amused_core.settings import check_settings
from .. import guards
from ..model.transformer import INT8

logger = logging.getLogger(__name__)

# Where the options of a MODEL hold its `GuidanceLimit`; ComfyUI's guidance asks this function for both predictions.
LIMIT = "sampler_calc_cond_batch_function"


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
    guidance = GuidanceLimit(**check_settings({"cfg_interval": interval, "cfg_every": every}, 0))
    if guidance.active:
        clone.model_options[LIMIT] = guidance
        clone.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, "amused_speed", guidance.run)
    return clone


class GuidanceLimit:
    """Guidance in a part of the run, or in some steps; for `LIMIT` on the stock path.

    The core's predictor, on the fast path, does the same by itself and only reads the settings.

    Args:
        cfg_interval: shares of the whole schedule; steps that begin outside have no guidance.
        cfg_every: of this many guided steps the first runs the negative prompt, the others take its difference.
    """

    def __init__(self, cfg_interval: tuple[float, float], cfg_every: int) -> None:
        self.cfg_interval = cfg_interval
        self.cfg_every = cfg_every
        self._begin(torch.ones(1))

    def __deepcopy__(self, memo: dict[int, Any]) -> GuidanceLimit:
        """Itself: clones of a MODEL copy their options, but not the wrapper `run`, which belongs to this object."""
        return self

    @property
    def active(self) -> bool:
        """Whether there is anything to leave out."""
        return self.cfg_interval != (0.0, 1.0) or self.cfg_every > 1

    def weights(self, weights: list[float], schedule: Schedule) -> list[float]:
        """The guidance of each step of a run, 1 where this leaves it out."""
        return limit_guidance(weights, schedule, self.cfg_interval)

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
        self._asked = True
        conds, x = args["conds"], args["input"]
        if len(conds) != 2 or conds[1] is None:
            return self._predict(conds, args)
        index = int((self._sigmas - args["sigma"].max().cpu()).abs().argmin())
        if not self._guided[index]:
            cond = self._predict([conds[0], None], args)[0]
            return [cond, cond]
        fresh = self._count % self.cfg_every == 0 or self._difference is None or self._difference.shape != x.shape
        self._count += 1
        if not fresh:
            cond = self._predict([conds[0], None], args)[0]
            return [cond, cond - self._difference]
        both = self._predict(conds, args)
        if self.cfg_every > 1:
            self._difference = both[0] - both[1]
        return both

    def warn_unless_asked(self, guider: Any) -> None:
        """Logs a line if a step is over and the guider has asked the model by itself."""
        limited = self.cfg_every > 1 or not all(self._guided)
        if limited and not self._asked:
            name = type(guider).__name__
            logger.warning(
                "aMUSEd: 'aMUSEd speed' leaves out no guidance of the guider %s, which guides by itself.", name
            )

    def _begin(self, sigmas: Tensor) -> None:
        self._sigmas = sigmas.cpu()[: max(len(sigmas) - 1, 1)]
        schedule = Schedule.from_ratios(sigmas) if len(sigmas) > 1 else Schedule.named("cosine", 1)
        # Any weight but 1 tells the guided steps from the others.
        self._guided = [weight != 1 for weight in self.weights([2.0] * len(schedule), schedule)]
        self._count = 0
        self._asked = False
        self._difference: Tensor | None = None

    @staticmethod
    def _predict(conds: list[Any], args: dict[str, Any]) -> list[Tensor]:
        return comfy.samplers.calc_cond_batch(args["model"], conds, args["input"], args["sigma"], args["model_options"])
