"""Builds workflows/: runs each graph in a real ComfyUI for its thumbnail, and lays it out in ComfyUI's own frontend.

Needs Playwright (`pip install playwright`) and Chromium (Debian: `apt install chromium`).
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
from pathlib import Path
from typing import Any

from comfy_server import ComfyServer
from PIL import Image
from playwright.sync_api import Page, sync_playwright
from workflow_graphs import WORKFLOWS, Workflow

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "workflows"
BROWSER_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
READY = (
    "() => window.app?.graph && window.app.extensionManager && window.LiteGraph?.registered_node_types?.AmusedLoader"
)

# Loads an API graph, puts the nodes into columns, adds note and frames, and returns the UI format.
LAY_OUT = """
async ({api, columns, note, frames, name}) => {
  await app.loadApiJson(structuredClone(api), name);
  const graph = app.graph, byId = id => graph.getNodeById(id);
  const GAP_X = 60, GAP_Y = 70, TOP = 60;
  for (const node of graph.nodes) {
    for (const widget of node.widgets ?? [])
      if (widget.name === 'control_after_generate') widget.value = 'fixed';
    const least = node.computeSize();
    const tall = node.type === 'SaveImage' ? 320 : node.type === 'AmusedTextEncode' ? least[1] + 40 : least[1];
    node.setSize([Math.max(least[0], 300), tall]);
  }
  const text = LiteGraph.createNode('MarkdownNote');
  text.widgets[0].value = note;
  text.title = 'About this workflow';
  graph.add(text);
  text.setSize([320, 360]);
  columns[0].push(text.id);
  let x = 0;
  for (const ids of columns) {
    let y = TOP, width = 0;
    for (const id of ids) {
      const node = byId(id);
      node.pos = [x, y];
      y += node.size[1] + GAP_Y;
      width = Math.max(width, node.size[0]);
    }
    x += width + GAP_X;
  }
  for (const [title, ids] of Object.entries(frames)) {
    const group = new LiteGraph.LGraphGroup(title);
    graph.add(group);
    group.resizeTo(ids.map(byId), 20);
  }
  return graph.serialize();
}
"""

# Opens a UI-format workflow as a person would, and returns what it would queue and what is missing.
OPEN = """
async (ui) => {
  await app.loadGraphData(ui, true, true, 'check');
  const prompt = await app.graphToPrompt();
  const unknown = app.graph.nodes.filter(n => !LiteGraph.registered_node_types[n.type]).map(n => n.type);
  const canvas = app.canvas;
  app.extensionManager?.command?.execute?.('Comfy.Canvas.FitView');
  return {output: prompt.output, unknown};
}
"""


def thumbnail(pictures: list[bytes]) -> Image.Image:
    """The last pictures of a run side by side (at most 3 to a row), 256 px high each."""
    images = [Image.open(io.BytesIO(data)).convert("RGB") for data in pictures]
    scale = 256 / images[0].height
    images = [image.resize((round(image.width * scale), 256), Image.Resampling.LANCZOS) for image in images]
    across = min(3, len(images))
    width = sum(image.width for image in images[:across]) + 8 * (across - 1)
    rows = -(-len(images) // across)
    sheet = Image.new("RGB", (width, 256 * rows + 8 * (rows - 1)), "white")
    x = y = 0
    for index, image in enumerate(images):
        if index and index % across == 0:
            x, y = 0, y + 264
        sheet.paste(image, (x, y))
        x += image.width + 8
    return sheet


def columns(flow: Workflow) -> list[list[int]]:
    """Node ids per column, in the order they were added."""
    count = max(node.column for node in flow.nodes) + 1
    return [[int(node.id) for node in flow.nodes if node.column == index] for index in range(count)]


def tidy(ui: dict[str, Any], name: str) -> dict[str, Any]:
    """The UI format without what depends on the moment it was made."""
    ui["id"] = f"amused-{name.replace('_', '-')}"
    ui["extra"] = {"ds": {"scale": 0.7, "offset": [40, 60]}}
    for node in ui["nodes"]:
        node["pos"] = [round(value) for value in node["pos"]]
        node["size"] = [round(value) for value in node["size"]]
    return ui


def build(page: Page, server: ComfyServer, flow: Workflow, screenshots: Path) -> None:
    """Writes the API twin, the thumbnail and the UI format of one workflow, and checks that it opens."""
    api = flow.api()
    (FOLDER / "api" / f"{flow.name}.json").write_text(json.dumps(api, indent=2) + "\n")
    thumbnail(server.pictures(server.run(api))).save(FOLDER / f"{flow.name}.jpg", quality=88)
    spec = {"api": api, "columns": columns(flow), "note": flow.note, "frames": flow.frames, "name": flow.name}
    ui = tidy(page.evaluate(LAY_OUT, spec), flow.name)
    (FOLDER / f"{flow.name}.json").write_text(json.dumps(ui, indent=1) + "\n")
    check(page, ui, api)
    page.wait_for_timeout(1500)
    page.screenshot(path=screenshots / f"{flow.name}.png")
    print(f"{flow.name}: {len(api)} nodes", flush=True)


def check(page: Page, ui: dict[str, Any], api: dict[str, Any]) -> None:
    """Opens `ui` in the frontend; it must know every node and queue exactly `api`."""
    opened = page.evaluate(OPEN, ui)
    if opened["unknown"]:
        raise SystemExit(f"The frontend does not know {opened['unknown']}.")
    queued = {id: {"class_type": n["class_type"], "inputs": n["inputs"]} for id, n in opened["output"].items()}
    wanted = {id: {"class_type": n["class_type"], "inputs": n["inputs"]} for id, n in api.items()}
    if queued != wanted:
        raise SystemExit(f"The frontend would queue\n{json.dumps(queued)}\ninstead of\n{json.dumps(wanted)}")


def main() -> None:
    """Command line: the ComfyUI folder, and names of workflows (all when none is given)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("comfyui", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--screenshots", type=Path, default=ROOT / "output" / "workflows")
    arguments = parser.parse_args()
    arguments.screenshots.mkdir(parents=True, exist_ok=True)
    flows = [make() for make in WORKFLOWS]
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("No chromium on this machine; on Debian: apt install chromium")
    with ComfyServer(arguments.comfyui) as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=BROWSER_FLAGS)
        page = browser.new_page(viewport={"width": 1920, "height": 1080})
        page.goto(server.address)
        page.wait_for_function(READY, timeout=120_000)
        page.wait_for_timeout(2000)
        for flow in flows:
            if not arguments.names or flow.name in arguments.names:
                build(page, server, flow, arguments.screenshots)
        browser.close()


if __name__ == "__main__":
    main()
