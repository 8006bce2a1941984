"""Builds workflows/: runs each graph in a real ComfyUI for its thumbnail, and lays it out in ComfyUI's own frontend."""

from __future__ import annotations

import argparse
import io
import json
import shutil
import uuid
from pathlib import Path
from typing import Any

from comfy_server import ComfyServer
from frontend import frontend, lay_out, open_workflow
from PIL import Image
from playwright.sync_api import Page
from workflow_graphs import WORKFLOWS, Workflow

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "workflows"
HELP_PICTURES = ROOT / "web" / "docs" / "pictures"


def thumbnail(pictures: list[bytes]) -> Image.Image:
    """The last pictures of a run side by side (at most 3 to a row), 256 px high each."""
    images = [Image.open(io.BytesIO(data)).convert("RGB") for data in pictures]
    sizes = [(round(image.width * 256 / image.height), 256) for image in images]
    images = [image.resize(size, Image.Resampling.LANCZOS) for image, size in zip(images, sizes, strict=True)]
    rows = [images[first : first + 3] for first in range(0, len(images), 3)]
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
    ui["extra"] = {"ds": {"scale": 0.7, "offset": [60, 140]}}
    for node in ui["nodes"]:
        node["pos"] = [round(value) for value in node["pos"]]
        node["size"] = [round(value) for value in node["size"]]
    return ui


def build(page: Page, server: ComfyServer, flow: Workflow, screenshots: Path) -> None:
    """Writes the API twin, the thumbnail (for help pages too) and the UI format of a workflow; checks that it opens."""
    api = flow.api()
    (FOLDER / "api" / f"{flow.name}.json").write_text(json.dumps(api, indent=2) + "\n")
    picture = FOLDER / f"{flow.name}.jpg"
    thumbnail(server.pictures(server.run(api))).save(picture, quality=88)
    if (HELP_PICTURES / picture.name).exists():
        shutil.copyfile(picture, HELP_PICTURES / picture.name)
    spec = {"api": api, "columns": flow.columns(), "note": flow.note, "frames": flow.frames, "name": flow.name}
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
    parser.add_argument("--screenshots", type=Path, default=ROOT / "output" / "workflows")
    arguments = parser.parse_args()
    arguments.screenshots.mkdir(parents=True, exist_ok=True)
    flows = [make() for make in WORKFLOWS]
    with ComfyServer(arguments.comfyui) as server, frontend(server) as page:
        for flow in flows:
            if not arguments.names or flow.name in arguments.names:
                build(page, server, flow, arguments.screenshots)


if __name__ == "__main__":
    main()
