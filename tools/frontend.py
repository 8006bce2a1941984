"""ComfyUI's own frontend in a headless browser.

Needs Playwright (`pip install playwright`) and Chromium (Debian: `apt install chromium`).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from comfy_server import ComfyServer, Graph
from playwright.sync_api import Page, sync_playwright

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
  const framed = new Set(Object.values(frames).flat()), nodesOf = ids => ids.map(byId);
  const floor = columns.map(() => TOP);
  const stack = wanted => {
    let x = 0;
    columns.forEach((ids, column) => {
      for (const node of nodesOf(ids.filter(wanted))) {
        node.pos = [x, floor[column]];
        floor[column] += node.size[1] + GAP_Y;
      }
      x += Math.max(...nodesOf(ids).map(node => node.size[0])) + GAP_X;
    });
  };
  stack(id => framed.has(id));
  for (const [title, ids] of Object.entries(frames)) {
    const nodes = nodesOf(ids), group = new LiteGraph.LGraphGroup(title);
    const least = axis => Math.min(...nodes.map(node => node.pos[axis]));
    const most = axis => Math.max(...nodes.map(node => node.pos[axis] + node.size[axis]));
    graph.add(group);
    group.pos = [least(0) - 20, least(1) - 80];
    group.size = [most(0) - least(0) + 40, most(1) - least(1) + 100];
    columns.forEach((members, column) => {
      if (members.some(id => ids.includes(id))) floor[column] = most(1) + GAP_Y + 20;
    });
  }
  stack(id => !framed.has(id));
  return JSON.stringify(graph.serialize());
}
"""

# Opens a UI-format workflow as a person would; returns what it would queue, unknown nodes, and messages on the screen.
OPEN = """
async ([ui, name]) => {
  await app.loadGraphData(ui, true, true, name);
  const prompt = await app.graphToPrompt();
  const unknown = app.graph.nodes.filter(n => !LiteGraph.registered_node_types[n.type]).map(n => n.type);
  await new Promise(resolve => setTimeout(resolve, 1000));
  const messages = [...document.querySelectorAll('.p-toast-message, .p-dialog')].map(e => e.innerText);
  const canvas = app.canvas, view = canvas.canvas.getBoundingClientRect();
  const boxes = [...app.graph.nodes, ...app.graph.groups].map(n => [n.pos[0], n.pos[1], ...n.size]);
  const left = Math.min(...boxes.map(b => b[0])), right = Math.max(...boxes.map(b => b[0] + b[2]));
  const top = Math.min(...boxes.map(b => b[1])) - 40, bottom = Math.max(...boxes.map(b => b[1] + b[3]));
  const scale = Math.min((view.width - 160) / (right - left), (view.height - 160) / (bottom - top), 1);
  canvas.ds.scale = scale;
  canvas.ds.offset = [100 / scale - left, 100 / scale - top];
  canvas.setDirty(true, true);
  await new Promise(resolve => setTimeout(resolve, 1000));
  return JSON.stringify({output: prompt.output, unknown, messages});
}
"""
QUIET = {"Comfy.TutorialCompleted": True, "Comfy.Minimap.Visible": False, "Comfy.Workflow.Persist": False}


class FrontendError(RuntimeError):
    """The frontend complained about a workflow, or would queue something else."""


def chromium() -> str | None:
    """Path of Chromium, or None where there is none."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def frontend(server: ComfyServer) -> Iterator[Page]:
    """ComfyUI's page, loaded and ready, without its welcome dialogs."""
    path = chromium()
    if path is None:
        raise FrontendError("No Chromium on this machine; on Debian: apt install chromium")
    server.post("/settings", QUIET)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=BROWSER_FLAGS)
        page = browser.new_page(viewport={"width": 1920, "height": 1080})
        page.goto(server.address)
        page.wait_for_function(READY, timeout=120_000)
        page.wait_for_timeout(2000)
        yield page
        browser.close()


def lay_out(page: Page, spec: dict[str, Any]) -> dict[str, Any]:
    """The UI format of a graph; `spec` is what LAY_OUT takes."""
    return json.loads(page.evaluate(LAY_OUT, spec))


def open_workflow(page: Page, name: str, ui: dict[str, Any], api: Graph) -> None:
    """Opens `ui`; the frontend must know every node, complain about nothing and queue exactly `api`."""
    opened = json.loads(page.evaluate(OPEN, [ui, name]))
    if opened["unknown"] or opened["messages"]:
        raise FrontendError(f"{name}: unknown nodes {opened['unknown']}, messages {opened['messages']}")
    queued, wanted = _bare(opened["output"]), _bare(api)
    if queued != wanted:
        raise FrontendError(f"{name}: the frontend would queue {queued} instead of {wanted}")


def _bare(graph: Graph) -> Graph:
    """Classes and inputs only."""
    return {node: {"class_type": entry["class_type"], "inputs": entry["inputs"]} for node, entry in graph.items()}
