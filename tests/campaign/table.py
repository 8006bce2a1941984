"""The table of a campaign: what was reached of each goal, and the smallest case of each fault."""

from __future__ import annotations

from tests.campaign.records import Fault, Journal


def table(journal: Journal) -> str:
    """Markdown."""
    return "\n".join([*_goals(journal), "", *_faults(journal)])


def _goals(journal: Journal) -> list[str]:
    def cases(kind: str) -> int:
        return sum(record.cases for record in journal.of(kind))

    def bad(kind: str) -> int:
        return sum(record.bad for record in journal.of(kind))

    def figure(kind: str, name: str) -> float:
        return sum(record.figures.get(name, 0) for record in journal.of(kind))

    succeeded = [
        sum(record.figures.get(f"succeeded {name}", 0) for record in journal.of("graphs"))
        for name in sorted({name[10:] for r in journal.of("graphs") for name in r.figures if name[:10] == "succeeded "})
    ]

    def most(name: str) -> float:
        return max((record.figures.get(name, 0) for record in journal.of("memory")), default=0)

    rows = [
        ("headless calls, raw errors", f"{bad('calls')} of {cases('calls')}", "0 of 20,000"),
        ("sequences of loads, LoRAs, saves, pictures", f"{bad('states')} of {cases('states')}", "0"),
        ("pictures that differ alone and in a batch", f"{figure('states', 'differ'):.0f} of "
         f"{figure('states', 'pairs'):.0f}", "0 of 48"),
        ("random graphs, raw errors from our files", f"{figure('graphs', 'raw'):.0f} of {cases('graphs')}",
         "0 of 3,000"),
        ("nodes of the pack, and the fewest successes of one", f"{len(succeeded)}, {min(succeeded, default=0):.0f}",
         "all, 20"),
        ("server deaths, hangs, changed golden pictures",
         f"{figure('graphs', 'dead'):.0f}, {figure('graphs', 'hung'):.0f}, {figure('graphs', 'changed'):.0f} of "
         f"{figure('graphs', 'golden'):.0f}", "0 of 3,000"),
        ("damaged checkpoints not told in one sentence", f"{bad('checkpoints')} of {cases('checkpoints')}",
         "0 of 1,000"),
        ("kills that left broken files, or files that the next run leaves", f"{bad('kills')} of {cases('kills')}",
         "0 of 200"),
        ("full and read-only disks", f"{bad('disks')} of {cases('disks')}", "0"),
        ("files lost or broken by two servers in one folder", f"{bad('servers')} of {cases('servers')}", "0"),
        ("memory growth of the server after its first 100 prompts, and after 600",
         f"{most('growth'):.1f} and {most('leak'):.1f} MB of {cases('memory')}", "< 20 MB over 1,000"),
    ]  # fmt: skip
    return ["| figure | now | goal |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)]


def _faults(journal: Journal) -> list[str]:
    found: dict[tuple[str, str], Fault] = {}
    for record in journal:
        for fault in record.faults:
            found.setdefault((record.kind, fault.place), fault)
    return [f"{kind} {fault.place}: {fault.error}\n    {fault.case}" for (kind, _), fault in found.items()]
