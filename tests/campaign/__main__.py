"""Runs a campaign: `python -m tests.campaign --minutes 60 --seed 0`, as `make campaign` does.

Each kind of cases runs in a process of its own, so that one that dies is a fault, too. A campaign of the same seed goes
on where it was. Only this machine's loopback is used.
"""

from __future__ import annotations

import argparse
import importlib
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

from tests.campaign.records import ROOT, Fault, Journal, Record
from tests.campaign.table import table

# Kinds of cases, each a module of this folder, and the share of the time it gets.
SHARES = {
    "calls": 3, "states": 2, "checkpoints": 1, "graphs": 5, "kills": 2, "disks": 1, "servers": 1, "memory": 2,
}  # fmt: skip
# Bytes of one process: a case that wants all of the machine's memory is a fault of its own.
MEMORY = 12 * 2**30
NEEDS_COMFYUI = {"graphs", "servers", "memory"}


def main() -> int:
    """Runs all kinds, or goes on with one of them; 1 where a fault was found."""
    parser = argparse.ArgumentParser("python -m tests.campaign", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60, help="for all kinds together (default: 60)")
    parser.add_argument("--seed", type=int, default=0, help="of everything random (default: 0)")
    parser.add_argument("--journal", type=Path, help="where the results go (default: output/campaign-SEED.jsonl)")
    parser.add_argument("--kinds", nargs="+", choices=[*SHARES], default=[*SHARES], help="(default: all)")
    parser.add_argument("--here", action="store_true", help="run the one kind in this process")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    journal = Journal((options.journal or ROOT / "output" / f"campaign-{options.seed}.jsonl").absolute())
    if options.here:
        run(options.kinds[0], journal, options.seed, time.monotonic() + 60 * options.minutes)
        return 0
    kinds = [kind for kind in options.kinds if kind not in NEEDS_COMFYUI or os.environ.get("COMFYUI_DIR")]
    for kind in kinds:
        minutes = options.minutes * SHARES[kind] / sum(SHARES[kind] for kind in kinds)
        print(f"== {kind}: {minutes:.1f} minutes", flush=True)
        start(kind, journal, options.seed, minutes)
    print(table(journal))
    return int(any(record.bad for record in journal))


def start(kind: str, journal: Journal, seed: int, minutes: float) -> None:
    """Runs a kind in a process of its own; notes its death."""
    command = [sys.executable, "-m", "tests.campaign", "--here", "--kinds", kind, "--seed", str(seed)]
    command += ["--minutes", str(minutes), "--journal", str(journal.path)]
    with tempfile.TemporaryFile("w+") as said:
        with subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=said) as process:
            try:
                ended = process.wait()
            except BaseException:
                process.terminate()  # It stops its servers.
                raise
        if ended:
            said.seek(0)
            fault = Fault(kind, f"the process ended with {ended}", said.read()[-2000:])
            journal.add(Record(kind, len(journal.of(kind)), 0, 1, [fault]))


def run(kind: str, journal: Journal, seed: int, deadline: float) -> None:
    """Blocks of a kind until the time is over, at least one."""
    import torch  # The process that waits needs none.

    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    sys.path.append(str(ROOT / "tools"))
    module = importlib.import_module(f"tests.campaign.{kind}")
    before = journal.of(kind)
    known = {fault.place for record in before for fault in record.faults}
    with tempfile.TemporaryDirectory(prefix="amused-campaign-") as folder, module.kind(Path(folder)) as cases:
        for block in range(len(before), 1_000_000):
            record = Record(kind, block)
            cases.block(record, zlib.crc32(f"{seed} {kind} {block}".encode()), known)
            known |= {fault.place for fault in record.faults}
            journal.add(record)
            if time.monotonic() > deadline:
                break
    os.chdir(ROOT)


if __name__ == "__main__":
    sys.exit(main())
