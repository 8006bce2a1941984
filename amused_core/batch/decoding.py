"""Pictures of tokens that were drawn earlier, by a batch job or by `amused generate --save-tokens`."""

from __future__ import annotations

import heapq
import io
import tarfile
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import AmusedError, one_line
from ..files.tokens import read_tokens
from .backend import Drawn
from .columns import ARGUMENTS
from .formats import Packed, find_format
from .ledger import MANIFEST, Ledger, part_name
from .model_backend import ModelBackend
from .names import DIGITS, geneval_metadata
from .pictures import Picture
from .store import Store

# What a record says of a picture beside its settings.
OURS = ("number", "row", "id", "file", "status", "error", "seconds", "place")
MAX_ID = 2**32 - 1


class TokenSource:
    """The tokens of a batch job, or of a NumPy file.

    Args:
        url: the job's folder, or a `.npy` file.

    Attributes:
        source: what names of images and masks are relative to.
        ending: of the images that the job would have written.
        part: images in a part of the job; None: a `.npy` file has none.

    Raises:
        AmusedError: neither, or a job without tokens.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.source, self.ending = "", ".png"
        self.part: int | None = None
        if url.endswith(".npy"):
            return
        self._ledger = Ledger(Store(url))
        manifest = self._ledger.manifest()
        if manifest is None:
            raise AmusedError(f"{url!r} is no folder of a batch job; allowed are those, and .npy files.")
        try:
            output, self._columns = manifest["output"], tuple(manifest["columns"])
            kept, self.ending, self.part = output["tokens"], output["ending"], output["part"]
            self._format = find_format(output["format"], self.ending, self._columns)
        except (KeyError, TypeError) as error:
            raise AmusedError(f"{MANIFEST} in {url!r} is not of a batch job: {one_line(error)} is missing.") from error
        if kept == "no":
            raise AmusedError(f"The job in {url!r} has no tokens; --tokens keeps them.")
        self.source = manifest.get("source", "")
        self._metadata = manifest.get("options", {}).get("layout") == "geneval"

    def pictures(self) -> Iterator[Picture]:
        """A picture for each grid of tokens: `arguments` has "tokens" [h,w], and "settings" where they are known."""
        if self.url.endswith(".npy"):
            for number, grid in enumerate(read_tokens(Path(self.url), MAX_ID)):
                name = f"{number:0{DIGITS}}"
                yield Picture(number, number, f"grid {number}", name, name, {"tokens": grid.numpy(), "settings": {}})
            return
        for part in self._ledger.part_numbers():
            records = self._ledger.records(part)
            drawn = {record["number"]: record for record in records if record["status"] == "ok"}
            pictures = (
                self._picture(drawn[number], file, tokens) for number, file, tokens in self._tokens(part, drawn)
            )
            failed = (self._failed(record) for record in records if record["number"] not in drawn)
            # With those that failed, the parts are those of the job.
            yield from heapq.merge(pictures, failed, key=attrgetter("number"))

    def _picture(self, record: dict[str, Any], file: str, tokens: np.ndarray) -> Picture:
        columns = {name: record[name] for name in self._columns if name in record}
        settings = {name: value for name, value in record.items() if name not in OURS and name not in columns}
        arguments = {"tokens": tokens, "settings": settings}
        ours, sidecar = (record["number"], record["row"], f"row {record['row']}", record["id"]), None
        if self._metadata:
            name = geneval_metadata(record["row"])
            with self._ledger.store.reading(name) as metadata:
                sidecar = name, metadata.read().decode()
        return Picture(*ours, file, arguments, columns, sidecar=sidecar)

    def _failed(self, record: dict[str, Any]) -> Picture:
        columns = {name: record[name] for name in self._columns if name in record}
        place = record.get("place") or f"row {record['row']}"
        return Picture(record["number"], record["row"], place, record["id"], columns=columns, error=record["error"])

    def _tokens(self, part: int, records: dict[int, dict[str, Any]]) -> Iterator[tuple[int, str, np.ndarray]]:
        """Number, file and tokens [h,w] of each picture that is stored."""
        store = self._ledger.store
        if not isinstance(self._format, Packed):
            for number, record in records.items():
                name = record["file"].rpartition(".")[0]
                with store.reading(f"{name}.npy") as file, self._whole(f"{name}.npy"):
                    yield number, name, np.lib.format.read_array(io.BytesIO(file.read()), allow_pickle=False)[0]
        elif not self._ledger.is_finished(part):
            raise AmusedError(f"The job in {self.url!r} is not finished; run it to its end first.")
        elif records:
            packed = part_name(part) + self._format.ending
            with store.reading(packed) as file, self._whole(packed):
                for drawing in self._format.unpack(file):
                    if drawing.number in records and drawing.tokens is not None:
                        yield drawing.number, drawing.file, drawing.tokens[0]

    @contextmanager
    def _whole(self, name: str) -> Iterator[None]:
        try:
            yield
        except AmusedError:
            raise
        except (ValueError, KeyError, EOFError, OSError, tarfile.TarError) as error:
            raise AmusedError(f"{name} in {self.url!r} is damaged: {one_line(error)}.") from error


class DecodingBackend(ModelBackend):
    """Decodes tokens; what was outside a mask comes from the picture that the row began with."""

    BATCH = 16

    def group(self, picture: Picture) -> Hashable:
        """See `Backend`."""
        tokens = picture.arguments["tokens"]
        low, high = int(tokens.min()), int(tokens.max())
        if low < 0 or high >= self.model.vq.codebook_size:
            raise AmusedError(f"The tokens are {low} to {high}; allowed are 0 to {self.model.vq.codebook_size - 1}.")
        masked = picture.arguments["settings"].get("mask") is not None
        return tokens.shape, super().group(_drawable(picture)) if masked else None

    def batch_size(self, picture: Picture) -> int:
        """See `Backend`."""
        return self.BATCH

    def draw(self, pictures: Sequence[Picture]) -> Drawn:
        """See `Backend`."""
        grids = [torch.from_numpy(picture.arguments["tokens"].astype(np.int64)) for picture in pictures]
        tokens, settings = torch.stack(grids), [dict(picture.arguments["settings"]) for picture in pictures]
        return Drawn(tokens, settings, lambda: self._images(pictures, tokens))

    def _images(self, pictures: Sequence[Picture], tokens: Tensor) -> Tensor:
        if pictures[0].arguments["settings"].get("mask") is None:
            return self.model.vq.decode(tokens).cpu()
        return self.model.decode(self.join([_drawable(picture) for picture in pictures]), tokens)


def _drawable(picture: Picture) -> Picture:
    """The picture with the arguments that drew its tokens."""
    settings = picture.arguments["settings"]
    arguments = {name: settings[name] for name in (*ARGUMENTS, "seed") if settings.get(name) is not None}
    return Picture(picture.number, picture.row, picture.place, picture.id, picture.file, arguments)
