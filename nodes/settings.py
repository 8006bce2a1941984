"""Sampling settings as widgets, derived from the core's `SamplingSettings`, and widgets back to settings.

A setting that a checkpoint recommends has a widget value that stands for the recommendation: "auto", or 0 for `cfg`.
"""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..amused_core.settings import HELP, VALUES, SamplingSettings
from ..amused_core.settings.values import Choice, Interval, Number, NumberPair, Whole

AUTO = "auto"
# How codes are drawn; graphs saved without these widgets keep the defaults.
DRAW = ("sampling_temperature", "top_k", "top_p")
# Later additions, in the order in which nodes append them.
LATER = ("order", "sampling_temperature_end", "revision", "cfg_rescale", "entropy_bound")
# What the widgets show, where it is not what the setting itself says: ranges of a mouse, not of the model.
WIDGETS: dict[str, dict[str, Any]] = {
    "cfg": {"default": 0.0, "step": 0.1, "round": 0.01},
    "temperature": {"step": 0.1},
    "sampling_temperature": {"step": 0.05, "round": 0.01},
    "top_k": {"max": 65536},
    "top_p": {"min": 0.01, "step": 0.01},
    "cfg_interval": {"step": 0.01},
    "sampling_temperature_end": {"step": 0.05, "round": 0.01},
    "revision": {"step": 0.01},
    "cfg_rescale": {"step": 0.05},
    "entropy_bound": {"step": 0.1, "round": 0.01},
}
RECOMMENDED_TIPS = {
    "cfg": "0 selects the model's recommended value.",
    "schedule": "auto: linear with a mask, otherwise the model's recommended schedule.",
    "cfg_schedule": "auto: the model's recommended schedule.",
    "order": "auto: the model's recommended order.",
}
# Of settings that are pairs, and so have two widgets.
PAIR_TIPS = {
    "temperature_start": "Temperature of the choice of tokens to keep, at the first step: high values add variety, "
    "0 always keeps the most confident tokens.",
    "temperature_end": "The same at the last step; it changes linearly in between.",
    "cfg_interval_start": "Start of guidance, as a fraction of the whole schedule; only with cfg_schedule interval.",
    "cfg_interval_end": "End of guidance, as a fraction of the whole schedule; only with cfg_schedule interval.",
}


def widgets(*names: str, optional: bool = False) -> list[Any]:
    """Widgets for settings, in this order; a pair of numbers has two, ending in `_start` and `_end`."""
    return [widget for name in names for widget in _widgets(name, optional)]


def settings_of(widgets: dict[str, Any]) -> dict[str, Any]:
    """The settings that widgets stand for, by name; None is the model's own recommendation."""
    settings = {name: value for name, value in widgets.items() if name in VALUES}
    for name, value in VALUES.items():
        ends = (f"{name}_start", f"{name}_end")
        if isinstance(value, (NumberPair, Interval)) and any(end in widgets for end in ends):
            # A graph in API format may have one of two optional widgets.
            pair = zip(ends, getattr(SamplingSettings, name), strict=True)
            settings[name] = tuple(widgets.get(end, default) for end, default in pair)
    if settings.get("cfg") == 0:
        settings["cfg"] = None
    if settings.get("cfg_schedule", AUTO) != "interval":
        settings.pop("cfg_interval", None)
    return {name: None if value == AUTO else value for name, value in settings.items()}


def _widgets(name: str, optional: bool) -> list[Any]:
    value, default = VALUES[name], getattr(SamplingSettings, name)
    tooltip = " ".join(filter(None, (HELP[name], RECOMMENDED_TIPS.get(name))))
    more = {"tooltip": tooltip, "optional": optional}
    if isinstance(value, Choice):
        return [io.Combo.Input(name, options=[AUTO, *value.names], default=AUTO, **more)]
    shown = WIDGETS.get(name, {})
    if isinstance(value, Whole):
        return [io.Int.Input(name, **{"default": default, "min": value.low, "max": value.high, **shown}, **more)]
    if isinstance(value, Number):
        return [io.Float.Input(name, **{"default": default, "min": value.low, "max": value.high, **shown}, **more)]
    if isinstance(value, (NumberPair, Interval)):
        low, high = (value.low, value.high) if isinstance(value, NumberPair) else (0.0, 1.0)
        return [
            io.Float.Input(
                f"{name}_{end}",
                **{"default": default[index], "min": float(low), "max": float(high), **shown},
                tooltip=PAIR_TIPS[f"{name}_{end}"],
                optional=optional,
            )
            for index, end in enumerate(("start", "end"))
        ]
    return [io.Boolean.Input(name, default=default, **more)]
