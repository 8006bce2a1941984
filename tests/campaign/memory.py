"""Memory of a server over many prompts of all sorts: it settles, and then does not grow."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from random import Random

import psutil
from comfy_server import Graph

from tests.campaign.graphs import golden
from tests.campaign.live import Live, home
from tests.campaign.records import Fault, Record

CASES = 50
WARM_UP = 100
# Until about here the C library takes a little more now and then, for prompts of new sizes.
SETTLED = 600
LIMIT = 20  # MB in a thousand prompts.
WORDS = ("a red apple", "two blue cats", "a house by the sea", "a dog", "green trees", "")


class Kind:
    """Blocks of prompts for one server.

    `growth` is what its memory grew by since the first hundred prompts, `leak` since it has settled.
    """

    def __init__(self, server: Live) -> None:
        self.server = server
        self.used: dict[int, float] = {}

    def block(self, record: Record, seed: int, known: set[str]) -> None:
        """Adds to `record` what the memory is after a block of prompts."""
        chance = Random(seed)
        for _ in range(CASES):
            outcome = self.server.outcome(prompt(chance))
            if outcome.status != "success":
                record.bad += 1
                record.faults.append(
                    Fault(outcome.place, f"{outcome.status}: {outcome.error}", "a prompt of this file")
                )
        record.cases += CASES
        self.server.post("/history", {"clear": True})  # Where ComfyUI keeps some 11 KB of every prompt.
        prompts = CASES * (len(self.used) + 1)
        used = self.used[prompts] = psutil.Process(self.server.pid).memory_info().rss / 2**20
        record.figures["used"] = used
        if prompts > WARM_UP:
            record.figures["growth"] = used - self.used[WARM_UP]
        if prompts > SETTLED:
            record.figures["leak"] = leak = used - self.used[SETTLED]
            if leak > LIMIT * max(0.25, (prompts - SETTLED) / 1000):
                record.bad += 1
                record.faults.append(Fault("leak", f"{leak:.1f} MB", f"prompts {SETTLED} to {prompts}"))


def prompt(chance: Random) -> Graph:
    """Text to image, image to image, with a LoRA, in other sizes and batches."""
    nodes = golden(chance.randint(0, 2**32))
    model = chance.choice(["embedded", "tiny", "tiny512"])
    nodes["1"]["inputs"]["model"] = model
    nodes["2"]["inputs"] |= {
        "positive": f"{chance.choice(WORDS)} {chance.randint(0, 99)}",
        "negative": chance.choice(WORDS),
    }
    size = {"batch_size": chance.randint(1, 3)}
    if model != "embedded":
        size |= {"width": chance.choice([32, 64]), "height": chance.choice([32, 64])}
    nodes["3"]["inputs"] |= size
    nodes["4"]["inputs"] |= {"cfg": chance.choice([1.0, 3.0]), "steps": chance.randint(1, 4)}
    if chance.random() < 0.3:
        image = {"width": 64, "height": 64, "batch_size": 1, "color": chance.randint(0, 0xFFFFFF)}
        nodes["8"] = {"class_type": "EmptyImage", "inputs": image}
        nodes["9"] = {"class_type": "VAEEncode", "inputs": {"pixels": ["8", 0], "vae": ["1", 2]}}
        nodes["4"]["inputs"] |= {"latent_image": ["9", 0], "denoise": 0.5}
    if model == "tiny" and chance.random() < 0.3:
        style = {"model": ["1", 0], "clip": ["1", 1], "lora_name": "style.safetensors"}
        strength = {"strength_model": chance.choice([0.5, 1.0]), "strength_clip": 1.0}
        nodes["10"] = {"class_type": "LoraLoader", "inputs": {**style, **strength}}
        nodes["4"]["inputs"]["model"], nodes["2"]["inputs"]["clip"] = ["10", 0], ["10", 1]
    return nodes


@contextlib.contextmanager
def kind(folder: Path) -> Iterator[Kind]:
    """The cases of this file, with a server of their own."""
    with Live(home(folder)) as server:
        yield Kind(server)
