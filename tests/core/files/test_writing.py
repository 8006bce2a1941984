"""Files are written whole, and with the mode that the umask allows."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
import torch

from amused_core import AmusedError
from amused_core.files.writing import beside, write_tensors, write_text


@pytest.fixture
def umask():
    """0o027: the owner may write, the group may read."""
    before = os.umask(0o027)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
@pytest.mark.usefixtures("umask")
def test_modes_follow_the_umask(tmp_path: Path) -> None:
    """safetensors itself lets only the owner read."""
    write_text(tmp_path / "text.md", "a")
    write_tensors(tmp_path / "new" / "weights.safetensors", {"a": torch.ones(2).t()}, {"format": "pt"})
    assert mode(tmp_path / "text.md") == mode(tmp_path / "new" / "weights.safetensors") == 0o640
    with beside(tmp_path / "folder") as partial:
        partial.mkdir()
        (partial / "inside").touch(mode=0o600)
    assert mode(tmp_path / "folder" / "inside") == 0o640


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(AmusedError, match="new.txt.*disk full"), beside(tmp_path / "new.txt") as partial:
        partial.write_text("ne")
        raise OSError("disk full")
    assert not list(tmp_path.iterdir())
