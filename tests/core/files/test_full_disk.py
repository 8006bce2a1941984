"""Disks that are full, or cannot be written at all: one sentence with the file and what is kept of it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from amused_core import AmusedError, AmusedModel, load_model
from amused_core.cli import main
from amused_core.files.writing import PREFIX

FULL = "No space left on device"
Mount = Callable[[str], Path]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Mount]:
    """`disk("64k")` mounts a memory disk of that size, `disk("remount,ro")` changes it; needs Linux and root."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(option: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", option if "," in option else f"size={option}", "tmpfs", str(folder)]
        if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("nothing can be mounted here")
        return folder

    yield mount
    if sys.platform == "linux":
        subprocess.run(["umount", str(folder)], capture_output=True)


def left(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob(f"{PREFIX}*")]


def one_sentence(capsys: pytest.CaptureFixture[str], *parts: str) -> None:
    """On the last line of standard error."""
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("amused: ") and lines[-1].endswith("."), lines
    assert not any("Traceback" in line for line in lines)
    for part in parts:
        assert part in lines[-1]


def test_pictures(disk: Mount, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Those that were saved before are whole."""
    target = disk("64k")
    (target / "rest").write_bytes(bytes(44 * 1024))
    options = ["--model", str(folder), "--width", "64", "--height", "64", "--steps", "1", "--batch", "4"]
    assert main(["generate", "a cat", *options, "--output", str(target / "a.png")]) == 2
    one_sentence(capsys, "a-", f"cannot be written ({FULL}); nothing of it is left behind.")
    saved = sorted(target.glob("*.png"))
    assert 0 < len(saved) < 4 and [Image.open(path).convert("RGB").size for path in saved] == [(64, 64)] * len(saved)
    assert left(target) == []


@pytest.mark.parametrize("name", ["m.safetensors", "m"])
def test_a_model(disk: Mount, model: AmusedModel, name: str) -> None:
    target = disk("64k")
    with pytest.raises(
        AmusedError, match=rf"{name}' cannot be written \(.*{FULL}.*\); nothing of it is left behind\.$"
    ):
        model.save(target / name)
    assert list(target.iterdir()) == []


def test_training_keeps_the_state_of_before(
    disk: Mount, folder: Path, png: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for package in ("peft", "accelerate"):
        pytest.importorskip(package, reason="the extra 'train' is not installed")
    target = disk("4m")
    command = ["train", "lora", str(png), "--caption", "a castle", "--model", str(folder), "--output", str(target)]
    command += ["--width", "32", "--height", "32", "--steps"]
    assert main([*command, "1"]) == 0
    before = (target / "state.safetensors").read_bytes()
    with (target / "rest").open("wb", buffering=0) as rest, pytest.raises(OSError, match=FULL):
        while True:
            rest.write(bytes(4096))
    capsys.readouterr()
    assert main([*command, "2"]) == 2
    one_sentence(capsys, f"{FULL}", "; the one that was there is kept.")
    assert (target / "state.safetensors").read_bytes() == before and left(target) == []
    (target / "rest").unlink()
    assert main([*command, "2"]) == 0


def test_a_disk_that_is_read_only(disk: Mount, model: AmusedModel, capsys: pytest.CaptureFixture[str]) -> None:
    disk("64k")
    target = disk("remount,ro")
    with pytest.raises(AmusedError, match=r"m.safetensors' cannot be written \(Read-only file system\); nothing"):
        model.save(target / "m.safetensors")
    assert load_model(model.checkpoint.path)
