"""The engine: what it draws together, what it keeps, and what stops it."""

from __future__ import annotations

import errno
import json
import threading
from pathlib import Path

import pytest
from PIL import Image

from amused_core import AmusedError
from amused_core.batch.engine import run
from amused_core.batch.estimate import estimate
from amused_core.batch.ledger import Ledger
from amused_core.batch.lock import locked
from amused_core.batch.names import LAYOUTS
from amused_core.batch.pictures import Expansion
from amused_core.batch.rows import Row
from amused_core.batch.store import Store
from amused_core.batch.writer import Progress
from tests.core.batch.fakes import FakeBackend, job, outcome, records, table

PROMPTS = [f"p{number % 5}" for number in range(21)]
PAIR = table(["a", "b"])


def test_a_job(tmp_path: Path) -> None:
    seen: list[Progress] = []
    summary = run(job(table(PROMPTS, tag="t"), tmp_path), FakeBackend(), seen.append)
    assert (summary.total, summary.drawn, summary.errors, summary.results) == (21, 21, 0, "results.jsonl")
    assert (seen[0].done, seen[0].total, seen[-1].done, seen[-1].drawn) == (0, 21, 21, 21)
    lines = records(tmp_path)
    assert [line["number"] for line in lines] == list(range(21))
    for line in lines:
        assert (line["status"], line["error"], line["tag"], line["model"]) == ("ok", None, "t", "fake")
        with Image.open(tmp_path / line["file"]) as picture:
            about = json.loads(picture.text["amused"])
        assert (about["id"], about["seed"], about["prompt"]) == (line["id"], line["seed"], line["prompt"])
    assert not (tmp_path / "errors.jsonl").exists()
    assert sorted(path.name for path in (tmp_path / ".job").iterdir() if "part" in path.name) == [
        f"part-0000{n}.jsonl" for n in range(3)
    ]


def test_rows_of_like_size_and_equal_prompts_come_together(tmp_path: Path) -> None:
    rows = table(["a", "b", "a", "b", "c", "a", "b", "a"])
    rows = [Row(row.number, row.place, {**row.columns, "width": 8 if row.number in (1, 2) else 16}) for row in rows]
    backend = FakeBackend()
    run(job(rows, tmp_path), backend)
    assert backend.batches == [[0, 3, 5, 7], [4, 6], [1, 2]]
    backend = FakeBackend()
    run(job(rows, tmp_path / "one", batch=1), backend)
    assert [len(batch) for batch in backend.batches] == [1] * 8
    assert outcome(tmp_path / "one")["0000003.png"] == outcome(tmp_path)["0000003.png"]


def test_no_rows(tmp_path: Path) -> None:
    summary = run(job([], tmp_path), FakeBackend())
    assert (summary.total, summary.drawn, summary.errors) == (0, 0, 0)
    assert (tmp_path / "results.jsonl").read_bytes() == b"" and (tmp_path / "job.json").is_file()


def test_bad_rows_stop_nothing(tmp_path: Path) -> None:
    prompts = ["a", "bad", "b", "worse", "c"]
    rows = [*table(prompts), Row(5, "line 6", {"id": "x"}, "The line is not JSON.")]
    summary = run(job(rows, tmp_path), FakeBackend())
    assert (summary.total, summary.drawn, summary.errors) == (6, 3, 3)
    lines = [json.loads(line) for line in (tmp_path / "errors.jsonl").read_text().splitlines()]
    assert [(line["row"], line["place"], line["error"]) for line in lines] == [
        (1, "line 2", "prompt is 'bad'."), (3, "line 4", "prompt is 'worse'."), (5, "line 6", "The line is not JSON."),
    ]  # fmt: skip
    assert [line["status"] for line in records(tmp_path)] == ["ok", "error", "ok", "error", "ok", "error"]
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["0000000.png", "0000002.png", "0000004.png"]


@pytest.mark.parametrize("form", ["files", "webdataset", "parquet"])
def test_only_errors_are_drawn_again(tmp_path: Path, form: str) -> None:
    class Fixed(FakeBackend):
        def group(self, picture):
            return 16

        def draw(self, pictures):
            if self.name == "fixed":
                return FakeBackend.draw(self, pictures)
            return super().draw(pictures)

    class Broken(Fixed):
        def group(self, picture):
            if picture.number in (1, 9, 10):
                raise AmusedError("no picture.")
            return 16

    plain = job(table(PROMPTS), tmp_path / "plain", format=form)
    run(plain, Fixed())
    broken = job(table(PROMPTS), tmp_path / "broken", format=form)
    assert run(broken, Broken()).errors == 3
    assert run(broken, Fixed()).errors == 3, "without the option they stay"
    again = job(table(PROMPTS), tmp_path / "broken", format=form, retry_errors=True)
    backend = Fixed()
    summary = run(again, backend)
    assert sorted(sum(backend.batches, [])) == [1, 9, 10] and (summary.drawn, summary.errors) == (3, 0)
    assert outcome(tmp_path / "broken") == outcome(tmp_path / "plain")


@pytest.mark.parametrize("form", ["files", "webdataset", "parquet"])
def test_shards_together_are_the_whole(tmp_path: Path, form: str) -> None:
    rows = table(PROMPTS, note="ü")
    run(job(rows, tmp_path / "whole", format=form, tokens="also"), FakeBackend())
    for index in (2, 0, 1):
        shard = job(rows, tmp_path / "shared", format=form, tokens="also", shard=(index, 3), batch=index + 1)
        run(shard, FakeBackend())
    whole, shared = outcome(tmp_path / "whole"), outcome(tmp_path / "shared")
    assert whole == shared
    backend = FakeBackend()
    run(job(rows, tmp_path / "shared", format=form, tokens="also"), backend)
    assert backend.batches == [], "the whole job finds all of it done"
    table_name = "results.parquet" if form == "parquet" else "results.jsonl"
    assert (tmp_path / "shared" / table_name).is_file()


def test_a_callback_ends_the_run_and_what_is_done_is_kept(tmp_path: Path) -> None:
    class Cancelled(BaseException):
        pass

    def cancel(progress: Progress) -> None:
        if progress.done >= 8:
            raise Cancelled

    with pytest.raises(Cancelled):
        run(job(table(PROMPTS), tmp_path), FakeBackend(), cancel)
    kept = records(tmp_path)
    assert 8 <= len(kept) < 21 and all((tmp_path / line["file"]).is_file() for line in kept)
    backend = FakeBackend()
    run(job(table(PROMPTS), tmp_path), backend)
    assert sum(map(len, backend.batches)) == 21 - len(kept)
    run(job(table(PROMPTS), tmp_path / "plain"), FakeBackend())
    assert outcome(tmp_path) == outcome(tmp_path / "plain") | {
        name: content for name, content in outcome(tmp_path).items() if name.startswith("plain/")
    }


def test_another_job_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(job(table(["a", "b"]), out), FakeBackend())
    (out / "mine.txt").write_text("x")
    for other, backend, part in (
        (job(table(["a", "c"]), out), FakeBackend(), "rows differ"),
        (job(table(["a", "b"]), out), FakeBackend("other"), "model differ"),
        (job(table(["a", "b"]), out, format="webdataset"), FakeBackend(), "output differ"),
    ):
        before = outcome(out)
        with pytest.raises(AmusedError, match=part) as caught:
            run(other, backend)
        assert "--overwrite" in str(caught.value) and outcome(out) == before
    run(job(table(["c"], id="new"), out, overwrite=True), FakeBackend())
    assert sorted(path.name for path in out.iterdir()) == [".job", "job.json", "mine.txt", "new.png", "results.jsonl"]


def test_overwriting_removes_what_the_job_wrote_and_nothing_else(tmp_path: Path) -> None:
    """Also where a column of the rows is called like something of ours."""
    out, mine = tmp_path / "out", ("caption.txt", "results_human.jsonl", "errors_seen.jsonl", "old.npy")
    run(job(table(["a"], id="old", tokens="caption.txt"), out), FakeBackend())
    for name in mine:
        (out / name).write_text("x")
    run(job(table(["a"], id="kept"), out, overwrite=True, tokens="also"), FakeBackend())
    assert {path.name for path in out.iterdir()} == {".job", "job.json", "results.jsonl", "kept.png", "kept.npy", *mine}
    run(job(table(["a"], id="new"), out, overwrite=True), FakeBackend())
    assert {path.name for path in out.iterdir()} == {".job", "job.json", "results.jsonl", "new.png", *mine}


def test_overwriting_goes_on_with_the_same_job(tmp_path: Path) -> None:
    """So shares may all be started with it."""
    run(job(table(["c"]), tmp_path, part=1), FakeBackend())
    for share in (0, 1):
        assert run(job(PAIR, tmp_path, part=1, shard=(share, 2), overwrite=True), FakeBackend()).drawn == 1
    assert len(list(tmp_path.glob("*.png"))) == 2
    assert run(job(PAIR, tmp_path, part=1, overwrite=True), FakeBackend()).drawn == 0


def test_another_job_is_not_removed_while_a_process_draws_it(tmp_path: Path) -> None:
    run(job(PAIR, tmp_path, part=1, shard=(0, 2)), FakeBackend())
    before = outcome(tmp_path)
    with (
        locked(Store(str(tmp_path)), (1, 2), lambda busy: None),
        pytest.raises(AmusedError, match="Another process is drawing another job into"),
    ):
        run(job(table(["c", "d"]), tmp_path, part=1, shard=(0, 2), overwrite=True), FakeBackend())
    assert outcome(tmp_path) == before


def test_records_without_a_manifest(tmp_path: Path) -> None:
    """A shell's `rm -r out/*` leaves them; they are not taken for another job's."""
    run(job(PAIR, tmp_path), FakeBackend())
    (tmp_path / "job.json").unlink()
    with pytest.raises(AmusedError, match=r"holds images of a job without job\.json; .*--overwrite"):
        run(job(table(["c"]), tmp_path), FakeBackend())
    for path in tmp_path.glob("[!.]*"):
        path.unlink()
    assert run(job(table(["c"]), tmp_path), FakeBackend()).drawn == 1
    assert [record["prompt"] for record in records(tmp_path)] == ["c"]


def test_unsafe_ids_stay_in_the_folder(tmp_path: Path) -> None:
    ids = ["../x", "/etc/x", "a/b", "con", "."]
    rows = [Row(n, f"line {n + 1}", {"prompt": "a", "id": name}) for n, name in enumerate(ids)]
    run(job(rows, tmp_path / "out"), FakeBackend())
    assert [line["id"] for line in records(tmp_path / "out")] == ids
    files = sorted((tmp_path / "out").glob("*.png"))
    assert len(files) == len(ids) and {line["file"] for line in records(tmp_path / "out")} == {f.name for f in files}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_that_cannot_be_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def mkdir(path: Path, **_: bool) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "mkdir", mkdir)
    want = r"^'.*lock-begin' cannot be written \(Read-only file system\)\.$"
    with pytest.raises(AmusedError, match=want), locked(Store(str(tmp_path)), (0, 1), lambda busy: None):
        pass


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with locked(Store(str(tmp_path)), (0, 2), lambda busy: None):
            inside.set()
            leave.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert inside.wait(60)
    try:
        with pytest.raises(AmusedError, match="Another process is drawing into"):
            run(job(PAIR, tmp_path, part=1, shard=(0, 2)), FakeBackend())
        with pytest.raises(AmusedError, match="Another process is drawing into"):
            run(job(PAIR, tmp_path, part=1), FakeBackend())
        assert run(job(PAIR, tmp_path, part=1, shard=(1, 2)), FakeBackend()).drawn == 1, "other shards are free"
    finally:
        leave.set()
        thread.join()


def test_layouts_of_benchmarks(tmp_path: Path) -> None:
    rows = table(["a", "b"], style="anime", tag="t")
    run(job(rows, tmp_path / "g", Expansion(layout=LAYOUTS["geneval"])), FakeBackend())
    names = {path.relative_to(tmp_path / "g").as_posix() for path in (tmp_path / "g").glob("0*/**/*") if path.is_file()}
    assert names == {f"0000{r}/samples/000{c}.png" for r in (0, 1) for c in range(4)} | {
        f"0000{r}/metadata.jsonl" for r in (0, 1)
    }
    with (tmp_path / "g/00001/metadata.jsonl").open() as file:
        assert json.load(file) == {"prompt": "b", "style": "anime", "tag": "t"}
    run(job(rows, tmp_path / "h", Expansion(layout=LAYOUTS["hpsv2"])), FakeBackend())
    with Image.open(tmp_path / "h/anime/00001.jpg") as picture:
        assert picture.format == "JPEG" and picture.size == (16, 16)


def test_an_estimate_writes_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = estimate(job(table([*PROMPTS, "bad"]), out), FakeBackend())
    assert (found.rows, found.pictures, found.missing, found.batches, found.errors) == (22, 22, 21, 6, 1)
    assert found.first_error == "line 22: prompt is 'bad'." and found.seconds > 0 and found.bytes > 21 * 100
    assert not out.exists()
    run(job(table([*PROMPTS, "bad"]), out), FakeBackend())
    assert estimate(job(table([*PROMPTS, "bad"]), out), FakeBackend()).missing == 0
    assert estimate(job(table([*PROMPTS, "bad"]), out, retry_errors=True), FakeBackend()).errors == 1
    with pytest.raises(AmusedError, match="holds another job"):
        estimate(job(PAIR, out), FakeBackend())


def test_an_estimate_of_rows_that_fail_while_they_are_drawn(tmp_path: Path) -> None:
    rows = [*table(["worse"] * 4), Row(4, "line 5", {"prompt": "a", "width": 32})]
    found = estimate(job(rows, tmp_path / "out"), FakeBackend())
    assert (found.missing, found.errors, found.first_error) == (1, 4, "line 1: prompt is 'worse'.")
    assert found.seconds > 0


@pytest.mark.parametrize(
    "options", [{"format": "zip"}, {"tokens": "yes"}, {"batch": 0}, {"part": 0}, {"shard": (4, 4)}, {"shard": (0, 0)}]
)
def test_refused_options(tmp_path: Path, options: dict) -> None:
    with pytest.raises(AmusedError):
        job([], tmp_path, **options)


def test_a_url(tmp_path: Path) -> None:
    run(job(table(PROMPTS), "memory://batch-url", format="webdataset", tokens="also"), FakeBackend())
    run(job(table(PROMPTS), tmp_path, format="webdataset", tokens="also"), FakeBackend())
    store = Store("memory://batch-url")
    for name in ("part-00000.tar", "part-00002.tar"):
        with store.reading(name) as file:
            assert file.read() == (tmp_path / name).read_bytes()
    assert store.names() == [".job", "job.json", "part-00000.tar", "part-00001.tar", "part-00002.tar", "results.jsonl"]
    with locked(store, (0, 1), lambda busy: None), pytest.raises(AmusedError, match=r"locked by process .*--unlock"):
        run(job(table(PROMPTS), "memory://batch-url", format="webdataset", tokens="also"), FakeBackend())
    backend = FakeBackend()
    run(job(table(PROMPTS), "memory://batch-url", format="webdataset", tokens="also"), backend)
    assert backend.batches == [] and Ledger(store).is_finished(2)
    with pytest.raises(AmusedError, match="cannot be reached"):
        Store("nosuch://x")
