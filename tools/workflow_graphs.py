"""The example workflows as data: nodes, their places on the canvas, and the note that explains each.

`tools/build_workflows.py` makes the files in workflows/ from these.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Output(NamedTuple):
    """An output socket of a node."""

    node: str
    index: int


@dataclass
class Node:
    """A node; `inputs` are widget values and `Output`s, `column` is its place from the left."""

    class_type: str
    inputs: dict[str, Any]
    column: int
    title: str | None

    def __post_init__(self) -> None:
        self.id = ""

    def __getitem__(self, index: int) -> Output:
        return Output(self.id, index)


@dataclass
class Workflow:
    """A graph, the note beside it, and frames around some of its nodes."""

    name: str
    note: str
    nodes: list[Node] = field(default_factory=list)
    frames: dict[str, list[str]] = field(default_factory=dict)

    def add(self, column: int, class_type: str, title: str | None = None, **inputs: Any) -> Node:
        """Adds a node and gives it the next id."""
        node = Node(class_type, inputs, column, title)
        self.nodes.append(node)
        node.id = str(len(self.nodes))
        return node

    def frame(self, title: str, *nodes: Node) -> None:
        """Draws a frame around nodes."""
        self.frames[title] = [node.id for node in nodes]

    def api(self) -> dict[str, dict[str, Any]]:
        """The graph in API format."""
        return {
            node.id: {
                "class_type": node.class_type,
                "inputs": {k: list(v) if isinstance(v, Output) else v for k, v in node.inputs.items()},
                **({"_meta": {"title": node.title}} if node.title else {}),
            }
            for node in self.nodes
        }


MICRO = {"width": 0, "height": 0, "crop_top": 0, "crop_left": 0, "aesthetic_score": 6.0}
SETTINGS = {
    "steps": 12,
    "cfg": 0.0,
    "schedule": "auto",
    "denoise": 1.0,
    "temperature_start": 2.0,
    "temperature_end": 0.0,
    "seeding": "per_image",
}
REPLACE = (
    "The picture is drawn in the left frame, so that nothing has to be downloaded. "
    "To work on your own picture, put a **Load Image** node in its place."
)


def loader(flow: Workflow) -> Node:
    """The embedded model."""
    return flow.add(0, "AmusedLoader", model="embedded", dtype="auto", text_encoder_dtype="auto")


def prompt(flow: Workflow, column: int, load: Node, text: str, title: str | None = None) -> Node:
    """A text node without a negative prompt."""
    return flow.add(column, "AmusedTextEncode", title, clip=load[1], positive=text, negative="", **MICRO)


def sampler(flow: Workflow, column: int, load: Node, text: Node, latent: Output, seed: int, **changes: Any) -> Node:
    """The all-in-one sampler, with the model's own recommendations unless changed."""
    sockets = {"model": load[0], "positive": text[0], "negative": text[1], "latent_image": latent}
    return flow.add(column, "AmusedSampler", seed=seed, **sockets, **SETTINGS | changes)


def empty(flow: Workflow, column: int, load: Node, width: int = 0, height: int = 0, batch_size: int = 1) -> Node:
    """Masked tokens; a side of 0 is the model's own."""
    return flow.add(column, "AmusedEmptyLatent", model=load[0], width=width, height=height, batch_size=batch_size)


def decode(flow: Workflow, column: int, load: Node, latent: Node) -> Node:
    """Tokens to pixels."""
    return flow.add(column, "AmusedVQDecode", samples=latent[0], vae=load[2], tile_size=0)


def save(flow: Workflow, column: int, image: Output, name: str, title: str | None = None) -> Node:
    """The stock Save Image."""
    return flow.add(column, "SaveImage", title, images=image, filename_prefix=name)


def drawn_picture(flow: Workflow, load: Node, text: str, seed: int) -> Node:
    """The picture that an editing workflow starts from, in a frame of its own."""
    words = prompt(flow, 1, load, text, "What the first picture shows")
    start = empty(flow, 1, load)
    drawn = sampler(flow, 2, load, words, start[0], seed)
    picture = decode(flow, 2, load, drawn)
    flow.frame("The picture to change", words, start, drawn, picture)
    return picture


def text_to_image() -> Workflow:
    """A prompt to a picture."""
    flow = Workflow(
        "text_to_image",
        "## Text to image\n\n"
        "The embedded model draws about fifty things on a white, yellow, blue or green background: "
        "*a red apple on a blue background*, *a penguin on a white background*.\n\n"
        "The sampler's `cfg` of 0 is the model's own recommendation, and a width and height of 0 its own size.\n\n"
        "For photographs and everything else, put amused-256 or amused-512 into `models/amused` (see the README) "
        "and choose it in **Load aMUSEd**.",
    )
    load = loader(flow)
    words = prompt(flow, 1, load, "a red apple on a blue background")
    start = empty(flow, 1, load)
    drawn = sampler(flow, 2, load, words, start[0], seed=1)
    save(flow, 3, decode(flow, 3, load, drawn)[0], "amused/text_to_image")
    return flow


def image_to_image() -> Workflow:
    """A picture and a prompt to a changed picture."""
    flow = Workflow(
        "image_to_image",
        "## Image to image\n\n"
        "Masks a part of the picture's tokens again and draws them anew after another prompt. "
        "`denoise` says how much: low keeps nearly everything, 1 ignores the picture.\n\n" + REPLACE,
    )
    load = loader(flow)
    picture = drawn_picture(flow, load, "a red apple on a white background", seed=1)
    save(flow, 3, picture[0], "amused/image_to_image_before", "Before")
    words = prompt(flow, 3, load, "a red balloon on a white background", "What it becomes")
    tokens = flow.add(4, "AmusedVQEncode", pixels=picture[0], vae=load[2], sides="crop", tile_size=0)
    changed = sampler(flow, 4, load, words, tokens[0], seed=2, denoise=0.7)
    save(flow, 5, decode(flow, 5, load, changed)[0], "amused/image_to_image", "After")
    return flow


def inpaint() -> Workflow:
    """A masked part of a picture drawn anew."""
    flow = Workflow(
        "inpaint",
        "## Inpaint\n\n"
        "Draws only what lies under the mask. **aMUSEd inpaint mask** widens any stroke to whole tokens; "
        "**aMUSEd inpaint composite** puts the original pixels back everywhere else.\n\n"
        "The mask here is a rectangle from stock mask nodes. With **Load Image** use the mask editor instead.\n\n"
        + REPLACE,
    )
    load = loader(flow)
    picture = drawn_picture(flow, load, "a cat on a yellow background", seed=1)
    save(flow, 3, picture[0], "amused/inpaint_before", "Before")
    nothing = flow.add(3, "SolidMask", "Nothing masked", value=0.0, width=128, height=128)
    patch = flow.add(3, "SolidMask", "The masked part", value=1.0, width=128, height=64)
    mask = flow.add(
        3, "MaskComposite", "Where to draw", destination=nothing[0], source=patch[0], x=0, y=64, operation="add"
    )
    words = prompt(flow, 4, load, "a cat on a yellow background", "What the part shows")
    hole = flow.add(
        4,
        "AmusedInpaintMask",
        pixels=picture[0],
        mask=mask[0],
        vae=load[2],
        grow=0,
        invert=False,
        sides="crop",
    )
    filled = sampler(flow, 5, load, words, hole[0], seed=3)
    result = decode(flow, 5, load, filled)
    whole = flow.add(6, "AmusedInpaintComposite", original=hole[2], generated=result[0], mask=hole[1], feather=4)
    save(flow, 6, whole[0], "amused/inpaint", "After")
    return flow


def outpaint() -> Workflow:
    """Half a picture continued beyond its edge."""
    flow = Workflow(
        "outpaint",
        "## Outpaint\n\n"
        "The stock **Pad Image for Outpainting** makes room and a mask; the model draws what belongs there. "
        "The right half of the first picture is cut off, so you can see it come back.\n\n" + REPLACE,
    )
    load = loader(flow)
    picture = drawn_picture(flow, load, "a clock on a green background", seed=1)
    half = flow.add(3, "ImageCrop", "Cut off the right half", image=picture[0], width=64, height=128, x=0, y=0)
    save(flow, 3, half[0], "amused/outpaint_before", "Before")
    room = {"left": 0, "top": 0, "right": 64, "bottom": 0, "feathering": 0}
    padded = flow.add(4, "ImagePadForOutpaint", image=half[0], **room)
    words = prompt(flow, 4, load, "a clock on a green background", "What the whole picture shows")
    hole = flow.add(
        4,
        "AmusedInpaintMask",
        pixels=padded[0],
        mask=padded[1],
        vae=load[2],
        grow=0,
        invert=False,
        sides="crop",
    )
    filled = sampler(flow, 5, load, words, hole[0], seed=4)
    result = decode(flow, 5, load, filled)
    whole = flow.add(6, "AmusedInpaintComposite", original=hole[2], generated=result[0], mask=hole[1], feather=0)
    save(flow, 6, whole[0], "amused/outpaint", "After")
    return flow


def regional_prompts() -> Workflow:
    """Two prompts, each for its own half of the picture."""
    flow = Workflow(
        "regional_prompts",
        "## Regional prompts\n\n"
        "Each prompt holds for its own half: the stock **Conditioning (Set Mask)** and **Conditioning (Combine)** "
        "work as with every native model. The masks are half of the picture each.",
    )
    load = loader(flow)
    left = prompt(flow, 1, load, "an apple on a white background", "Left half")
    right = prompt(flow, 1, load, "a banana on a white background", "Right half")
    black = flow.add(1, "SolidMask", "Nothing", value=0.0, width=256, height=128)
    white = flow.add(1, "SolidMask", "Half a picture", value=1.0, width=128, height=128)
    halves = []
    for words, x, side in ((left, 0, "left"), (right, 128, "right")):
        mask = flow.add(
            2, "MaskComposite", f"The {side} half", destination=black[0], source=white[0], x=x, y=0, operation="add"
        )
        halves.append(
            flow.add(
                2,
                "ConditioningSetMask",
                conditioning=words[0],
                mask=mask[0],
                strength=1.0,
                set_cond_area="default",
            )
        )
    both = flow.add(3, "ConditioningCombine", conditioning_1=halves[0][0], conditioning_2=halves[1][0])
    start = empty(flow, 3, load, width=256, height=128)
    drawn = flow.add(
        3,
        "AmusedSampler",
        model=load[0],
        seed=1,
        positive=both[0],
        negative=left[1],
        latent_image=start[0],
        **SETTINGS,
    )
    save(flow, 4, decode(flow, 4, load, drawn)[0], "amused/regional_prompts")
    return flow


def batch_of_variations() -> Workflow:
    """Nine pictures of one prompt at once."""
    flow = Workflow(
        "batch_of_variations",
        "## A batch of variations\n\n"
        "`batch_size` pictures at once. With the seeding *per_image* picture i has seed + i and is the same alone: "
        "to get the third one again, set a batch size of 1 and add 2 to the seed.\n\n"
        "A higher `temperature_start` varies more.",
    )
    load = loader(flow)
    words = prompt(flow, 1, load, "a flower")
    start = empty(flow, 1, load, batch_size=6)
    drawn = sampler(flow, 2, load, words, start[0], seed=100, temperature_start=4.0)
    save(flow, 3, decode(flow, 3, load, drawn)[0], "amused/variation")
    return flow


WORKFLOWS: tuple[Callable[[], Workflow], ...] = (
    text_to_image,
    image_to_image,
    inpaint,
    outpaint,
    regional_prompts,
    batch_of_variations,
)
