"""A batch job in a graph: where it goes, what is drawn of it, and what it leaves for other nodes."""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ....amused_core.batch.engine import Summary, draw
from ....amused_core.batch.job import Job, Plan
from ....amused_core.batch.ledger import Ledger
from ....amused_core.batch.pictures import Expansion
from ....amused_core.batch.store import Store
from ....amused_core.batch.survey import survey
from ....amused_core.errors import AmusedError
from ..save import output
from . import rows
from .backend import Graph, GraphBackend
from .graph_model import GraphModel
from .progress import MOST, JobProgress

logger = logging.getLogger(__name__)


class Outcome(NamedTuple):
    """The last pictures as IMAGE, the path of the results' table, and the pictures' files for the history."""

    images: Tensor
    results: str
    shown: list[dict[str, str]]


def draw_rows(
    model: Any,
    clip: Any,
    vae: Any,
    file: str,
    text: str,
    folder: str,
    seed: int,
    batch_size: int,
    defaults: dict[str, Any],
    graph: Graph | None = None,
    node: str | None = None,
) -> Outcome:
    """Draws what is not drawn yet of a job.

    Args:
        model, clip, vae: of the graph.
        file, text: the rows; see `rows.pictures`.
        folder: name below the output folder; a number is appended, another one for every other job.
        seed: rows without one get theirs from this and their id.
        batch_size: pictures at a time; 0: as the memory allows.
        defaults: values for rows that have none.
        graph, node: the prompt, and the id of the node in it.

    Raises:
        AmusedError: see `engine.run`; no rows, or none that could be generated.
    """
    prefix = output.below(folder, "output_folder")
    progress = JobProgress()
    backend = GraphBackend(GraphModel(model, clip, vae, progress.on_step), graph, node)
    pictures = rows.pictures(file, text, Expansion(seed=seed, defaults=defaults))
    job = Job(pictures, prefix, {}, batch=batch_size or None, retry_errors=True)
    plan = Plan(job, survey(pictures), backend.identity())
    if not plan.survey.pictures:
        raise AmusedError("There are no rows; the file is empty.")
    plan = replace(plan, job=replace(job, out=_folder(plan, prefix)))
    summary = draw(plan, backend, progress.on_progress)
    results = Path(plan.job.out, summary.results)
    _report(summary, results)
    last = _last(results)
    return Outcome(torch.stack(list(map(_image, last))), str(results), list(map(output.shown, last)))


def _folder(plan: Plan, prefix: str) -> str:
    """The job's own folder, or the first that is free."""
    fingerprint = plan.manifest()["fingerprint"]
    for number in count(1):
        out = f"{prefix}_{number:05}"
        if not Path(out).exists() or _fingerprint(out) == fingerprint:
            return out
    raise AssertionError


def _fingerprint(out: str) -> str | None:
    try:
        return (Ledger(Store(out)).manifest() or {}).get("fingerprint")
    except AmusedError:  # a damaged manifest is no reason to stop: the next folder is free
        return None


def _report(summary: Summary, results: Path) -> None:
    drawn = summary.total - summary.errors
    logger.info("aMUSEd: %s pictures in %s, %s of them drawn now", drawn, results.parent, summary.drawn)
    if not summary.errors:
        return
    errors = results.with_name("errors.jsonl")
    first = json.loads(errors.read_text("utf-8").partition("\n")[0])
    if not drawn:
        raise AmusedError(f"No row could be generated; the first is {first['place']}: {first['error']}")
    logger.warning(
        "aMUSEd: %s could not be generated, as %s says; the first is %s: %s",
        summary.errors,
        errors,
        first["place"],
        first["error"],
    )


def _last(results: Path) -> list[Path]:
    """The files of the last pictures that have the size of the very last one."""
    last = deque(_drawn(results), MOST)
    size = (last[-1]["width"], last[-1]["height"])
    return [results.parent / record["file"] for record in last if (record["width"], record["height"]) == size]


def _drawn(results: Path) -> Iterator[dict[str, Any]]:
    with results.open(encoding="utf-8") as file:
        for line in file:
            record = json.loads(line)
            if record["status"] == "ok":
                yield record


def _image(path: Path) -> Tensor:
    with Image.open(path) as picture:
        return torch.from_numpy(np.array(picture)).float() / 255
