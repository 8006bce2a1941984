"""Builds workflows/: runs each graph in a real ComfyUI for its thumbnail, and lays it out in ComfyUI's own frontend."""

from __future__ import annotations

import argparse
import io
import json
import shutil
import uuid
from pathlib import Path
from typing import Any

from batch_graphs import BATCHES
from comfy_server import ComfyServer
from frontend import frontend, lay_out, open_workflow
from notes import note_size
from PIL import Image
from playwright.sync_api import Page
from style_graphs import STYLES
from workflow import Workflow
from workflow_graphs import WEIGHTS, WORKFLOWS

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "workflows"
HELP_PICTURES = ROOT / "web" / "docs" / "pictures"
# Pixels of the screen: a large window's width, what ComfyUI's menus and a selected node's tools take at left and top.
WINDOW, MENUS = 1880, (100, 200)
# Zoom: below the first ComfyUI no longer draws the words in nodes.
READABLE, LARGEST = 0.6, 0.8


def thumbnail(pictures: list[bytes], columns: int) -> Image.Image:
    """Pictures of a run side by side (at most `columns` to a row), 256 px high each."""
    images = [Image.open(io.BytesIO(data)).convert("RGB") for data in pictures]
    sizes = [(round(image.width * 256 / image.height), 256) for image in images]
    images = [image.resize(size, Image.Resampling.LANCZOS) for image, size in zip(images, sizes, strict=True)]
    rows = [images[first : first + columns] for first in range(0, len(images), columns)]
    width = max(sum(image.width + 8 for image in row) for row in rows) - 8
    sheet = Image.new("RGB", (width, 264 * len(rows) - 8), "white")
    for place, row in enumerate(rows):
        x = 0
        for image in row:
            sheet.paste(image, (x, 264 * place))
            x += image.width + 8
    return sheet


def tidy(ui: dict[str, Any], name: str) -> dict[str, Any]:
    """The UI format without what depends on the moment it was made."""
    ui["id"] = str(uuid.uuid5(uuid.NAMESPACE_URL, f"amused/{name}"))
    for node in ui["nodes"]:
        node["pos"] = [round(value) for value in node["pos"]]
        node["size"] = [round(value) for value in node["size"]]
    ui["extra"] = {"ds": opening_view(ui)}
    return ui


def opening_view(ui: dict[str, Any]) -> dict[str, Any]:
    """Where the canvas stands when the workflow is opened: its upper left corner free of ComfyUI's menus.

    As wide as a large window where that leaves the words in the nodes readable.
    """
    boxes = [(*node["pos"], *node["size"]) for node in ui["nodes"]] + [group["bounding"] for group in ui["groups"]]
    left, right = min(box[0] for box in boxes), max(box[0] + box[2] for box in boxes)
    scale = min(max((WINDOW - MENUS[0]) / (right - left), READABLE), LARGEST)
    top = min(box[1] for box in boxes) - 30
    return {"scale": round(scale, 2), "offset": [round(MENUS[0] / scale - left), round(MENUS[1] / scale - top)]}


def draw(server: ComfyServer, flow: Workflow) -> None:
    """Runs a workflow and writes its thumbnail, for help pages too."""
    picture = FOLDER / f"{flow.name}.jpg"
    pictures = server.pictures(server.run(flow.api()))
    thumbnail(pictures[-(flow.last or 0) :], flow.columns).save(picture, quality=88)
    if (HELP_PICTURES / picture.name).exists():
        shutil.copyfile(picture, HELP_PICTURES / picture.name)


def build(page: Page, flow: Workflow, screenshots: Path) -> None:
    """Writes the API twin and the UI format of a workflow; checks that it opens."""
    api = flow.api()
    (FOLDER / "api" / f"{flow.name}.json").write_text(json.dumps(api, indent=2) + "\n")
    note = flow.note + WEIGHTS
    spec = {"api": api, "name": flow.name, "rows": flow.rows(), "frames": flow.frames}
    spec |= {"note": note, "noteSize": note_size(note)}
    ui = tidy(lay_out(page, spec), flow.name)
    (FOLDER / f"{flow.name}.json").write_text(json.dumps(ui, indent=1) + "\n")
    open_workflow(page, flow.name, ui, api)
    page.screenshot(path=screenshots / f"{flow.name}.png")
    print(f"{flow.name}: {len(api)} nodes", flush=True)


def main() -> None:
    """Command line: the ComfyUI folder, and names of workflows (all when none is given)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("comfyui", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--keep-pictures", action="store_true", help="draw no thumbnails; lay out only")
    parser.add_argument("--screenshots", type=Path, default=ROOT / "output" / "workflows")
    arguments = parser.parse_args()
    arguments.screenshots.mkdir(parents=True, exist_ok=True)
    flows = [
        flow
        for flow in (make() for make in (*WORKFLOWS, *STYLES, *BATCHES))
        if not arguments.names or flow.name in arguments.names
    ]
    with ComfyServer(arguments.comfyui) as server, frontend(server) as page:
        for flow in flows:
            if not arguments.keep_pictures:
                draw(server, flow)
            build(page, flow, arguments.screenshots)


if __name__ == "__main__":
    main()
