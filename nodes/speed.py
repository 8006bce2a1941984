"""The node that trades exactness for speed."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..amused_core.settings import HELP
from .host.sample import speed


class AmusedSpeed(io.ComfyNode):
    """A MODEL that does less work."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        share = {"min": 0.0, "max": 1.0, "step": 0.01}
        return io.Schema(
            node_id="AmusedSpeed",
            display_name="aMUSEd speed",
            category="aMUSEd",
            description="Faster, at the cost of different tokens. Lowering the sampler's steps to 6 to 8 saves the "
            "most.",
            inputs=[
                io.Model.Input("model", tooltip="The MODEL of 'Load aMUSEd', after all LoRAs and merges."),
                io.Boolean.Input("int8", default=True, tooltip=HELP["int8"]),
                io.Float.Input(
                    "guidance_from",
                    default=0.0,
                    **share,
                    tooltip="Start of guidance, as a fraction of the run; earlier steps have none.",
                ),
                io.Float.Input(
                    "guidance_to",
                    default=0.5,
                    **share,
                    tooltip="End of guidance, as a fraction of the run; later steps have none.",
                ),
                io.Int.Input(
                    "guidance_every",
                    default=2,
                    min=1,
                    max=100,
                    tooltip="Evaluates the negative prompt only in the first of this many guided steps. 1 is exact.",
                ),
            ],
            outputs=[
                io.Model.Output(
                    tooltip="Works with every sampler node that accepts an aMUSEd MODEL; the guidance settings have no "
                    "effect with 'DualCFGGuider' and 'PerpNegGuider'."
                )
            ],
        )

    @classmethod
    def execute(
        cls, model: Any, int8: bool, guidance_from: float, guidance_to: float, guidance_every: int
    ) -> io.NodeOutput:
        """The faster MODEL."""
        return io.NodeOutput(speed.faster(model, int8, (guidance_from, guidance_to), guidance_every))
