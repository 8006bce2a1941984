"""A ComfyUI server for cases that need one: its models and files lie in a folder of the campaign."""

from __future__ import annotations

import io
import os
import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from comfy_server import ComfyServer, Graph, ServerError
from PIL import Image

from tests.campaign.records import ROOT, our_parts, place_of
from tests.campaign.world import World
from tests.tiny import write_tiny_checkpoint

SECONDS, PATIENCE = 30, 300
OWN_ERRORS = ("AmusedError", "CheckpointError", "AttentionError", "TakenError")
FRAME = re.compile(r'File "([^"]+)", line (\d+)')


class Dead(Exception):
    """The server has ended."""


class Hung(Exception):
    """A prompt goes on although it was interrupted."""


@dataclass(frozen=True)
class Outcome:
    """What became of a prompt: "success", "refused" (before it ran), "slow", "sentence", "stock error" or "raw"."""

    status: str
    place: str = ""
    error: str = ""
    node: str = ""
    outputs: dict[str, Any] | None = None


def home(folder: Path) -> Path:
    """A base directory of ComfyUI with our pack, two tiny models, a LoRA and a picture."""
    world = World(folder / "world")
    for name in ("custom_nodes", "input", "models/loras"):
        (folder / name).mkdir(parents=True)
    (folder / "custom_nodes" / "comfyui-amused").symlink_to(ROOT, target_is_directory=True)
    shutil.copytree(world.model_folder, folder / "models" / "amused" / "tiny")
    write_tiny_checkpoint(folder / "models" / "amused" / "tiny512", downsample=True, seed=1)
    shutil.copyfile(world.loras[0], folder / "models" / "loras" / "style.safetensors")
    shutil.copyfile(world.picture, folder / "input" / "picture.png")
    np.save(folder / "input" / "tokens.npy", np.zeros((1, 8, 8), np.int64))
    return folder


class Live(ComfyServer):
    """A server on a base directory that is there already, and may be another server's, too."""

    def __init__(self, folder: Path) -> None:
        options = ["--cpu", "--base-directory", str(folder), "--database-url", "sqlite:///:memory:"]
        super().__init__(Path(os.environ["COMFYUI_DIR"]), arguments=[*options, "--disable-api-nodes"], keep_files=True)

    def outcome(self, graph: Graph, seconds: float = SECONDS) -> Outcome:
        """Runs a graph and says how it ended.

        Raises:
            Dead: the server ended.
            Hung: it does not react.
        """
        try:
            answer = self.post("/prompt", {"prompt": graph})
        except ServerError as error:
            return Outcome("refused", error=str(error))
        except OSError as error:
            return self._refused(error)
        prompt, deadline, interrupted = answer["prompt_id"], time.monotonic() + seconds, False
        while True:
            try:
                history = self.get(f"/history/{prompt}")
            except OSError as error:
                if self._process is None or self._process.poll() is not None:
                    raise Dead(self.log()) from error
                history = {}
            if prompt in history:
                return Outcome("slow") if interrupted else _outcome(history[prompt])
            if time.monotonic() > deadline:
                if interrupted:
                    raise Hung(self.log())
                self.post("/interrupt", {})
                interrupted, deadline = True, time.monotonic() + PATIENCE
            time.sleep(0.02)

    def _refused(self, error: OSError) -> Outcome:
        """A graph that was refused, or a server that is gone."""
        if not hasattr(error, "read"):
            raise Dead(self.log()) from error
        text = error.read().decode("utf-8", "replace")
        frames = [(file, int(line)) for file, line in FRAME.findall(text.replace('\\"', '"'))]
        if "exception_during" in text and frames and our_parts(frames[-1][0]):
            return Outcome("raw", place_of(frames), text[-400:])
        return Outcome("refused", error=text)

    def draw(self, graph: Graph) -> list[bytes]:
        """The pixels of the pictures of a graph that works."""
        outcome = self.outcome(graph)
        assert outcome.status == "success", outcome
        return [Image.open(io.BytesIO(file)).tobytes() for file in self.pictures(outcome.outputs or {})]


def _outcome(entry: dict[str, Any]) -> Outcome:
    if entry["status"]["status_str"] == "success":
        return Outcome("success", outputs=entry["outputs"])
    data = next((data for kind, data in entry["status"]["messages"] if kind == "execution_error"), None)
    if data is None:
        return Outcome("slow")
    frames = [(file, int(line)) for text in data["traceback"] for file, line in FRAME.findall(text)]
    return _error(frames, data["exception_type"].split(".")[-1], data["exception_message"].strip(), data["node_id"])


def _error(frames: Sequence[tuple[str, int]], kind: str, message: str, node: str) -> Outcome:
    """Whose error it is: the last of ComfyUI's files or ours on the way to it says so."""
    comfyui = str(Path(os.environ["COMFYUI_DIR"]).resolve())
    last = next((f for f, _ in reversed(frames) if our_parts(f) or str(Path(f).resolve()).startswith(comfyui)), "")
    where, text = place_of(frames), f"{kind}: {message}"
    if kind in OWN_ERRORS:
        whole = "\n" not in message and message.endswith(".") and len(message) < 900
        return Outcome("sentence" if whole else "raw", where, text, node)
    return Outcome("raw" if our_parts(last) else "stock error", where, text, node)
