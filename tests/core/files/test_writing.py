"""Files are written whole, with the mode that the umask allows, and never over what another process has written."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from amused_core import AmusedError
from amused_core.files import writing
from amused_core.files.writing import PREFIX, TakenError, beside, write_tensors, write_text

HALF_A_FILE = """
import sys, time
from pathlib import Path
from amused_core.files.writing import beside
with beside(Path(sys.argv[1])) as partial:
    partial.write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def umask() -> Iterator[None]:
    """0o027: the owner may write, the group may read."""
    before = os.umask(0o027)
    yield
    os.umask(before)


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that is writing `tmp_path / "other.txt"`."""
    command = [sys.executable, "-c", HALF_A_FILE, str(tmp_path / "other.txt")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "writing\n"
        yield process
        process.kill()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


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
    message = r"new.txt' cannot be written \(disk full\); nothing of it is left behind\.$"
    with pytest.raises(AmusedError, match=message), beside(tmp_path / "new.txt") as partial:
        partial.write_text("ne")
        raise OSError("disk full")
    assert names(tmp_path) == []


def test_a_failed_write_keeps_the_file_of_before(tmp_path: Path) -> None:
    file = tmp_path / "old.txt"
    file.write_text("old")
    with pytest.raises(AmusedError, match=r"the one that was there is kept\.$"), beside(file) as partial:
        partial.write_text("ne")
        raise OSError("disk full")
    assert names(tmp_path) == ["old.txt"] and file.read_text() == "old"


@pytest.mark.skipif(os.name == "nt", reason="folders are not locked on Windows")
def test_what_a_killed_process_left_is_removed(tmp_path: Path, writer: subprocess.Popen[str]) -> None:
    (left,) = names(tmp_path)
    assert left.startswith(PREFIX), "the final name is not there before the file is whole"
    write_text(tmp_path / "mine.txt", "a")
    assert names(tmp_path) == sorted([left, "mine.txt"]), "the process lives"
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writing._cleared.clear()  # As another process.
    write_text(tmp_path / "mine.txt", "b")
    assert names(tmp_path) == ["mine.txt"]


@pytest.mark.parametrize("folder", [False, True], ids=["file", "folder"])
def test_a_new_file_never_takes_the_place_of_another(tmp_path: Path, folder: bool) -> None:
    path = tmp_path / "name"
    with pytest.raises(TakenError, match="'.*name' already exists"), beside(path, overwrite=False) as partial:
        if folder:
            partial.mkdir()
            (partial / "inside").write_text("mine")
            path.mkdir()
            (path / "inside").write_text("another's")
        else:
            partial.write_text("mine")
            path.write_text("another's")
    assert (path / "inside" if folder else path).read_text() == "another's" and names(tmp_path) == ["name"]


def test_a_new_file_where_there_are_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("not here")

    monkeypatch.setattr(os, "link", refuse)
    with beside(tmp_path / "name", overwrite=False) as partial:
        partial.write_text("mine")
    assert names(tmp_path) == ["name"]
    with pytest.raises(TakenError), beside(tmp_path / "name", overwrite=False) as partial:
        partial.write_text("other")


def test_two_at_a_time_under_one_name(tmp_path: Path) -> None:
    """The file is one of both, whole."""
    texts, stop = ["a" * 50_000, "b" * 90_000], time.monotonic() + 1

    def write(text: str) -> None:
        while time.monotonic() < stop:
            write_text(tmp_path / "name", text)

    threads = [threading.Thread(target=write, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    seen = {(tmp_path / "name").read_text() for _ in range(50) if (tmp_path / "name").exists()}
    for thread in threads:
        thread.join()
    assert seen <= set(texts) and (tmp_path / "name").read_text() in texts and names(tmp_path) == ["name"]


@pytest.mark.parametrize("name", ["a\0b", "a" * 300, "file/below", "\ud800"], ids=["NUL", "long", "below", "surrogate"])
def test_a_name_that_no_file_can_have(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AmusedError, match=r"cannot be written \(.*\); .*\.$") as caught:
        write_text(tmp_path / name, "a")
    assert "\n" not in str(caught.value) and names(tmp_path) == ["file"]
