"""What a person does in ComfyUI, by mouse and keyboard where there is a way to."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from comfy_server import ComfyServer

from tests.browser.scripts import CHANGE, COVERED, DROP, LOOK, OVERLAPPING, RECORD, TYPING

if TYPE_CHECKING:
    from playwright.sync_api import ConsoleMessage, Locator, Page

SCREENSHOTS = Path(__file__).resolve().parents[2] / "output" / "browser"
# Milliseconds to wait for anything; a busy machine needs many.
PATIENCE = 120_000
# The frontend asks the registry about every node; here it cannot.
REGISTRY = "https://api.comfy.org/"


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
        page.set_default_timeout(PATIENCE)
        page.evaluate(RECORD)
        return self

    def keep(self, name: str) -> None:
        """Keeps a screenshot."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png")

    def reload(self) -> None:
        """Reloads the page."""
        from frontend import open_page

        open_page(self.page, self.server)
        self.page.evaluate(RECORD)

    def command(self, name: str) -> None:
        """Does what a menu entry or key does, such as "Comfy.BrowseTemplates"."""
        self.page.evaluate("name => app.extensionManager.command.execute(name)", name)

    def browse_templates(self) -> Locator:
        """Opens the template browser at this pack's templates; returns the dialog."""
        self.command("Comfy.BrowseTemplates")
        folder = self.server.get("/object_info/AmusedLoader")["AmusedLoader"]["python_module"].split(".")[1]
        dialog = self.page.get_by_role("dialog")
        dialog.get_by_role("button", name=folder, exact=True).click()
        dialog.get_by_role("heading", name="text_to_image", exact=True).wait_for()
        return dialog

    def open_template(self, name: str) -> None:
        """Opens a template of this pack."""
        self.clear()
        dialog = self.browse_templates()
        dialog.get_by_role("heading", name=name, exact=True).click()
        dialog.wait_for(state="hidden")
        self.page.wait_for_function("() => app.graph.nodes.some(node => node.type === 'MarkdownNote')")

    def use_nodes_2(self, on: bool) -> None:
        """Chooses the renderer of nodes, as found at the next start of the page."""
        self.server.post("/settings", {"Comfy.VueNodes.Enabled": on})
        self.reload()

    def clear(self) -> None:
        """Empties the canvas."""
        self.page.evaluate("() => { app.graph.clear(); app.canvas.ds.reset(); }")

    def search(self, words: str) -> Locator:
        """Searches the nodes, from a double click on the canvas; returns what is listed, which changes for a moment."""
        # Two clicks in the same tenth of a millisecond are no double click to the canvas, nor are two far apart, as a
        # busy machine may make them. Until the box is there, letters are shortcuts: "m" opens a panel.
        for _ in range(20):
            self.page.mouse.dblclick(800, 500, delay=20)
            if self.page.evaluate(TYPING):
                break
        self.page.keyboard.type(words)
        return self.page.get_by_role("option")

    def add(self, node: str) -> None:
        """Puts a node onto the empty canvas and selects it."""
        self.clear()
        make = "type => { const node = LiteGraph.createNode(type); node.pos = [800, 300]; app.graph.add(node); }"
        self.page.evaluate(make, node)
        self.select(node)

    def change(self, node: str, widget: str, value: str | int) -> None:
        """Sets a widget of the first node of a class."""
        self.page.evaluate(CHANGE, [node, widget, value])

    def select(self, *nodes: str) -> None:
        """Selects the nodes of these classes."""
        chosen = "types => app.canvas.selectItems(app.graph.nodes.filter(node => types.includes(node.type)))"
        self.page.evaluate(chosen, nodes)

    def tool(self, name: str, test_id: str) -> Locator:
        """A tool above the selected nodes; some frontends give it no name."""
        return self.page.get_by_role("button", name=name, exact=True).or_(self.page.get_by_test_id(test_id)).first

    def help(self, heading: str) -> Locator:
        """Opens the selected node's help page and waits for its heading."""
        self.tool("Node Info", "info-button").click()
        found = self.page.get_by_role("heading", level=1, name=heading, exact=True)
        found.wait_for()
        return found.locator("..")

    def queue(self) -> None:
        """Presses Run."""
        self.page.evaluate("() => { run.step = 0; run.ended = null; }")
        self.page.get_by_role("button", name="Run", exact=True).first.click()

    def cancel(self) -> None:
        """Presses Cancel."""
        self.page.get_by_role("button", name="Cancel current run").click()

    def finish(self) -> str:
        """Waits for the end of the run and returns how it ended."""
        self.page.wait_for_function("() => run.ended")
        return self.page.evaluate("run.ended")

    def look(self, node: str, step: int = 0) -> tuple[np.ndarray, dict[str, Any]]:
        """The picture that a node shows, once the run is at `step`: float [16,16,3] in 0..255, and size and state."""
        seen = self.page.evaluate(LOOK, [node, step])
        return np.reshape(seen.pop("values"), (16, 16, 4))[..., :3].astype(float), seen

    def drop(self, picture: bytes) -> None:
        """Drops a PNG file onto the canvas."""
        data = self.page.evaluate_handle(DROP, base64.b64encode(picture).decode())
        canvas = self.page.evaluate_handle("app.canvas.canvas").as_element()
        canvas.dispatch_event("drop", {"dataTransfer": data})

    def api(self) -> dict[str, Any]:
        """The graph that Run would queue: classes and inputs."""
        graph = json.loads(self.page.evaluate("async () => JSON.stringify((await app.graphToPrompt()).output)"))
        return {node: {key: entry[key] for key in ("class_type", "inputs")} for node, entry in graph.items()}

    def messages(self) -> list[str]:
        """Texts of dialogs and messages on the screen."""
        from frontend import messages

        return messages(self.page)

    def wait_until_uncovered(self) -> None:
        """Waits until no menu covers a node's title; those beyond the screen's edge do not count."""
        self.page.wait_for_function(f"() => !({COVERED})().length")

    def overlapping(self) -> list[list[str]]:
        """Titles of nodes that lie on others, as Nodes 2.0 lays them out; the canvas keeps the sizes in the file."""
        return self.page.evaluate(OVERLAPPING)

    def wait_until_whole(self, parts: Locator) -> None:
        """Waits until all elements are on the screen, none cut by its surroundings."""
        from playwright.sync_api import expect

        parts.first.wait_for()
        for part in parts.all():
            expect(part).to_be_in_viewport(ratio=0.99, timeout=PATIENCE)
