"""Environments in which a user's commands run: only what was declared is there, taken from the tests' own environment.

A distribution is a link to each of its files, so that torch need not be installed once more. What such an environment
holds is the closure of requirements over the metadata of what is installed, as pip would find it.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import venv
from collections.abc import Callable, Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]


def declared(extra: str = "") -> list[str]:
    """The requirements in pyproject.toml, or those that an extra adds to them."""
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    return ast.literal_eval(re.search(rf"^{extra or 'dependencies'} = (\[.*?\])$", text, re.MULTILINE | re.DOTALL)[1])


def listed(file: Path) -> list[str]:
    """The requirements in a requirements.txt."""
    lines = (line.partition("#")[0].strip() for line in file.read_text("utf-8").splitlines())
    return [line for line in lines if line]


def closure(requirements: Iterable[str], optional: Callable[[str], object] = lambda name: False) -> list[Distribution]:
    """What `requirements` bring, all of it; names for which `optional` is true may be missing.

    Raises:
        PackageNotFoundError: something else is not installed.
    """
    found: dict[str, Distribution] = {}
    done: set[tuple[str, str]] = set()
    waiting = [Requirement(line) for line in requirements]
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        try:
            found.setdefault(name, distribution(wanted.name))
        except PackageNotFoundError:
            if optional(name):
                continue
            raise
        for extra in {"", *wanted.extras} - {extra for known, extra in done if known == name}:
            done.add((name, extra))
            needs = map(Requirement, found[name].requires or ())
            waiting += [need for need in needs if need.marker is None or need.marker.evaluate({"extra": extra})]
    return list(found.values())


class BareEnvironment:
    """A virtual environment that holds these distributions and nothing else, not even pip.

    Attributes:
        python: its interpreter.
    """

    def __init__(self, folder: Path, distributions: Iterable[Distribution]) -> None:
        venv.create(folder, symlinks=True, with_pip=False)
        self.python = folder / "bin" / "python"
        self._variables = {
            "PATH": os.pathsep.join([str(folder / "bin"), os.defpath]),
            "HOME": str(folder),
            "PYTHONNOUSERSITE": "1",
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", ""),
        }
        place = self.run("python -c 'import sysconfig; print(sysconfig.get_path(\"purelib\"))'", folder).stdout.strip()
        for one in distributions:
            _link(one, Path(place))

    def install(self, wheel: Path, extra: str = "") -> None:
        """Installs a wheel; fails where something is not there that it declares."""
        what = f"amused-image{f'[{extra}]' if extra else ''} @ {wheel.as_uri()}"
        command = [sys.executable, "-m", "pip", "--python", str(self.python), "install", "-q", "--no-index", what]
        subprocess.run(command, check=True)

    def run(self, command: str, folder: Path) -> subprocess.CompletedProcess[str]:
        """Runs a shell command in `folder`, its output and its errors in `stdout`."""
        variables = {key: value for key, value in self._variables.items() if value}
        return subprocess.run(
            ["bash", "-c", command],
            cwd=folder,
            env=variables,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )


def _link(one: Distribution, place: Path) -> None:
    """Links every file of a distribution; those outside, such as its commands, are left out."""
    if one.files is None:
        raise RuntimeError(f"{one.name} has no list of its files, so that it cannot be linked.")
    for file in one.files:
        source = Path(one.locate_file(file))
        if ".." not in file.parts and source.exists():
            (place / file).parent.mkdir(parents=True, exist_ok=True)
            (place / file).symlink_to(source.resolve())
