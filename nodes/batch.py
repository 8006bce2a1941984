"""Batch jobs."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..amused_core.batch.pictures import Expansion
from .host.batch import job, rows
from .host.load.input_files import NONE
from .settings import DRAW, LATER, settings_of, widgets

MAX_SEED = 0xFFFFFFFFFFFFFFFF
SIDE = {"default": 0, "min": 0, "max": 4096, "step": 8}
TEXT_TIP = "A prompt per line, used if no file is selected."
FILE_TIP = (
    "A .jsonl, .csv, .tsv, .parquet or .txt file in the input folder, a row per image; columns: id, prompt, "
    "negative_prompt, seed, count, width, height, and every sampling setting by its name."
)
SEED_TIP = "Rows without a seed get one derived from this and their id."


class AmusedBatch(io.ComfyNode):
    """A table of prompts becomes a folder of images."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="AmusedBatch",
            display_name="aMUSEd batch",
            category="aMUSEd/batch",
            description="Generates and saves an image for each row, many at a time. If it is cancelled, finished "
            "images are kept, and queueing it again continues. The same tokens as 'amused batch' on the command line.",
            inputs=[
                io.Model.Input("model", tooltip="The MODEL of 'Load aMUSEd', with or without LoRAs and other changes."),
                io.Clip.Input("clip", tooltip="The CLIP of 'Load aMUSEd'."),
                io.Vae.Input("vae", tooltip="The VAE of 'Load aMUSEd'."),
                *_rows_inputs(),
                io.String.Input(
                    "output_folder",
                    default="amused/batch",
                    tooltip="Name in the output folder. A number is appended: the same job continues in its folder, "
                    "any other gets a new one.",
                ),
                io.Int.Input(
                    "batch_size",
                    default=0,
                    min=0,
                    max=256,
                    tooltip="Images at a time, without effect on them. 0: as many as memory allows, at most 32.",
                ),
                io.String.Input("negative_prompt", default="", tooltip="For rows without one: what to avoid."),
                io.Int.Input(
                    "width", **SIDE, tooltip="For rows without one: width in pixels. 0: the model's native width."
                ),
                io.Int.Input(
                    "height", **SIDE, tooltip="For rows without one: height in pixels. 0: the model's native height."
                ),
                *widgets("steps", "cfg", "schedule", "temperature"),
                *widgets(*DRAW, "cfg_schedule", "cfg_interval", *LATER, optional=True),
            ],
            outputs=[
                io.Image.Output(tooltip="The last images, at most 16, of the size of the very last."),
                io.String.Output(
                    display_name="results",
                    tooltip="Path of the results table, results.jsonl: a line per image with its file, settings and "
                    "columns. Rows that could not be generated are in errors.jsonl beside it.",
                ),
            ],
            is_output_node=True,
            hidden=[io.Hidden.prompt, io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, file: str | None) -> bool | str:
        """Refuses a missing file before anything runs."""
        return rows.problem(file) or True

    @classmethod
    def fingerprint_inputs(cls, **kwargs: Any) -> Any:
        """Never the same: a job that is queued again continues, or draws what has been deleted."""
        return float("nan")

    @classmethod
    def execute(
        cls,
        model: Any,
        clip: Any,
        vae: Any,
        file: str,
        text: str,
        base_seed: int,
        output_folder: str,
        batch_size: int,
        negative_prompt: str,
        width: int,
        height: int,
        **settings: Any,
    ) -> io.NodeOutput:
        """Draws what is not drawn yet."""
        given = {name: value for name, value in settings_of(settings).items() if value is not None}
        own = {"negative_prompt": negative_prompt, "width": width, "height": height}
        defaults = {**{name: value for name, value in own.items() if value}, **given}
        graph = (cls.hidden.prompt, cls.hidden.unique_id)
        images, results, shown = job.draw_rows(
            model, clip, vae, file, text, output_folder, base_seed, batch_size, defaults, *graph
        )
        return io.NodeOutput(images, results, ui={"images": shown})


class AmusedRows(io.ComfyNode):
    """A table of prompts as lists."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="AmusedRows",
            display_name="aMUSEd rows",
            category="aMUSEd/batch",
            description="Reads a table of prompts as lists: the nodes they are connected to run once per row.",
            inputs=_rows_inputs(),
            outputs=[
                io.String.Output(display_name="prompt", tooltip="The prompts.", is_output_list=True),
                io.String.Output(
                    display_name="negative_prompt", tooltip="The negative prompts; empty if not given.",
                    is_output_list=True,
                ),
                io.Int.Output(display_name="seed", tooltip="The seeds.", is_output_list=True),
                io.String.Output(
                    display_name="id",
                    tooltip="The ids, or the row numbers, as safe file names: for 'filename_prefix'.",
                    is_output_list=True,
                ),
                io.Int.Output(
                    display_name="width",
                    tooltip="Widths in pixels. 0 if not given: 'aMUSEd empty latent' then takes the model's own.",
                    is_output_list=True,
                ),
                io.Int.Output(
                    display_name="height",
                    tooltip="Heights in pixels. 0 if not given: 'aMUSEd empty latent' then takes the model's own.",
                    is_output_list=True,
                ),
                io.Int.Output(display_name="steps", tooltip="Steps; 12 if not given.", is_output_list=True),
                io.Float.Output(
                    display_name="cfg",
                    tooltip="Guidance scales. 0 if not given: 'aMUSEd sampler' then takes the model's own.",
                    is_output_list=True,
                ),
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, file: str | None) -> bool | str:
        """Refuses a missing file before anything runs."""
        return rows.problem(file) or True

    @classmethod
    def fingerprint_inputs(cls, file: str, **kwargs: Any) -> Any:
        """A file that is replaced is read again."""
        return rows.fingerprint(file)

    @classmethod
    def execute(cls, file: str, text: str, base_seed: int) -> io.NodeOutput:
        """Reads the rows."""
        return io.NodeOutput(*rows.lists(file, text, Expansion(seed=base_seed)))


def _rows_inputs() -> list[Any]:
    return [
        io.Combo.Input("file", options=[NONE, *rows.files.names()], default=NONE, tooltip=FILE_TIP),
        io.String.Input("text", multiline=True, default="", tooltip=TEXT_TIP),
        io.Int.Input("base_seed", default=0, min=0, max=MAX_SEED, tooltip=SEED_TIP),
    ]
