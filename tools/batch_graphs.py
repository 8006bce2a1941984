"""The example workflows about tables of prompts: a batch job, and lists for other nodes."""

from __future__ import annotations

import node_schema
from workflow import Workflow
from workflow_graphs import MICRO, decode, empty, loader, sampler, save

PROMPTS = """a {red|green} apple on a white background
a cat on a yellow background
a fox on a blue background
a boat on a pink background
an owl on a purple background
a crown on a green background
a guitar on an orange background
a key on a grey background"""
# What the widgets are set to, but for the rows.
SETTINGS = {
    entry["name"]: entry["default"] for entry in node_schema.read()["AmusedBatch"]["inputs"] if "default" in entry
}


def batch_job() -> Workflow:
    """Prompts to a folder of pictures."""
    flow = Workflow(
        "batch_job",
        "## A batch job\n\n"
        "**aMUSEd batch** generates an image for each prompt, many at a time, and saves them in the numbered folder "
        "`output/amused/batch_job`, with a table of results. Cancel it and queue it again: it continues. Any change "
        "starts a new folder.\n\n"
        "*{red|green}* in a prompt is one of the two, chosen by the image's seed. For long lists, put a table into "
        "ComfyUI's input folder (a prompt per line, or CSV, JSON lines or Parquet with columns such as *id*, "
        "*prompt*, *seed*, *steps*), press R and select it as `file`.\n\n"
        "On the command line, `amused batch` does the same, also on many machines.",
        columns=4,
    )
    load = loader(flow)
    own = {"text": PROMPTS, "output_folder": "amused/batch_job"}
    sockets = {"model": load[0], "clip": load[1], "vae": load[2]}
    flow.add("AmusedBatch", **sockets, **SETTINGS | own)
    return flow


def rows_as_lists() -> Workflow:
    """Rows that drive stock nodes."""
    flow = Workflow(
        "rows_as_lists",
        "## Rows as lists\n\n"
        "**aMUSEd rows** outputs the columns of a table as lists, and ComfyUI runs the nodes behind it once for each "
        "row: here, each image gets the prompt, the seed and the file name of its row, and a stock node mirrors "
        "it.\n\n"
        "For many rows use **aMUSEd batch**, which is faster, saves as it goes and continues after a cancellation.",
        columns=4,
    )
    load = loader(flow)
    table = flow.add("AmusedRows", file="none", text="\n".join(PROMPTS.splitlines()[:4]), base_seed=0)
    words = flow.add("AmusedTextEncode", clip=load[1], positive=table[0], negative=table[1], **MICRO)
    start = empty(flow, load, table[4], table[5])
    drawn = sampler(flow, load, words, start[0], table[2])
    flipped = flow.add(
        "ImageFlip", "Any stock node", image=decode(flow, load, drawn)[0], flip_method="y-axis: horizontally"
    )
    save(flow, flipped[0], table[3])
    return flow


BATCHES = (batch_job, rows_as_lists)
