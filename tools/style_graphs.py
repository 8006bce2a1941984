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
        "**Load aMUSEd LoRA** applies a LoRA, a trained style or subject, to the model. *embedded: dotted* ships "
        "with the pack and adds a dotted background to the embedded model; the workflow *train_a_style* shows "
        "how to train one. Compare with a `strength_model` of 0.\n\n"
        "Other LoRAs go into `models/loras`, in diffusers, peft or kohya format; press R to list new ones. A "
        "LoRA fits only the model that it was trained on.",
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
        "## Train a style from one image\n\n"
        "**Train aMUSEd LoRA** learns the dotted background of one image, so that the model can generate other "
        "things on it. It takes about half a minute on a CPU and requires two packages in ComfyUI's Python: `pip "
        "install peft accelerate`.\n\n"
        "- `text` describes the image and contains a word for the style.\n"
        "- `keep` lists prompts for images that the model should keep generating as before.\n"
        "- 0 selects the preset's value.\n\n"
        "To save the LoRA, connect `lora` to the stock **Save LoRA Weights** and move the file from "
        "`output/loras` to `models/loras`; *use_a_style* shows how to load it.\n\n"
        "Stock nodes compose the training image, so that nothing has to be downloaded. To train on your own "
        "image, use a **Load Image** node instead. The embedded model can learn new backgrounds with a regular "
        "pattern, but little else. Use the large models for real styles.",
        columns=len(DOTTED),
        last=2 * len(DOTTED),
    )
    load = loader(flow)
    picture = dotted_carrot(flow, load)
    flow.frame("The training image", *flow.nodes[1:])
    save(flow, picture, "amused/style_picture", "The image")
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
    ground = flow.add("EmptyImage", "Background", width=SHARE, height=SHARE, batch_size=1, color=BLUE)
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
    return flow.add("ImageCompositeMasked", "Dots as background", **wires, x=0, y=0, resize_source=False)[0]


STYLES = (train_a_style, use_a_style)
