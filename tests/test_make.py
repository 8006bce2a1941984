"""`make`: the demo installs what it needs and no more, and every target finds the pack in its ComfyUI."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import install_comfyui
import pytest


def steps(source: Path, target: str) -> str:
    """What `make` would run for a target in a fresh clone."""
    ours = ("COMFYUI", "MAKE", "MFLAGS")  # of the `make test` that runs this
    variables = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    command = ["make", "-n", target]
    return subprocess.run(command, cwd=source, env=variables, capture_output=True, text=True, check=True).stdout


def test_the_demo_installs_no_more_than_it_needs(source: Path) -> None:
    demo = steps(source, "demo")
    assert "install --disable-pip-version-check torch torchvision" in demo and "[train,test]" not in demo
    assert "[train,test]" in steps(source, "test")


def test_installing_shows_its_progress(source: Path) -> None:
    """pip prints what it downloads, and how large it is, unless it is told to be quiet."""
    lines = [line for line in steps(source, "demo").splitlines() if "pip install" in line]
    assert len(lines) == 2 and not [line for line in lines if " -q" in line]
    assert "-q" not in (source / "tools" / "install_comfyui.py").read_text("utf-8")


@pytest.mark.parametrize("target", ["demo", "ui", "test", "test-full", "campaign", "workflows", "bench-comfyui"])
def test_every_target_links_the_pack_first(source: Path, target: str) -> None:
    lines = steps(source, target).splitlines()
    linked = [number for number, line in enumerate(lines) if "install_comfyui.py --link" in line]
    used = [n for n, line in enumerate(lines) if "/ComfyUI" in line and "install_comfyui.py" not in line]
    assert used and linked and linked[0] < used[0]


@pytest.fixture
def packs(tmp_path: Path) -> Path:
    """The folder custom_nodes of a ComfyUI."""
    folder = tmp_path / "custom_nodes"
    folder.mkdir()
    return folder


def linked(packs: Path) -> list[str]:
    install_comfyui.link(packs.parent)
    return [path.name for path in packs.iterdir() if path.resolve() == install_comfyui.ROOT]


@pytest.mark.parametrize("found", ["nothing", "a link to nowhere", "a link to itself"])
def test_a_link_that_is_gone_comes_back(packs: Path, found: str) -> None:
    place = packs / "comfyui-amused"
    if found != "nothing":
        place.symlink_to(place if "itself" in found else packs / "gone")
    assert linked(packs) == linked(packs) == ["comfyui-amused"]


def test_a_link_of_another_name_is_enough(packs: Path) -> None:
    (packs / "mine").symlink_to(install_comfyui.ROOT, target_is_directory=True)
    (packs / "other").symlink_to(packs / "other")
    install_comfyui.link(packs.parent)
    assert sorted(path.name for path in packs.iterdir()) == ["mine", "other"]


def test_another_copy_is_left_alone(packs: Path) -> None:
    (packs / "comfyui-amused").mkdir()
    with pytest.raises(SystemExit, match="another copy of the pack"):
        install_comfyui.link(packs.parent)
