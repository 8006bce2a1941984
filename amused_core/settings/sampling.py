"""Every sampling setting, once: its name, default, range and help. All that shows or takes settings derives from here.

The command's options, the sweeps of `amused eval`, the nodes' widgets, the settings that a checkpoint recommends and
those in a picture's metadata are the fields of `SamplingSettings`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from ..errors import AmusedError, quoted
from ..sampling.guidance import CFG_SCHEDULES
from ..sampling.rules import BOUND, RULES
from ..sampling.schedule import MAX_STEPS, SCHEDULES
from .values import Choice, Interval, Number, NumberPair, Switch, Value, Whole


def _setting(default: Any, value: Value, help: str) -> Any:
    return field(default=default, metadata={"value": value, "help": help})


@dataclass(frozen=True)
class SamplingSettings:
    """How a run samples. The defaults are neutral; a checkpoint recommends its own, which `None` stands for.

    A new setting is a field here and the code that uses it.
    """

    steps: int = _setting(
        12,
        Whole(1, MAX_STEPS),
        "Steps of the whole schedule; a strength (denoise) of 0.5 runs the last half of them. "
        "aMUSEd was designed for 12.",
    )
    cfg: float = _setting(
        4.0, Number(0, 100), "Guidance scale: how closely the image follows the prompt; 1 or less turns guidance off."
    )
    temperature: tuple[float, float] = _setting(
        (2.0, 0.0),
        NumberPair(0, 100, second=0.01),
        "Temperature of the choice of tokens to keep, at the first and the last step: high values "
        "add variety, 0 always keeps the most confident tokens.",
    )
    schedule: str = _setting(
        "cosine",
        Choice(tuple(SCHEDULES)),
        "The mask schedule sets how fast tokens are unmasked. cosine: few at first; linear: equally many in each step.",
    )
    cfg_schedule: str = _setting(
        "constant",
        Choice(CFG_SCHEDULES),
        "Guidance over the run. constant: cfg in every step; ramp: none at first, rising linearly "
        "to cfg; interval: cfg in a part of the run, none in the rest.",
    )
    cfg_interval: tuple[float, float] = _setting(
        (0.0, 1.0),
        Interval(),
        "Part of the run with guidance, as fractions of the whole schedule; only with cfg_schedule interval.",
    )
    sampling_temperature: float = _setting(
        1.0,
        Number(0.01, 10),
        "Temperature of the code probabilities: values below 1 are more conservative, values above 1 more varied.",
    )
    top_k: int = _setting(0, Whole(0, None), "Sample each token from this many most probable codes; 0: from all codes.")
    top_p: float = _setting(
        1.0,
        Number(0, 1, above=True),
        "Sample each token from the most probable codes whose probabilities add up to this value; 1: from all codes.",
    )
    int8: bool = _setting(
        False,
        Switch(),
        "8-bit matrix products: faster with the large models, not with the small one; slightly different tokens. "
        "On a CPU with fp32 only.",
    )
    order: str = _setting(
        "confidence",
        Choice(tuple(RULES)),
        "Unmasking rule: which tokens are unmasked first. confidence: the most confident, as in "
        "diffusers; halton: those far apart; entropy: those with the lowest entropy, in fewer steps "
        "where they can be unmasked together; choose-then-sample: those with the most certain distribution, whatever "
        "code is sampled; hybrid: halton, then choose-then-sample in the second half; random: any.",
    )
    cfg_every: int = _setting(
        1,
        Whole(1, MAX_STEPS),
        "Evaluate the negative prompt only in the first of this many guided steps and reuse its "
        "effect in the others; 1 is exact.",
    )
    sampling_temperature_end: float = _setting(
        0.0,
        Number(0, 10),
        "Temperature of the code probabilities at the last step; it changes linearly from sampling_temperature; "
        "0: the same in every step.",
    )
    revision: float = _setting(
        0.0,
        Number(0, 1),
        "Fraction of the unmasked tokens that each step masks again to predict them anew; as many others are unmasked "
        "instead. 0: unmasked tokens do not change.",
    )
    cfg_rescale: float = _setting(
        0.0,
        Number(0, 1),
        "Normalizes guidance: how far guided predictions return to the spread of those without guidance; 0: not at "
        "all, 1: completely. Helps where a high cfg exaggerates.",
    )
    entropy_bound: float = _setting(
        BOUND,
        Number(0, 1000),
        "Only with the order entropy, in nats: a step unmasks more tokens than scheduled while their summed entropies, "
        "without the largest, stay below this. Higher values take fewer steps; 0: those of the schedule.",
    )


@dataclass(frozen=True)
class Recommended(SamplingSettings):
    """The settings and the size in pixels that a checkpoint is at its best with."""

    width: int = 512
    height: int = 512


VALUES: dict[str, Value] = {item.name: item.metadata["value"] for item in fields(SamplingSettings)}
HELP: dict[str, str] = {item.name: item.metadata["help"] for item in fields(SamplingSettings)}
# Fewer steps, guidance only while the layout of the picture is decided, and the negative prompt in every other of those
# steps; measured in docs/speed.md.
FAST = {"steps": 8, "cfg_interval": (0.0, 0.5), "cfg_every": 2, "int8": True}


def check_settings(settings: Mapping[str, Any], codebook_size: int) -> dict[str, Any]:
    """The same settings in their own types.

    Raises:
        AmusedError: an unknown name, or a value out of range.
    """
    unknown = [name for name in settings if name not in VALUES]
    if unknown:
        raise AmusedError(f"The setting {quoted(unknown[0])} is unknown; allowed are {', '.join(VALUES)}.")
    return {name: VALUES[name].check(value, name, codebook_size) for name, value in settings.items()}


def resolve_settings(
    recommended: SamplingSettings,
    settings: Mapping[str, Any],
    codebook_size: int,
    *,
    masked: bool = False,
    fast: bool = False,
    int8_pays: bool = True,
) -> SamplingSettings:
    """Settings for one run, every `None` filled in.

    Args:
        recommended: what the checkpoint is at its best with.
        settings: values by name; what is missing or None is left to `fast`, then to `recommended`.
        codebook_size: the most that `top_k` may be.
        masked: the run draws inside a mask; it falls linearly then, whatever the checkpoint's schedule, as in
            diffusers' `AmusedInpaintPipeline`.
        fast: fill in `FAST` first.
        int8_pays: whether `fast` switches `int8` on.

    Raises:
        AmusedError: an unknown name, a value out of range, or a `cfg_interval` that another `cfg_schedule` ignores.
    """
    chosen = {name: value for name, value in settings.items() if value is not None}
    if fast:
        fill = {**FAST, "int8": int8_pays}
        if "cfg_schedule" in chosen:
            del fill["cfg_interval"]
        chosen = {**fill, **chosen}
    if "cfg_interval" in chosen:
        chosen.setdefault("cfg_schedule", "interval")
    if masked:
        chosen.setdefault("schedule", "linear")
    defaults = {name: getattr(recommended, name) for name in VALUES}
    checked = check_settings(chosen, codebook_size)
    interval, schedule = checked.get("cfg_interval", (0, 1)), checked.get("cfg_schedule", "interval")
    if schedule != "interval" and interval != (0, 1):
        raise AmusedError(
            f"cfg_interval is {interval} and cfg_schedule is {schedule!r}; allowed beside it is 'interval'."
        )
    return SamplingSettings(**{**defaults, **checked})
