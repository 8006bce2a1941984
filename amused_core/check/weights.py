"""The tensors of a checkpoint beside those that its configs call for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import torch

from ..checkpoint import Checkpoint
from ..errors import CheckpointError
from ..model.loading import blank_module
from .findings import Finding, listed

PARTS = ("transformer", "vqvae", "text_encoder")


def weight_findings(checkpoint: Checkpoint) -> list[Finding]:
    """One finding for each part: names, shapes and dtypes of its tensors, and whether all are finite numbers."""
    return [_part_finding(checkpoint, part) for part in PARTS]


def _part_finding(checkpoint: Checkpoint, part: str) -> Finding:
    try:
        expected = blank_module(checkpoint, part).state_dict()
        state = checkpoint.state(part)
    except CheckpointError as error:
        return Finding(f"{part} weights", False, str(error))
    problems = {
        "missing": [name for name in expected if name not in state],
        # Older checkpoints store this constant buffer; newer transformers versions rebuild it.
        "unexpected": [name for name in state if name not in expected and not name.endswith("position_ids")],
        "of another shape": [
            f"{name} {list(state[name].shape)} instead of {list(tensor.shape)}"
            for name, tensor in expected.items()
            if name in state and state[name].shape != tensor.shape
        ],
        "not floating-point": [n for n, v in state.items() if n in expected and not v.is_floating_point()],
        "NaN or infinite": [n for n, v in state.items() if v.is_floating_point() and not bool(v.isfinite().all())],
    }
    problems = {problem: names for problem, names in problems.items() if names}
    count = sum(value.numel() for value in state.values())
    result = f"{len(state)} tensors, {count:,} parameters in {dtype_names(v.dtype for v in state.values())}"
    if problems:
        result = "; ".join(f"{len(names)} {problem}: {listed(names)}" for problem, names in problems.items())
    return Finding(f"{part} weights", not problems, result)


def dtype_names(dtypes: Iterable[torch.dtype]) -> str:
    """Dtypes in words, the most frequent first."""
    names = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}
    counts = Counter(names.get(dtype, str(dtype).removeprefix("torch.")) for dtype in dtypes)
    return " and ".join(name for name, _ in counts.most_common())
