"""Tokens as files."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .host.load.input_files import NONE
from .host.save import output, tokens


class AmusedSaveTokens(io.ComfyNode):
    """The tokens of a latent in a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="AmusedSaveTokens",
            display_name="aMUSEd save tokens",
            category="aMUSEd/files",
            description="Saves the tokens of a latent as a NumPy file in the output folder, as 'amused generate' does.",
            inputs=[
                io.Latent.Input("samples", tooltip="Tokens; some may still be masked."),
                io.String.Input(
                    "filename_prefix",
                    default="amused/tokens",
                    tooltip="Name in the output folder; a number is appended, and no file is ever overwritten.",
                ),
            ],
            outputs=[],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, samples: Any, filename_prefix: str) -> io.NodeOutput:
        """Writes the file."""
        return io.NodeOutput(ui={"tokens": [output.shown(tokens.save(samples, filename_prefix))]})


class AmusedLoadTokens(io.ComfyNode):
    """A latent from a file of tokens."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="AmusedLoadTokens",
            display_name="aMUSEd load tokens",
            category="aMUSEd/files",
            description="Loads tokens from a NumPy file in the input folder: integers of shape batch, height, width.",
            inputs=[
                io.Combo.Input(
                    "file",
                    options=[NONE, *tokens.files.names()],
                    default=NONE,
                    tooltip="A .npy file in the input folder; -1 stands for a masked token.",
                ),
                io.Model.Input(
                    "model", tooltip="The aMUSEd MODEL that the tokens belong to; it determines the codebook size."
                ),
            ],
            outputs=[io.Latent.Output(tooltip="The tokens in the file.")],
        )

    @classmethod
    def validate_inputs(cls, file: str | None) -> bool | str:
        """Refuses a missing file before anything runs."""
        return tokens.files.problem(file) or True

    @classmethod
    def fingerprint_inputs(cls, file: str, **kwargs: Any) -> Any:
        """A file that is replaced is read again."""
        return tokens.files.fingerprint(file)

    @classmethod
    def execute(cls, file: str, model: Any) -> io.NodeOutput:
        """Reads the file."""
        return io.NodeOutput(tokens.load(file, model))
