"""The tables that a job leaves: a line a picture, and a line a row that could not be drawn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from . import parquet
from .job import Plan
from .ledger import Ledger, Record, write_lines

HEAD = ("number", "row", "id", "file", "status", "error", "seconds")


def publish(plan: Plan, ledger: Ledger) -> tuple[str, int]:
    """Writes the results and the errors of our parts so far.

    Returns:
        The name of the results, and the number of errors.
    """
    index, count = plan.job.shard
    suffix = f"-{index}-of-{count}" if count > 1 else ""
    errors = f"errors{suffix}.jsonl"
    failed = sum(1 for _ in _errors(plan, ledger))
    if failed:
        write_lines(ledger.store, errors, _errors(plan, ledger))
    else:
        ledger.store.remove(errors)
    if plan.job.format == "parquet":
        results = f"results{suffix}.parquet"
        with ledger.store.writing(results) as path:
            form = parquet.schema(plan.survey.columns, HEAD, ())
            parquet.write_rows(path, form, _typed_records(plan, ledger, form))
    else:
        results = f"results{suffix}.jsonl"
        write_lines(ledger.store, results, _records(plan, ledger))
    return results, failed


def _records(plan: Plan, ledger: Ledger) -> Iterator[Record]:
    for part in ledger.part_numbers():
        if part in plan.parts:
            yield from ledger.records(part)


def _typed_records(plan: Plan, ledger: Ledger, form: Any) -> Iterator[Record]:
    """Records for typed columns: an error may be that a value has another type."""
    for record in _records(plan, ledger):
        yield parquet.fitting(record, form) if record["status"] == "error" else record


def _errors(plan: Plan, ledger: Ledger) -> Iterator[Record]:
    names = ("row", "place", "id", "error")
    for record in _records(plan, ledger):
        if record["status"] == "error":
            yield {name: record.get(name) for name in names}
