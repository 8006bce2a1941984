"""A batch job: what is to be drawn, where it goes, and which share of it is ours."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from ..errors import AmusedError
from ..settings import inputs
from . import parquet
from .formats import FORMATS, Format, find_format
from .pictures import Picture
from .survey import Pictures, Survey, canonical

TOKENS = ("no", "also", "only")
# Parts are small enough for many machines to share a small job, and large enough for a sensible number of files.
PARTS, LEAST, MOST = 64, 64, 1000


@dataclass(frozen=True)
class Job:
    """What one run of the engine is asked for.

    Attributes:
        pictures: gives all pictures of the job from the start, whenever it is called.
        out: path or URL of the folder to write to.
        about: what else the pictures depend on, for the manifest; plain values.
        source: the file or URL of the rows; other names are relative to it.
        format: one of `FORMATS`.
        tokens: "no"; "also": tokens beside pictures; "only": tokens alone, to be decoded later.
        ending: of pictures, ".png" or ".jpg".
        batch: pictures drawn at a time; None: what the backend says.
        part: pictures in a part, which is what machines share and files hold; None: by the job's size.
        shard: (i, n): every n-th part from part i on.
        retry_errors: draw again what could not be drawn.
        overwrite: remove what another job left in `out`.
        unlock: go on though another process has locked `out`.
    """

    pictures: Pictures
    out: str
    about: dict[str, Any]
    source: str = ""
    format: str = "files"
    tokens: str = "no"
    ending: str = ".png"
    batch: int | None = None
    part: int | None = None
    shard: tuple[int, int] = (0, 1)
    retry_errors: bool = False
    overwrite: bool = False
    unlock: bool = False

    def __post_init__(self) -> None:
        inputs.choice(self.format, "format", FORMATS)
        inputs.choice(self.tokens, "tokens", TOKENS)
        index, count = self.shard
        inputs.whole(count, "The number of shards", 1, 1_000_000)
        inputs.whole(index, "The shard", 0, count - 1)
        for name in ("batch", "part"):
            if (value := getattr(self, name)) is not None:
                inputs.whole(value, name, 1, 100_000)


@dataclass(frozen=True)
class Plan:
    """A job that was looked at.

    Attributes:
        job, survey: which.
        identity: what the backend says of itself.

    Raises:
        AmusedError: the rows have a column that the format needs itself.
    """

    job: Job
    survey: Survey
    identity: dict[str, Any]

    def __post_init__(self) -> None:
        for name in parquet.CONTENT if self.job.format == "parquet" else ():
            if name in self.survey.columns:
                raise AmusedError(f"The rows have a column {name!r}, which --format parquet writes; rename it.")

    @property
    def size(self) -> int:
        """Pictures in a part."""
        return self.job.part or min(MOST, max(LEAST, -(-self.survey.pictures // PARTS)))

    @property
    def parts(self) -> range:
        """The numbers of our parts."""
        return range(self.job.shard[0], -(-self.survey.pictures // self.size), self.job.shard[1])

    @property
    def total(self) -> int:
        """Pictures in our parts."""
        return sum(min(self.size, self.survey.pictures - part * self.size) for part in self.parts)

    @property
    def format(self) -> Format:
        """How parts are stored."""
        ending = ".npy" if self.job.tokens == "only" else self.job.ending
        return find_format(self.job.format, ending, self.survey.columns)

    def parts_of_pictures(self) -> Iterator[tuple[int, list[Picture]]]:
        """Our parts, one at a time: number and pictures."""
        pictures = iter(self.job.pictures())
        for number in range(self.parts.stop):
            part = list(islice(pictures, self.size))
            if number in self.parts:
                yield number, part

    def manifest(self) -> dict[str, Any]:
        """What tells this job apart from others; shards of a job have the same."""
        survey, job = self.survey, self.job
        content = {
            "model": self.identity,
            "rows": {"rows": survey.rows, "pictures": survey.pictures, "digest": survey.digest},
            "columns": list(survey.columns),
            "output": {"format": job.format, "tokens": job.tokens, "ending": job.ending, "part": self.size},
            "options": job.about,
        }
        return {"fingerprint": hashlib.sha256(canonical(content)).hexdigest(), **content, "source": job.source}


def parse_shard(text: str) -> tuple[int, int]:
    """Text such as "2/4" as (2, 4).

    Raises:
        AmusedError: it is no such pair.
    """
    index, slash, count = text.partition("/")
    if not slash or not index.isdecimal() or not count.isdecimal() or not int(index) < int(count):
        raise AmusedError(f"--shard is {text!r}; allowed are 0/N to N-1/N, such as 0/4.")
    return int(index), int(count)
