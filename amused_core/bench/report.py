"""The report as Markdown, from the content of report.json or growth.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..files.markdown import table
from .laps import PARTS

_UNITS = ("CPU seconds, all threads summed", "seconds of wall time")


def as_markdown(content: Mapping[str, Any]) -> str:
    """The whole report; see docs/speed.md for what it says."""
    parts = [f"# Speed of {content['model']['name']}", machine(content["machine"]), _settings(content)]
    parts += _growth(content) if "growth" in content else _compared(content)
    return "\n\n".join([*parts, _gemm(content["gemm"]), _memory(content)]) + "\n"


def machine(facts: Mapping[str, Any]) -> str:
    """The machine in one line."""
    amx = {True: "AMX", False: "no AMX", None: "AMX unknown"}[facts["amx"]]
    bf16 = ", AVX512-BF16" if facts["avx512_bf16"] else ""
    load = "" if facts["load"] is None else f"; load {facts['load']} before, {facts.get('load_after')} after"
    return (
        f"Machine: {facts['cpu']}, {facts['cores']} cores, {facts['capability']}{bf16}, {amx}; {facts['threads']} "
        f"threads; torch {facts['torch']}, diffusers {facts['diffusers']}, Python {facts['python']}, "
        f"{facts['system']}{load}."
    )


def number(value: float | None) -> str:
    """Three digits, however large or small."""
    if value is None:
        return ""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}" if abs(value) >= 0.001 or not value else "<0.001"


def _settings(content: Mapping[str, Any]) -> str:
    settings, model = content["settings"], content["model"]
    measured = settings["measured_steps"]
    composed = "" if measured == settings["steps"] else f" ({measured} run, totals **composed** from the parts)"
    return (
        f"{model['parameters'] / 1e6:.0f} M parameters, {settings['dtype']}, {model['bytes'] / 1e6:.0f} MB shared by "
        f"both sides; mode {settings['mode']}, seeding {settings['seeding']}. {settings['batch']} of "
        f"{settings['width']}x{settings['height']} pixels at a time, {settings['steps']} steps{composed}, guidance "
        f"{settings['cfg']:g}; medians of {settings['repeats']} runs, the sides in turns."
    )


def _compared(content: Mapping[str, Any]) -> list[str]:
    sides, flop = content["sides"], content["flop"]
    peak = content["gemm"]["fp32"]["peak"]
    parts = []
    for index, unit in enumerate(_UNITS):
        rows = []
        for name, side in sides.items():
            total = "total, composed" if side["composed"] else "total"
            row = {"": name, **{part: number(side["parts"][part][index]) for part in PARTS}}
            row[total] = f"**{number(side['total'][index])}**"
            row["speed-up"] = _times(side.get("ratio"), index)
            if index == 0:
                row["GFLOP/s of a step"], row["of fp32 peak"] = _rate(side, flop, peak)
            rows.append(row)
        parts += [f"## {unit[0].upper()}{unit[1:]}", table(rows)]
    if flop is not None:
        work = ", ".join(f"{part} {number(flop[part] / 1e9)}" for part in ("text", "step", "decode"))
        parts.append(f"GFLOP of diffusers: {work}. The rates of both sides are for this work.")
    return [*parts, _equal(content)]


def _times(ratio: Mapping[str, float] | None, index: int) -> str:
    if ratio is None:
        return ""
    return (
        f"**{ratio['cpu']:.2f}x** ({ratio['low']:.2f}-{ratio['high']:.2f})" if index == 0 else f"{ratio['wall']:.2f}x"
    )


def _rate(side: Mapping[str, Any], flop: Mapping[str, int] | None, peak: float) -> tuple[str, str]:
    """Of the work of diffusers' step, which is the same for both sides however much of it a side leaves out."""
    seconds = side["parts"]["step"][0]
    if flop is None or not seconds:
        return "", ""
    rate = flop["step"] / seconds / 1e9
    return number(rate), f"{100 * rate / peak:.0f} %"


def _equal(content: Mapping[str, Any]) -> str:
    equal = content["equal"]
    if equal is None:
        why = "one side ran" if content["settings"]["only"] else "this pack used its own random numbers"
        return f"Tokens and images are not compared: {why}."
    text = f"Tokens equal to diffusers': {100 * equal['tokens']:.4g} %, in {equal['runs']} runs."
    if equal["pictures"]:
        text += (
            f" Images of equal tokens ({equal['pictures']}) differ by at most {equal['levels']} of 255 levels, in "
            f"{100 * equal['differing']:.2g} % of their values."
        )
    return text if content["promised"] else f"{text} Equality is promised for fp32 in exact mode only."


def _growth(content: Mapping[str, Any]) -> list[str]:
    parts = []
    for axis in ("batch", "size", "steps"):
        rows = [_point(point) for point in content["growth"]["points"] if point["axis"] == axis]
        unit = {"batch": "batch size", "size": "pixels per side", "steps": "steps per image"}[axis]
        parts += [f"## By {unit}", table(rows)]
    return [*parts, "CPU seconds, all threads summed. diffusers was not run where its column is empty."]


def _point(point: Mapping[str, Any]) -> dict[str, str]:
    side, theirs = point["sides"]["pack"], point["sides"].get("diffusers")
    memory, equal = side["memory"], point["equal"]
    return {
        point["axis"]: str(point["value"]),
        "total, composed" if side["composed"] else "total": number(side["total"][0]),
        "per image": number(side["total"][0] / point["batch"]),
        **{part: number(side["parts"][part][0]) for part in ("first step", "step", "sampler", "decode")},
        "memory per run": "" if memory is None else f"{memory['growth'] / 1e6:.0f} MB",
        "diffusers": "" if theirs is None else number(theirs["total"][0]),
        "speed-up": "" if theirs is None else f"{side['ratio']['cpu']:.2f}x",
        "equal tokens": "" if equal is None else f"{100 * equal['tokens']:.4g} %",
    }


def _gemm(products: Mapping[str, Any]) -> str:
    rows = []
    for dtype, measured in products.items():
        for row in measured["shapes"]:
            shape = f"{row['m']}x{row['k']} by {row['k']}x{row['n']}"
            rows.append({"dtype": dtype, "shape": shape, "GFLOP per CPU second": number(row["gflops"])})
    return f"## Matrix products at the shapes of a layer\n\n{table(rows)}"


def _memory(content: Mapping[str, Any]) -> str:
    lines = [
        f"{name}: at most {side['memory']['peak'] / 1e6:.0f} MB, of which the run itself added at most "
        f"{side['memory']['growth'] / 1e6:.0f} MB."
        for name, side in content.get("sides", {}).items()
        if side["memory"] is not None
    ]
    first = content.get("first_run")
    if first is not None:
        added = "" if first["memory"] is None else f", and added {first['memory']['growth'] / 1e6:.0f} MB"
        lines.append(f"pack, first run (one step; fills its caches): {number(first['cpu'])} CPU s{added}.")
    if content["high_water"] is not None:
        lines.append(f"The whole process, loading included: at most {content['high_water'] / 1e6:.0f} MB.")
    note = "Resident memory of a process with this side alone."
    if content["settings"]["only"] is None:
        note = "Resident memory while a side ran; both run in one process, so use `--only` for the memory of one side."
    return "\n".join(["## Memory\n", note, "", *(f"- {line}" for line in lines)])
