"""Kills a batch job at random moments, draws it in shards and on Ray: all must leave the same files.

OMP_NUM_THREADS=1 python tools/crash_batch.py --rows 500 --kills 10 --set steps=4
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
THINGS = ("apple", "cat", "dog", "boat", "banana", "house", "tree", "key", "crown", "bus")
COLOURS = ("red", "blue", "yellow", "green", "purple", "white", "pink", "orange", "grey", "brown")


def main() -> None:
    """Prints a hash of what each way leaves; the exit code is 1 if they differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--set", nargs="+", default=["steps=4"], help="settings of the job")
    parser.add_argument("--skip-ray", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        jobs = Jobs(Path(folder), options.rows, options.set)
        found = [jobs.undisturbed(), jobs.killed(options.kills), jobs.sharded(4)]
        if not options.skip_ray:
            found.append(jobs.on_ray(2))
    sys.exit(len(set(found)) > 1)


class Jobs:
    """One table, drawn in several ways; each returns the hash of what it leaves.

    Args:
        folder: for the table, and a folder for each way.
        rows: of the table.
        settings: for `--set`.
        more: further options of the command.
    """

    def __init__(self, folder: Path, rows: int, settings: list[str], *more: str) -> None:
        self.folder, self.more = folder, ("--set", *settings, "--tokens", *more)
        self.rows = folder / "rows.jsonl"
        lines = [
            {"id": f"row-{n}", "prompt": f"a {THINGS[n % 10]} on a {COLOURS[n // 10 % 10]} background"}
            for n in range(rows)
        ]
        self.rows.write_text("".join(json.dumps(line) + "\n" for line in lines))
        self.seconds = 0.0

    def undisturbed(self) -> str:
        """One process."""
        began = time.monotonic()
        self.run("plain")
        self.seconds = time.monotonic() - began
        return self._report("undisturbed", "plain", f"{self.seconds:.0f} s")

    def killed(self, kills: int) -> str:
        """The same command begun again and again; `undisturbed` must have measured its time."""
        chance, stored = random.Random(0), []
        for _ in range(kills):
            process = subprocess.Popen(self.command("killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                process.wait(chance.uniform(0, 3 * self.seconds / kills))
                break
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            stored.append(len(list((self.folder / "killed").glob("*.png"))))
        self.run("killed")
        return self._report(f"{len(stored)} kill -9", "killed", f"pictures there after each: {stored}")

    def sharded(self, count: int) -> str:
        """One process for each share, then one that finds all of it done."""
        for index in range(count):
            self.run("shards", "--shard", f"{index}/{count}")
        done = self.run("shards")
        return self._report(f"{count} shards", "shards", done)

    def on_ray(self, workers: int) -> str:
        """Actors of a Ray on this machine."""
        return self._report(f"Ray, {workers} workers", "ray", self.run("ray", "--ray", "--workers", str(workers)))

    def command(self, out: str, *words: str) -> list[str]:
        """The command that draws into the folder `out`."""
        command = [sys.executable, "-m", "amused_core.cli", "batch", str(self.rows), str(self.folder / out)]
        return [*command, *self.more, *words]

    def run(self, out: str, *words: str) -> str:
        """Runs it to its end; returns what it says it has drawn."""
        done = subprocess.run(self.command(out, *words), cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{out}: exit code {done.returncode}: {done.stderr[-2000:]}")
        return done.stdout.strip().rpartition(": ")[2]

    def _report(self, name: str, out: str, about: str) -> str:
        found = content_hash(self.folder / out)
        print(f"{name:16} {found}  {about}", flush=True)
        return found


def content_hash(out: Path) -> str:
    """Of the names and contents of pictures and tokens, and of the results but for the time they took."""
    digest = hashlib.sha256()
    for path in sorted([*out.glob("*.png"), *out.glob("*.npy")]):
        digest.update(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    for line in (out / "results.jsonl").read_text("utf-8").splitlines():
        record = json.loads(line)
        del record["seconds"]
        digest.update(json.dumps(record, sort_keys=True).encode())
    return digest.hexdigest()[:16]


if __name__ == "__main__":
    main()
