"""A model through any sequence of loads, LoRAs, saves and pictures: each picture is that of a fresh model in its state.

The state is what a user would say it is: where the model was loaded from, as what, and with which LoRAs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st

from amused_core import AmusedModel, load_model
from tests.campaign.explore import explore, refusal
from tests.campaign.records import Record
from tests.campaign.world import World, noise

CASES = 25
DTYPES = ("fp32", "fp16", "bf16")
Operation = tuple[str, dict[str, Any]]


@dataclass(frozen=True)
class State:
    """What a model is."""

    path: Path
    dtype: str = "fp32"
    mmap: bool = False
    loras: tuple[tuple[Path, float, float], ...] = ()

    def fresh(self) -> AmusedModel:
        """A new model in this state."""
        model = load_model(self.path, dtype=self.dtype, mmap=self.mmap)
        for lora in self.loras:
            model.load_lora(*lora)
        return model


def operations(world: World) -> st.SearchStrategy[list[Operation]]:
    """A sequence of steps."""
    strengths = st.sampled_from([1.0, 0.5, -1.0, 0.0])
    loras = st.fixed_dictionaries(
        {"path": st.sampled_from(world.loras), "strength": strengths, "text_strength": strengths}
    )
    drawn = st.fixed_dictionaries(
        {"prompt": st.sampled_from(["a cat", "a dog", "", ["a cat", "a dog"]])},
        optional={
            "seed": st.integers(0, 3),
            "negative_prompt": st.sampled_from(["a dog", "a cat"]),
            "cfg": st.sampled_from([1.0, 3.0]),
            "fast": st.booleans(),
            "int8": st.booleans(),
            "reuse": st.booleans(),
            "order": st.sampled_from(["halton", "entropy", "random"]),
            "cfg_every": st.sampled_from([1, 2]),
            "strength": st.sampled_from([0.5, 1.0]),
            "image": st.just(noise()),
            "top_k": st.sampled_from([0, 5]),
        },
    )
    load = st.fixed_dictionaries(
        {"path": st.sampled_from([world.model_folder, world.one_file]), "dtype": st.sampled_from(DTYPES)},
        optional={"mmap": st.booleans()},
    )
    step = st.one_of(
        st.tuples(st.just("generate"), drawn),
        st.tuples(st.just("load_lora"), loras),
        st.tuples(st.just("unload_loras"), st.just({})),
        st.tuples(st.just("load"), load),
        st.tuples(st.just("save"), st.fixed_dictionaries({"ending": st.sampled_from(["", ".safetensors"])})),
        st.tuples(st.just("refused"), st.sampled_from([{"path": "/no/such"}, {"path": world.picture}])),
        st.tuples(st.just("weights_changed"), st.just({})),
    )
    return st.lists(step, min_size=2, max_size=8)


class Kind:
    """Blocks of sequences."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.names = count()
        self.strategy = operations(world)

    def block(self, record: Record, seed: int, known: set[str]) -> None:
        """Adds to `record` what a block of sequences shows."""
        self.figures = record.figures
        explore(record, self.strategy, self.check, CASES, seed, known, describe)

    def check(self, steps: Sequence[Operation]) -> None:
        """Raises where a picture is not what a fresh model draws."""
        state = State(self.world.model_folder)
        model = state.fresh()
        for name, given in [*steps, ("generate", {"prompt": "a cat"})]:
            if name == "load":
                state = State(**given)
                model = state.fresh()
            elif name == "load_lora":
                model.load_lora(**given)
                state = replace(state, loras=(*state.loras, (given["path"], given["strength"], given["text_strength"])))
            elif name == "unload_loras":
                model.unload_loras()
                state = replace(state, loras=())
            elif name == "save":
                self.save(model, state, given["ending"])
            elif name == "refused":
                assert refusal(lambda model=model, given=given: model.load_lora(**given)), "the LoRA is taken"
            elif name == "weights_changed":
                model.weights_changed()
            else:
                self.draw(model, state, given)

    def save(self, model: AmusedModel, state: State, ending: str) -> None:
        """What is saved is the model without LoRAs, as stored."""
        path = self.world.scratch / f"{next(self.names)}{ending}"
        model.save(path)
        saved, plain = (replace(state, path=p, loras=()).fresh() for p in (path, state.path))
        drawn = [m.generate("a cat", steps=2).tokens for m in (saved, plain)]
        assert torch.equal(*drawn), "the saved model draws something else"

    def draw(self, model: AmusedModel, state: State, given: dict[str, Any]) -> None:
        """A picture is that of a fresh model, and the same alone and in a batch."""
        given = {"steps": 3, **given}
        works = {}
        if refusal(lambda: works.update(result=model.generate(**given))):
            assert refusal(lambda: state.fresh().generate(**given)), "only the fresh model takes it"
            return
        result, fresh = works["result"], state.fresh().generate(**given)
        assert torch.equal(result.tokens, fresh.tokens), "other tokens than a fresh model's"
        assert torch.equal(result.images, fresh.images), "other pixels than a fresh model's"
        if len(result.tokens) == 1:
            return
        for row, settings in enumerate(result.settings):
            image = {"image": given["image"]} if "image" in given else {}
            alone = model.generate(**settings, **image)
            self.figures["pairs"] = self.figures.get("pairs", 0) + 1
            if not torch.equal(alone.tokens[0], result.tokens[row]):
                self.figures["differ"] = self.figures.get("differ", 0) + 1
                raise AssertionError("another picture alone than in a batch")


def describe(steps: Sequence[Operation]) -> str:
    """The sequence as code, nearly."""
    calls = []
    for name, given in steps:
        shown = {key: "noise" if isinstance(v, torch.Tensor) else getattr(v, "name", v) for key, v in given.items()}
        calls.append(f"{name}({', '.join(f'{key}={value!r}' for key, value in shown.items())})")
    return "; ".join(calls)


@contextlib.contextmanager
def kind(folder: Path) -> Iterator[Kind]:
    """The cases of this file, in a folder of their own."""
    yield Kind(World(folder))
