"""What a person does in ComfyUI, by mouse and keyboard where there is a way to."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from comfy_server import ComfyServer

if TYPE_CHECKING:
    from playwright.sync_api import ConsoleMessage, Locator, Page

SCREENSHOTS = Path(__file__).resolve().parents[2] / "output" / "browser"
# The frontend asks the registry about every node; here it cannot.
REGISTRY = "https://api.comfy.org/"
# What the server reports while it runs.
RECORD = """
() => {
  window.run = {step: 0, ended: null};
  app.api.addEventListener('progress', event => { run.step = event.detail.value; });
  app.api.addEventListener('execution_start', () => { run.step = 0; run.ended = null; });
  for (const end of ['execution_success', 'execution_error', 'execution_interrupted'])
    app.api.addEventListener(end, () => { run.ended = end; });
}
"""
# A node's picture as 16 x 16 RGBA values, the pixels of the original, and whether the run goes on.
LOOK = """
async ([type, step]) => {
  const node = app.graph.nodes.find(node => node.type === type);
  while (run.step < step && !run.ended || !node.imgs?.[0]?.complete) await new Promise(requestAnimationFrame);
  const picture = node.imgs[0], canvas = new OffscreenCanvas(16, 16), pen = canvas.getContext('2d');
  pen.drawImage(picture, 0, 0, 16, 16);
  const values = [...pen.getImageData(0, 0, 16, 16).data];
  return {values, size: [picture.naturalWidth, picture.naturalHeight], step: run.step, ended: run.ended};
}
"""
DROP = """
data => {
  const bytes = Uint8Array.from(atob(data), letter => letter.charCodeAt(0)), dropped = new DataTransfer();
  dropped.items.add(new File([bytes], 'picture.png', {type: 'image/png'}));
  return dropped;
}
"""
# What lies on the screen in the middle of each node's title: the canvas, or something that covers it.
COVERED = """
() => app.graph.nodes.flatMap(node => {
  const [x, y] = app.canvas.ds.convertOffsetToCanvas([node.pos[0] + node.size[0] / 2, node.pos[1] - 15]);
  const box = app.canvas.canvas.getBoundingClientRect();
  const there = document.elementFromPoint(box.left + x, box.top + y);
  return !there || there === app.canvas.canvas ? [] : [node.title];
})
"""


class Visit:
    """A page of ComfyUI's frontend; `errors` are those in the browser's console that this pack causes."""

    server: ComfyServer
    page: Page

    def __init__(self) -> None:
        self.errors: list[str] = []

    def listen(self, page: Page) -> None:
        """Collects errors of `page`: all that nobody catches, and those that name this pack or its files."""

        def console(message: ConsoleMessage) -> None:
            said = f"{message.text} {message.location.get('url', '')}"
            if message.type == "error" and "amused" in said.lower() and REGISTRY not in said:
                self.errors.append(said)

        page.on("console", console)
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def at(self, page: Page) -> Visit:
        """Begins on `page`."""
        self.page = page
        page.set_default_timeout(20_000)
        page.evaluate(RECORD)
        return self

    def keep(self, name: str) -> None:
        """Keeps a screenshot."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png")

    def reload(self) -> None:
        """Reloads the page."""
        from frontend import READY

        self.page.reload()
        self.page.wait_for_function(READY, timeout=60_000)
        self.page.evaluate(RECORD)

    def command(self, name: str) -> None:
        """Does what a menu entry or key does, such as "Comfy.BrowseTemplates"."""
        self.page.evaluate("name => app.extensionManager.command.execute(name)", name)

    def browse_templates(self) -> None:
        """Opens the template browser at this pack's templates."""
        self.command("Comfy.BrowseTemplates")
        folder = self.server.get("/object_info/AmusedLoader")["AmusedLoader"]["python_module"].split(".")[1]
        self.page.locator(".p-dialog").get_by_text(folder, exact=True).click()
        self.page.get_by_test_id("template-workflow-text_to_image").wait_for()

    def open_template(self, name: str) -> None:
        """Opens a template of this pack."""
        self.browse_templates()
        self.page.get_by_test_id(f"template-workflow-{name}").click()
        self.page.locator(".p-dialog").wait_for(state="detached")
        self.page.wait_for_function("() => app.graph.nodes.some(node => node.type === 'MarkdownNote')")

    def clear(self) -> None:
        """Empties the canvas."""
        self.page.evaluate("() => { app.graph.clear(); app.canvas.ds.reset(); }")

    def search(self, words: str) -> Locator:
        """Searches the nodes, from a double click on the canvas; returns what is listed, which changes for a moment."""
        # Two clicks in the same tenth of a millisecond are no double click to the canvas.
        self.page.mouse.dblclick(800, 500, delay=20)
        # Until the box is there, letters are shortcuts: "m" opens a panel.
        self.page.get_by_placeholder("Search Nodes...").press_sequentially(words)
        return self.page.locator("li.p-autocomplete-option")

    def add(self, node: str) -> None:
        """Puts a node onto the empty canvas and selects it."""
        self.clear()
        make = "type => { const node = LiteGraph.createNode(type); node.pos = [800, 300]; app.graph.add(node); }"
        self.page.evaluate(make, node)
        self.select(node)

    def select(self, node: str) -> None:
        """Selects the first node of a class."""
        self.page.evaluate("type => app.canvas.selectNode(app.graph.nodes.find(node => node.type === type))", node)

    def help(self, heading: str) -> Locator:
        """Opens the selected node's help page and waits for its heading."""
        self.page.get_by_test_id("info-button").click()
        page = self.page.locator(".node-help-content")
        page.get_by_role("heading", level=1, name=heading, exact=True).wait_for()
        return page

    def queue(self) -> None:
        """Presses Run."""
        self.page.evaluate("() => { run.step = 0; run.ended = null; }")
        self.page.get_by_test_id("queue-button").locator("button").first.click()

    def finish(self) -> str:
        """Waits for the end of the run and returns how it ended."""
        self.page.wait_for_function("() => run.ended", timeout=120_000)
        return self.page.evaluate("run.ended")

    def look(self, node: str, step: int = 0) -> tuple[np.ndarray, dict[str, Any]]:
        """The picture that a node shows, once the run is at `step`: float [16,16,3] in 0..255, and size and state."""
        seen = self.page.evaluate(LOOK, [node, step])
        return np.reshape(seen.pop("values"), (16, 16, 4))[..., :3].astype(float), seen

    def drop(self, picture: bytes) -> None:
        """Drops a PNG file onto the canvas."""
        data = self.page.evaluate_handle(DROP, base64.b64encode(picture).decode())
        self.page.dispatch_event("#graph-canvas", "drop", {"dataTransfer": data})

    def api(self) -> dict[str, Any]:
        """The graph that Run would queue: classes and inputs."""
        graph = json.loads(self.page.evaluate("async () => JSON.stringify((await app.graphToPrompt()).output)"))
        return {node: {key: entry[key] for key in ("class_type", "inputs")} for node, entry in graph.items()}

    def messages(self) -> list[str]:
        """Texts of dialogs and messages on the screen."""
        return self.page.locator(".p-toast-message, .p-dialog").all_inner_texts()

    def covered(self) -> list[str]:
        """Titles of nodes that a menu covers; nodes beyond the screen's edge do not count."""
        return self.page.evaluate(COVERED)
