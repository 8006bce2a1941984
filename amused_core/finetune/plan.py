"""Where a run gets its examples and what it writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

STATE, PRIOR, LORA = "state.safetensors", "prior.safetensors", "lora.safetensors"


@dataclass(frozen=True)
class TrainingPlan:
    """Where a run gets its examples and what it writes.

    Attributes:
        source, caption: as in `examples.read_examples`.
        output: the folder for everything that the run writes.
        save_every: steps from one saved state to the next; a crash loses no more than these.
        sample_every: steps from one sheet of samples to the next; 0: none.
        sample_prompts: what the samples show; empty: the captions of the first examples.
        width, height: pixels of the examples; None: the model's own.
    """

    source: Path
    caption: str | None
    output: Path
    save_every: int = 100
    sample_every: int = 0
    sample_prompts: tuple[str, ...] = ()
    width: int | None = None
    height: int | None = None
