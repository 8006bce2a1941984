"""The command as processes of its own, killed, interrupted, or two at once: all leave what an undisturbed one does."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from crash_batch import Jobs, content_hash

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="needs signals")]


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Jobs:
    return Jobs(tmp_path_factory.mktemp("jobs"), 40, ["steps=2"], "--model", str(folder), "--batch", "2")


@pytest.fixture(scope="module")
def undisturbed(jobs: Jobs) -> str:
    return jobs.undisturbed()


def test_killed_again_and_again(jobs: Jobs, undisturbed: str) -> None:
    assert jobs.killed(3) == undisturbed


def test_shares_together_are_the_whole(jobs: Jobs, undisturbed: str) -> None:
    assert jobs.sharded(2) == undisturbed


def test_ctrl_c_and_a_second_process(jobs: Jobs, undisturbed: str) -> None:
    """The first process is stopped while another one finds the folder taken; then the job goes on."""
    out = jobs.folder / "stopped"
    first = subprocess.Popen(jobs.command("stopped"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not list(out.glob("*.png")):
        assert first.poll() is None
        time.sleep(0.01)
    first.send_signal(signal.SIGSTOP)
    second = subprocess.run(jobs.command("stopped"), capture_output=True, text=True, check=False)
    first.send_signal(signal.SIGINT)
    first.send_signal(signal.SIGCONT)
    said = first.communicate(timeout=120)[1]
    assert second.returncode == 2 and "Another process is drawing into" in second.stderr
    assert first.returncode == 130 and "stopping after this batch" in said
    kept = list(out.glob("*.png"))
    assert len(kept) < 40 and len(kept) == len((out / "results.jsonl").read_text().splitlines())
    jobs.run("stopped")
    assert content_hash(out) == undisturbed
