"""The rows of a batch job in a graph: a file of the input folder, or a text with a prompt a line."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from ....amused_core.batch.pictures import Expansion, Picture, expand, table_pictures
from ....amused_core.batch.rows import READERS, text_rows
from ....amused_core.errors import AmusedError
from ....amused_core.settings import check_settings, inputs
from ..load.input_files import NONE, InputFiles
from ..load.listing import Stamp

files = InputFiles("rows file", *(f".{ending}" for ending in READERS))
# What stands for the model's own value in the nodes' widgets.
OWN = {"width": 0, "height": 0, "steps": 12, "cfg": 0.0}
logger = logging.getLogger(__name__)


class Lists(NamedTuple):
    """The columns of all rows, in the order of the node's outputs."""

    prompt: list[str]
    negative_prompt: list[str]
    seed: list[int]
    id: list[str]
    width: list[int]
    height: list[int]
    steps: list[int]
    cfg: list[float]


def problem(name: str | None) -> str | None:
    """What is wrong with the name of a file, or None."""
    return None if name == NONE else files.problem(name)


def fingerprint(name: str) -> tuple[str, Stamp] | None:
    """Changes when the file is replaced."""
    return None if name == NONE else files.fingerprint(name)


def pictures(file: str, text: str, expansion: Expansion) -> Callable[[], Iterator[Picture]]:
    """Gives the pictures of the rows, whenever it is called; the file counts where one is chosen."""
    if file != NONE:
        return partial(table_pictures, str(files.path(file)), expansion)
    if not text.strip():
        raise AmusedError("There are no rows; choose a file of the input folder, or write a prompt a line.")
    return lambda: expand(text_rows(text), expansion)


def lists(file: str, text: str, expansion: Expansion) -> Lists:
    """The rows as lists for other nodes; bad rows are left out, and the log says why.

    Raises:
        AmusedError: no rows, or none that is good.
    """
    good: list[tuple[Any, ...]] = []
    bad: list[str] = []
    for picture in pictures(file, text, expansion)():
        try:
            good.append(_cells(picture))
        except AmusedError as error:
            bad.append(f"{picture.place}: {error}")
    if bad:
        logger.warning("aMUSEd: %s rows are left out; the first is %s", len(bad), bad[0])
    if not good:
        raise AmusedError(f"None of the rows can be used; the first is {bad[0]}" if bad else "There are no rows.")
    return Lists(*map(list, zip(*good, strict=True)))


def _cells(picture: Picture) -> tuple[Any, ...]:
    if picture.error:
        raise AmusedError(picture.error)
    given = {**OWN, **picture.arguments}
    texts = [inputs.texts(given.get(name, ""), name) for name in ("prompt", "negative_prompt")]
    size = [inputs.whole(given[name], name, 0, inputs.MAX_SIDE) for name in ("width", "height")]
    checked = check_settings({name: given[name] for name in ("steps", "cfg")}, 0)
    return (*(text for (text,) in texts), given["seed"], picture.file, *size, checked["steps"], checked["cfg"])
