"""The example workflows as data: nodes, their places on the canvas, and the note that explains each.

`tools/build_workflows.py` makes the files in workflows/ from these.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import node_schema
from workflow import Node, Output, Workflow

MICRO = {"width": 0, "height": 0, "crop_top": 0, "crop_left": 0, "aesthetic_score": 6.0}
# What the sampler's widgets are set to, but for the seed.
SETTINGS = {
    entry["name"]: entry["default"]
    for entry in node_schema.read()["AmusedSampler"]["inputs"]
    if "default" in entry and entry["name"] != "seed"
}
REPLACE = (
    "The upper frame generates the input image, so that nothing has to be downloaded. To edit "
    "your own image, replace it with a **Load Image** node."
)
# Stands at the end of every note. `properties.models` of the loader would not do: ComfyUI's dialog for missing models
# fetches single files, and a checkpoint is a folder.
WEIGHTS = (
    "\n\n### The real weights\n\n"
    "The embedded model needs no download, but it knows only 172 things. For photographs and everything "
    "else, get [amused-512](https://huggingface.co/amused/amused-512) or "
    "[amused-256](https://huggingface.co/amused/amused-256): in ComfyUI's folder, run\n\n"
    "    hf download amused/amused-512 --local-dir models/amused/amused-512\n\n"
    "(`pip install huggingface_hub` installs `hf`), then press R and select it in **Load aMUSEd**."
)


def loader(flow: Workflow) -> Node:
    """The embedded model."""
    return flow.add("AmusedLoader", model="embedded", dtype="auto", text_encoder_dtype="auto")


def prompt(flow: Workflow, load: Node, text: str, title: str | None = None) -> Node:
    """A text node without a negative prompt."""
    return flow.add("AmusedTextEncode", title, clip=load[1], positive=text, negative="", **MICRO)


def sampler(flow: Workflow, load: Node, text: Node, latent: Output, seed: int | Output, **changes: Any) -> Node:
    """The all-in-one sampler, with the model's own recommendations unless changed."""
    sockets = {"model": load[0], "positive": text[0], "negative": text[1], "latent_image": latent}
    return flow.add("AmusedSampler", seed=seed, **sockets, **SETTINGS | changes)


def empty(flow: Workflow, load: Node, width: int | Output = 0, height: int | Output = 0, batch_size: int = 1) -> Node:
    """Masked tokens; a side of 0 is the model's own."""
    return flow.add("AmusedEmptyLatent", model=load[0], width=width, height=height, batch_size=batch_size)


def decode(flow: Workflow, load: Node, latent: Node) -> Node:
    """Tokens to pixels."""
    return flow.add("AmusedVQDecode", samples=latent[0], vae=load[2], tile_size=0)


def save(flow: Workflow, image: Output, name: str | Output, title: str | None = None) -> Node:
    """The stock Save Image."""
    return flow.add("SaveImage", title, images=image, filename_prefix=name)


def drawn_picture(flow: Workflow, load: Node, text: str, seed: int) -> Node:
    """The picture that an editing workflow starts from, in a frame of its own."""
    words = prompt(flow, load, text, "Prompt of the input image")
    start = empty(flow, load)
    drawn = sampler(flow, load, words, start[0], seed)
    picture = decode(flow, load, drawn)
    flow.frame("The image to edit", words, start, drawn, picture)
    return picture


def text_to_image() -> Workflow:
    """A prompt to a picture."""
    flow = Workflow(
        "text_to_image",
        "## Text-to-image\n\n"
        "The embedded model generates 172 things on ten background colours, large, in a corner, or two together: "
        "*a red apple on a blue background*, *a cat in the top left corner*, *a fox left of an owl on pink*.\n\n"
        "A `cfg` of 0 in the sampler selects the model's recommended value, and a width and height of 0 its "
        "native size.",
    )
    load = loader(flow)
    words = prompt(flow, load, "a red apple on a blue background")
    start = empty(flow, load)
    drawn = sampler(flow, load, words, start[0], seed=1)
    save(flow, decode(flow, load, drawn)[0], "amused/text_to_image")
    return flow


def image_to_image() -> Workflow:
    """A picture and a prompt to a changed picture."""
    flow = Workflow(
        "image_to_image",
        "## Image-to-image\n\n"
        "Masks a part of the image's tokens and regenerates them with another prompt. `denoise` sets how many: a "
        "low value keeps nearly everything, 1 ignores the image.\n\n" + REPLACE,
    )
    load = loader(flow)
    picture = drawn_picture(flow, load, "a red apple on a white background", seed=1)
    save(flow, picture[0], "amused/image_to_image_before", "Before")
    flow.row()
    words = prompt(flow, load, "a strawberry on a white background", "Target prompt")
    tokens = flow.add("AmusedVQEncode", pixels=picture[0], vae=load[2], sides="crop", tile_size=0)
    changed = sampler(flow, load, words, tokens[0], seed=2, denoise=0.7)
    save(flow, decode(flow, load, changed)[0], "amused/image_to_image", "After")
    return flow


def inpaint() -> Workflow:
    """A masked part of a picture regenerated."""
    flow = Workflow(
        "inpaint",
        "## Inpainting\n\n"
        "Regenerates only the masked area. **aMUSEd inpaint mask** expands the mask to whole tokens; **aMUSEd "
        "inpaint composite** restores the original pixels everywhere else.\n\n"
        "The mask here is a rectangle from stock mask nodes. With **Load Image**, use the mask editor instead.\n\n"
        + REPLACE,
    )
    load = loader(flow)
    picture = drawn_picture(flow, load, "a frog on a yellow background", seed=1)
    save(flow, picture[0], "amused/inpaint_before", "Before")
    flow.row()
    nothing = flow.add("SolidMask", "Nothing masked", value=0.0, width=128, height=128)
    patch = flow.add("SolidMask", "The right half", value=1.0, width=64, height=128)
    mask = flow.add(
        "MaskComposite", "Area to regenerate", destination=nothing[0], source=patch[0], x=64, y=0, operation="add"
    )
    words = prompt(flow, load, "a panda on a yellow background", "Prompt for the area")
    hole = flow.add(
        "AmusedInpaintMask",
        pixels=picture[0],
        mask=mask[0],
        vae=load[2],
        grow=0,
        invert=False,
        sides="crop",
    )
    filled = sampler(flow, load, words, hole[0], seed=3)
    result = decode(flow, load, filled)
    whole = flow.add("AmusedInpaintComposite", original=hole[2], generated=result[0], mask=hole[1], feather=4)
    save(flow, whole[0], "amused/inpaint", "After")
    return flow


def outpaint() -> Workflow:
    """Half a picture continued beyond its edge."""
    flow = Workflow(
        "outpaint",
        "## Outpainting\n\n"
        "The stock **Pad Image for Outpainting** adds space and a mask; the model generates what belongs there. "
        "The right half of the input image is cut off, so you can see the model restore it. The numbers are in "
        "pixels: multiply them by 4 for amused-512.\n\n" + REPLACE,
    )
    load = loader(flow)
    picture = drawn_picture(flow, load, "a clock on a green background", seed=1)
    half = flow.add("ImageCrop", "Cut off the right half", image=picture[0], width=64, height=128, x=0, y=0)
    save(flow, half[0], "amused/outpaint_before", "Before")
    flow.row()
    room = {"left": 0, "top": 0, "right": 64, "bottom": 0, "feathering": 0}
    padded = flow.add("ImagePadForOutpaint", image=half[0], **room)
    words = prompt(flow, load, "a clock on a green background", "Prompt of the whole image")
    hole = flow.add(
        "AmusedInpaintMask",
        pixels=padded[0],
        mask=padded[1],
        vae=load[2],
        grow=0,
        invert=False,
        sides="crop",
    )
    filled = sampler(flow, load, words, hole[0], seed=4)
    result = decode(flow, load, filled)
    whole = flow.add("AmusedInpaintComposite", original=hole[2], generated=result[0], mask=hole[1], feather=0)
    save(flow, whole[0], "amused/outpaint", "After")
    return flow


def regional_prompts() -> Workflow:
    """Two prompts, each for its own half of the picture."""
    flow = Workflow(
        "regional_prompts",
        "## Regional prompts\n\n"
        "Each prompt applies to one half of the image: the stock **Conditioning (Set Mask)** and **Conditioning "
        "(Combine)** work as with every native model. Each mask covers half of the image.",
    )
    load = loader(flow)
    left = prompt(flow, load, "a cat on a yellow background", "Left half")
    right = prompt(flow, load, "a dog on a blue background", "Right half")
    black = flow.add("SolidMask", "Nothing", value=0.0, width=128, height=128)
    white = flow.add("SolidMask", "Half an image", value=1.0, width=64, height=128)
    halves = []
    for words, x, side in ((left, 0, "left"), (right, 64, "right")):
        mask = flow.add(
            "MaskComposite", f"The {side} half", destination=black[0], source=white[0], x=x, y=0, operation="add"
        )
        halves.append(
            flow.add(
                "ConditioningSetMask",
                conditioning=words[0],
                mask=mask[0],
                strength=1.0,
                set_cond_area="default",
            )
        )
    both = flow.add("ConditioningCombine", conditioning_1=halves[0][0], conditioning_2=halves[1][0])
    start = empty(flow, load)
    drawn = flow.add(
        "AmusedSampler",
        model=load[0],
        seed=1,
        positive=both[0],
        negative=left[1],
        latent_image=start[0],
        **SETTINGS,
    )
    save(flow, decode(flow, load, drawn)[0], "amused/regional_prompts")
    return flow


def batch_of_variations() -> Workflow:
    """Six variations of one picture at once."""
    flow = Workflow(
        "batch_of_variations",
        "## A batch of variations\n\n"
        "Six variations of one image at once: the stock **Repeat Latent Batch** copies its tokens, and the "
        "sampler regenerates different ones in each copy (`denoise` sets how many).\n\n"
        "With *per_image* seeding, image i uses seed + i and is the same alone: to reproduce the third image, "
        "set the amount to 1 and add 2 to the seed.\n\n"
        "A prompt alone gives little variation here, since the embedded model knows only one image of each "
        "thing, unless the prompt leaves something open: with *an animal* and `batch_size` 6 in **aMUSEd empty "
        "latent**, it generates six animals. With amused-256 or amused-512, that `batch_size` is always enough.\n\n"
        + REPLACE,
    )
    load = loader(flow)
    picture = drawn_picture(flow, load, "a red apple on a white background", seed=1)
    flow.row()
    words = prompt(flow, load, "a strawberry on a white background", "Prompt of the variations")
    tokens = flow.add("AmusedVQEncode", pixels=picture[0], vae=load[2], sides="crop", tile_size=0)
    copies = flow.add("RepeatLatentBatch", samples=tokens[0], amount=6)
    drawn = sampler(flow, load, words, copies[0], seed=100, denoise=0.5)
    save(flow, decode(flow, load, drawn)[0], "amused/variation")
    return flow


def seeing_inside() -> Workflow:
    """One run, seen from inside."""
    flow = Workflow(
        "seeing_inside",
        "## Seeing inside\n\n"
        "**aMUSEd trace** generates the same image as **aMUSEd sampler** and records the run. The record is "
        "shown as:\n"
        "- an animation of the steps, with masked tokens under grey squares,\n"
        "- maps of when each token was unmasked (`order`) and how uncertain the model was at the first step "
        "(`entropy`),\n"
        "- the attention of each part of the image to a word of the prompt: try *blue* as the `word`,\n"
        "- the ids of the tokens.\n\n"
        "Changing a map does not generate the image again.",
    )
    load = loader(flow)
    words = prompt(flow, load, "a red apple on a blue background")
    start = empty(flow, load)
    sockets = {"model": load[0], "positive": words[0], "negative": words[1], "latent_image": start[0]}
    run = flow.add("AmusedTrace", seed=1, **sockets, **SETTINGS)
    picture = decode(flow, load, run)
    save(flow, picture[0], "amused/picture", "The image")
    flow.row(chains=True)
    seen, look = {"trace": run[1], "vae": load[2]}, {"opacity": 0.7, "legend": True}
    steps = flow.add("AmusedTraceFrames", **seen, undecided="guess")
    film = {"fps": 3.0, "lossless": False, "quality": 90, "method": "default"}
    flow.add("SaveAnimatedWEBP", "Animation", images=steps[0], filename_prefix="amused/steps", **film)
    for kind, step, title in (("order", 0, "Unmasking order"), ("entropy", 1, "Entropy at first")):
        shown = flow.add("AmusedTraceMap", title, **seen, kind=kind, step=step, **look)
        save(flow, shown[0], f"amused/{kind}")
    apple = flow.add("AmusedWordAttention", "Attention to the word", **seen, word="apple", step=0, **look)
    save(flow, apple[0], "amused/word")
    grid = flow.add("AmusedTokenGrid", samples=run[0], image=picture[0], ids=True)
    save(flow, grid[0], "amused/tokens")
    return flow


WORKFLOWS: tuple[Callable[[], Workflow], ...] = (
    text_to_image,
    image_to_image,
    inpaint,
    outpaint,
    regional_prompts,
    batch_of_variations,
    seeing_inside,
)
