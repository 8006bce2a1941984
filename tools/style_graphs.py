"""The example workflows about styles: training a LoRA from one picture, and using one."""

from __future__ import annotations

from workflow import Node, Output, Workflow
from workflow_graphs import decode, empty, loader, prompt, sampler, save

CAPTION = "a carrot on a dotted background"
DOTTED = [f"a {thing} on a dotted background" for thing in ("fish", "star", "guitar", "apple")]
# What docs/finetuning.md keeps, too.
KEEP = """a cat on a red background
a bus on a yellow background
a tree on a green background
a crown on a purple background
a rabbit on a white background
a key on a pink background
a banana on an orange background
a house on a black background"""
BLUE, WHITE = 0x5896EC, 0xFFFFFF
# Pixels: a dot and its share of the ground. Two cells of the model, so that all dots have the same tokens.
DOT, SHARE = 8, 16


def use_a_style() -> Workflow:
    """A picture with a LoRA."""
    flow = Workflow(
        "use_a_style",
        "## Use a style\n\n"
        "**Load aMUSEd LoRA** puts a LoRA, a trained style or subject, on the model. *embedded: dotted* comes with the "
        "pack and teaches the embedded model a dotted ground; the workflow *train_a_style* shows how one is made. "
        "Compare with a `strength_model` of 0.\n\n"
        "Other LoRAs go into `models/loras`, in the format of diffusers, peft or kohya; press R to see new ones. "
        "Each fits only the model that it was trained on.",
    )
    load = loader(flow)
    strengths = {"strength_model": 1.0, "strength_clip": 1.0}
    styled = flow.add("AmusedLoraLoader", model=load[0], lora_name="embedded: dotted", **strengths, clip=load[1])
    words = prompt(flow, styled, "a cactus on a dotted background")
    start = empty(flow, load)
    drawn = sampler(flow, styled, words, start[0], seed=2)
    save(flow, decode(flow, load, drawn)[0], "amused/use_a_style")
    return flow


def train_a_style() -> Workflow:
    """A LoRA from one picture, and the same prompts without and with it."""
    flow = Workflow(
        "train_a_style",
        "## Train a style from one picture\n\n"
        "**Train aMUSEd LoRA** learns the dotted ground of one picture; then the model draws other things on it, too. "
        "It takes about half a minute on a CPU, and needs two packages in ComfyUI's Python: "
        "`pip install peft accelerate`.\n\n"
        "- `text` says what the picture shows, with a word that will stand for the style.\n"
        "- `keep` are prompts that the model is to go on drawing as before.\n"
        "- 0 is the preset's value.\n\n"
        "To keep the LoRA, connect `lora` to the stock **Save LoRA Weights** and move its file from `output/loras` to "
        "`models/loras`; *use_a_style* shows how to load one.\n\n"
        "Stock nodes put the picture together, so that nothing has to be downloaded. To learn your own, put a "
        "**Load Image** node in its place. The embedded model takes on new grounds with a regular pattern, hardly "
        "anything else. Real styles are for the large models.",
        columns=len(DOTTED),
        last=2 * len(DOTTED),
    )
    load = loader(flow)
    picture = dotted_carrot(flow, load)
    flow.frame("The picture to learn from", *flow.nodes[1:])
    save(flow, picture, "amused/style_picture", "The picture")
    parts = {"model": load[0], "clip": load[1], "vae": load[2], "image": picture, "text": CAPTION}
    presets = {"preset": "style", "steps": 0, "learning_rate": 0.0, "rank": 0, "batch_size": 0}
    more = {"seed": 0, "keep": KEEP, "preview_every": 10, "precision": "fp32", "gradient_checkpointing": False}
    trained = flow.add("AmusedTrainLora", **parts, **presets, **more)
    flow.add("LossGraphNode", loss=trained[2], filename_prefix="amused_loss")
    flow.row(chains=True)
    texts = [prompt(flow, load, text) for text in DOTTED]
    start = empty(flow, load)
    flow.row(chains=True)
    for model, when in ((load, "before"), (trained, "after")):
        first = len(flow.nodes)
        for words in texts:
            drawn = sampler(flow, model, words, start[0], seed=1)
            save(flow, decode(flow, load, drawn)[0], f"amused/style_{when}")
        flow.frame(f"{when.capitalize()} the training", *flow.nodes[first:])
    return flow


def dotted_carrot(flow: Workflow, load: Node) -> Output:
    """A drawn carrot whose blue ground is replaced by dots; IMAGE."""
    words = prompt(flow, load, "a carrot on a blue background", "The thing")
    start = empty(flow, load)
    carrot = decode(flow, load, sampler(flow, load, words, start[0], seed=1))
    ground = flow.add("EmptyImage", "Ground", width=SHARE, height=SHARE, batch_size=1, color=BLUE)
    dot = flow.add("EmptyImage", "Dot", width=DOT, height=DOT, batch_size=1, color=WHITE)
    at = {"x": (SHARE - DOT) // 2, "y": (SHARE - DOT) // 2, "resize_source": False}
    dots = flow.add("ImageCompositeMasked", "One dot", below=True, destination=ground[0], source=dot[0], **at)
    plain = {"match_image_size": True, "spacing_width": 0, "spacing_color": "white"}
    for direction in ("right", "down") * 3:
        twice = {"image1": dots[0], "image2": dots[0], "direction": direction, **plain}
        dots = flow.add("ImageStitch", f"Twice, {direction}", below=direction == "down", **twice)
    blue = flow.add("ImageToMask", "Blue", image=carrot[0], channel="blue")
    around = flow.add("ThresholdMask", "Where it is blue", below=True, mask=blue[0], value=0.5)
    wires = {"destination": carrot[0], "source": dots[0], "mask": around[0]}
    return flow.add("ImageCompositeMasked", "Dots as the ground", **wires, x=0, y=0, resize_source=False)[0]


STYLES = (train_a_style, use_a_style)
