"""Ray: its pictures and tokens are those of one process, also when an actor dies."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from amused_core import load_model
from amused_core.batch import cluster
from amused_core.batch.engine import run
from amused_core.batch.job import Job
from amused_core.batch.model_backend import ModelBackend
from amused_core.batch.pictures import Expansion, table_pictures
from amused_core.batch.ray import Predictor
from tests.core.batch.fakes import outcome, records

ray = pytest.importorskip("ray")
DEFAULTS = {"steps": 2, "cfg": 2.0}


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    """A Ray of this machine with room for two actors and for what feeds them: reading waits where there is none."""
    with pytest.MonkeyPatch.context() as patch:
        # Ray's workers give way to all other programs, and starve on a busy machine.
        patch.setenv("RAY_worker_niceness", "0")
        ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    lines = [f'{{"id": "r{n}", "prompt": "a {{red|blue}} cat {n % 4}", "n": {n}}}' for n in range(12)]
    path.write_text("\n".join([*lines, '{"id": "bad", "prompt": "x", "steps": "many"}']) + "\n")
    return path


@pytest.fixture(scope="module")
def single(rows: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process draws, with as many threads as an actor has: the last bit of a pixel depends on them."""
    out, threads = tmp_path_factory.mktemp("single"), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        run(make_job(rows, out), ModelBackend(load_model(folder), str(rows)))
    finally:
        torch.set_num_threads(threads)
    return out


def make_job(rows: Path, out: Path) -> Job:
    pictures = partial(table_pictures, str(rows), Expansion(defaults=DEFAULTS))
    return Job(pictures, str(out), {}, source=str(rows), tokens="also", part=4, batch=3)


def test_a_job_on_two_workers(local_ray: None, rows: Path, folder: Path, single: Path, tmp_path: Path) -> None:
    seen: list[Any] = []
    summary = cluster.run_on_ray(make_job(rows, tmp_path), {"path": str(folder)}, workers=2, on_progress=seen.append)
    assert (summary.total, summary.drawn, summary.errors) == (13, 12, 1)
    assert (seen[-1].done, seen[-1].errors) == (13, 1) and len(seen) == 4
    assert outcome(tmp_path) == outcome(single)


@pytest.mark.slow
def test_a_predictor_for_datasets(local_ray: None, rows: Path, folder: Path, single: Path) -> None:
    """Ray reads, deals out and puts together; blocks and batches are its own."""
    data = ray.data.read_json(str(rows), lines=True).repartition(3)
    drawn = data.map_batches(
        Predictor, fn_constructor_args=(str(folder),), fn_constructor_kwargs={"tokens": True, **DEFAULTS},
        batch_size=4, concurrency=2,
    )  # fmt: skip
    found = {row["id"]: row for row in drawn.take_all()}
    for record in records(single):
        row = found.pop(record["id"])
        assert (row["status"], row["prompt"], row["seed"]) == (record["status"], record["prompt"], record["seed"])
        if record["status"] == "ok":
            assert row["n"] == record["n"] and row["error"] == ""
            assert row["npy"] == (single / record["file"]).with_suffix(".npy").read_bytes()
            # Ray's reader makes fractions of whole numbers in columns that pass through, which the metadata repeat.
            picture, expected = Image.open(io.BytesIO(row["png"])), Image.open(single / record["file"])
            assert picture.tobytes() == expected.tobytes()
        else:
            assert "steps is 'many'" in row["error"] and row["png"] == b""
    assert not found


def test_a_predictor_without_ray(folder: Path) -> None:
    """It is a plain class: columns in, columns out."""
    predictor = Predictor(str(folder), pictures=False, tokens=True, steps=1)
    table = {"prompt": np.array(["a", "b", "c"], object), "seed": np.array([1.0, np.nan, 2.0])}
    drawn = predictor(table)
    assert list(drawn["status"]) == ["ok", "error", "ok"] and "neither an id nor a seed" in drawn["error"][1]
    tokens = np.load(io.BytesIO(drawn["npy"][2]))
    assert np.array_equal(tokens, load_model(folder).generate("c", steps=1, seed=2).tokens.numpy())
    assert "png" not in drawn
    several = predictor({"prompt": ["a"], "id": ["x"], "count": [3]})
    assert list(several["id"]) == ["x-0", "x-1", "x-2"] and list(np.diff(several["seed"])) == [1, 1]


class Dying(cluster.PartDrawer):
    """The first actor that gets part 1 kills itself when its first batch is stored."""

    def __call__(self, table: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        mark = Path(self.plan.job.out, "..", "died")
        if int(table["part"][0]) == 1 and not mark.exists():
            add_batch = self.ledger.add_batch

            def die(*arguments: Any) -> None:
                add_batch(*arguments)
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)

            self.ledger.add_batch = die
        return super().__call__(table)


@pytest.mark.slow
def test_an_actor_that_is_killed_costs_time_only(
    local_ray: None, rows: Path, folder: Path, single: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "PartDrawer", Dying)
    summary = cluster.run_on_ray(make_job(rows, tmp_path / "out"), {"path": str(folder)}, workers=2)
    assert (tmp_path / "died").exists() and summary.errors == 1
    assert outcome(tmp_path / "out") == outcome(single)
