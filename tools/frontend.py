"""ComfyUI's own frontend in a headless browser.

Needs Playwright (`pip install playwright`) and Chromium (Debian: `apt install chromium`).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from comfy_server import ComfyServer, Graph
from playwright.sync_api import Page, sync_playwright

# Height that a sampler grows by when it shows a preview, in pixels of the canvas.
PREVIEW = 230
BROWSER_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Nobody but the server is asked; the frontend would look up releases and nodes elsewhere.
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
]
# While it spins, ComfyUI has not opened its first workflow, which would replace what is opened before.
READY = """
() => window.app?.graph && window.app.extensionManager?.spinner === false
  && window.LiteGraph?.registered_node_types?.AmusedLoader
"""
NO_BANNER = "localStorage.setItem('vueNodesBannerDismissed', 'true')"

# Loads an API graph, puts the nodes into rows and columns, adds note and frames, and returns the UI format.
LAY_OUT = """
async ({api, rows, note, noteSize, frames, name}) => {
  await app.loadApiJson(structuredClone(api), name);
  const graph = app.graph, nodesOf = ids => ids.map(id => graph.getNodeById(id));
  // Above each node there is its title, 30 high; Nodes 2.0 makes nodes up to 50 higher.
  const GAP_X = 60, GAP_Y = 100, TOP = 60;
  const pictures = ['SaveImage', 'SaveAnimatedWEBP', 'LossGraphNode'];
  const samplers = ['AmusedSampler', 'AmusedTrace', 'AmusedTrainLora', 'AmusedBatch'];
  const more = {AmusedTextEncode: 40, AmusedTrainLora: 160, AmusedBatch: 120, AmusedRows: 60};
  for (const node of graph.nodes) {
    for (const widget of node.widgets ?? [])
      if (widget.name === 'control_after_generate') widget.value = 'fixed';
    const least = node.computeSize();
    const height = least[1] + (more[node.type] ?? 0);
    node.setSize([Math.max(least[0], 300), Math.max(height, pictures.includes(node.type) ? 320 : 0)]);
  }
  const text = LiteGraph.createNode('MarkdownNote');
  text.widgets[0].value = note;
  text.title = 'About this workflow';
  graph.add(text);
  rows[0][0].push(text.id);
  text.setSize(noteSize);
  const height = node => node.size[1] + (samplers.includes(node.type) ? PREVIEW : 0);
  // Lower rows begin beside the first column, so that links from there need not go back.
  let top = TOP, indent = 0;
  for (const columns of rows) {
    let x = indent, bottom = top;
    for (const ids of columns) {
      let y = top;
      for (const node of nodesOf(ids)) {
        node.pos = [x, y];
        y += height(node) + GAP_Y;
      }
      x += Math.max(...nodesOf(ids).map(node => node.size[0])) + GAP_X;
      bottom = Math.max(bottom, y);
    }
    top = bottom + GAP_Y;
    indent = text.size[0] + GAP_X;
  }
  for (const [title, ids] of Object.entries(frames)) {
    const nodes = nodesOf(ids), group = new LiteGraph.LGraphGroup(title);
    const left = Math.min(...nodes.map(node => node.pos[0])) - 20;
    const above = Math.min(...nodes.map(node => node.pos[1])) - 80;
    const right = Math.max(...nodes.map(node => node.pos[0] + node.size[0])) + 20;
    const below = Math.max(...nodes.map(node => node.pos[1] + height(node))) + 60;
    graph.add(group);
    group.pos = [left, above];
    group.size = [right - left, below - above];
  }
  return JSON.stringify(graph.serialize());
}
""".replace("PREVIEW", str(PREVIEW))

# Opens a UI-format workflow as a person would; returns what it would queue and unknown nodes.
OPEN = """
async ([ui, name]) => {
  await app.loadGraphData(ui, true, true, name);
  const prompt = await app.graphToPrompt();
  const unknown = app.graph.nodes.filter(n => !LiteGraph.registered_node_types[n.type]).map(n => n.type);
  await new Promise(resolve => setTimeout(resolve, 1000));
  const canvas = app.canvas, view = canvas.canvas.getBoundingClientRect();
  const boxes = [...app.graph.nodes, ...app.graph.groups].map(n => [n.pos[0], n.pos[1], ...n.size]);
  const left = Math.min(...boxes.map(b => b[0])), right = Math.max(...boxes.map(b => b[0] + b[2]));
  const top = Math.min(...boxes.map(b => b[1])) - 40, bottom = Math.max(...boxes.map(b => b[1] + b[3]));
  const scale = Math.min((view.width - 160) / (right - left), (view.height - 160) / (bottom - top), 1);
  canvas.ds.scale = scale;
  canvas.ds.offset = [100 / scale - left, 100 / scale - top];
  canvas.setDirty(true, true);
  await new Promise(resolve => setTimeout(resolve, 1000));
  return JSON.stringify({output: prompt.output, unknown});
}
"""
QUIET = {
    "Comfy.TutorialCompleted": True,
    "Comfy.Minimap.Visible": False,
    "Comfy.RightSidePanel.IsOpen": False,
    "Comfy.Workflow.Persist": False,
}


class FrontendError(RuntimeError):
    """The frontend complained about a workflow, or would queue something else."""


def chromium() -> str | None:
    """Path of Chromium, or None where there is none."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def frontend(
    server: ComfyServer, size: tuple[int, int] = (1920, 1080), listen: Callable[[Page], None] | None = None
) -> Iterator[Page]:
    """ComfyUI's page, loaded and ready, without its welcome dialogs; `listen` gets it before it loads."""
    path = chromium()
    if path is None:
        raise FrontendError("No Chromium on this machine; on Debian: apt install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=BROWSER_FLAGS)
        page = browser.new_page(viewport={"width": size[0], "height": size[1]})
        page.add_init_script(NO_BANNER)
        if listen is not None:
            listen(page)
        open_page(page, server)
        yield page
        browser.close()


def open_page(page: Page, server: ComfyServer) -> None:
    """Loads the page, or loads it again, without welcome and panels."""
    server.post("/settings", QUIET)
    page.goto(server.address)
    page.wait_for_function(READY, timeout=120_000)


def messages(page: Page) -> list[str]:
    """Texts of dialogs and messages on the screen."""
    shown = page.get_by_role("alert").or_(page.get_by_role("status")).or_(page.get_by_role("dialog"))
    return [text for text in shown.all_inner_texts() if text.strip()]


def lay_out(page: Page, spec: dict[str, Any]) -> dict[str, Any]:
    """The UI format of a graph; `spec` is what LAY_OUT takes."""
    return json.loads(page.evaluate(LAY_OUT, spec))


def open_workflow(page: Page, name: str, ui: dict[str, Any], api: Graph) -> None:
    """Opens `ui`; the frontend must know every node, complain about nothing and queue exactly `api`."""
    opened = json.loads(page.evaluate(OPEN, [ui, name]))
    if opened["unknown"] or (shown := messages(page)):
        raise FrontendError(f"{name}: unknown nodes {opened['unknown']}, messages {shown}")
    queued, wanted = _bare(opened["output"]), _bare(api)
    if queued != wanted:
        raise FrontendError(f"{name}: the frontend would queue {queued} instead of {wanted}")


def _bare(graph: Graph) -> Graph:
    """Classes and inputs only."""
    return {node: {"class_type": entry["class_type"], "inputs": entry["inputs"]} for node, entry in graph.items()}
