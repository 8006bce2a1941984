"""A real ComfyUI in the test's own process: its executor, its nodes and this pack, without the web server."""

from __future__ import annotations

import asyncio
import inspect
import os
import sys
import uuid
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
COMFYUI_DIR = os.environ.get("COMFYUI_DIR")
STORE: dict[str, Any] = {}


class GraphError(Exception):
    """What ComfyUI reports for a prompt that is invalid or fails; `kind` is the exception's type."""

    def __init__(self, message: str, kind: str = "") -> None:
        super().__init__(message)
        self.kind = kind


class AnyType(str):
    """Fits every socket."""

    def __ne__(self, other: object) -> bool:
        return False


ANY = AnyType("*")


class Take:
    """Ends a graph: keeps a value for the test."""

    INPUT_TYPES = classmethod(lambda cls: {"required": {"value": (ANY,), "key": ("STRING", {})}})
    RETURN_TYPES: tuple[str, ...] = ()
    OUTPUT_NODE = True
    FUNCTION = "take"
    CATEGORY = "test"

    def take(self, value: Any, key: str) -> dict[str, Any]:
        STORE[key] = value
        return {}


class TakeAll(Take):
    """The same for every value of an output that is a list."""

    INPUT_IS_LIST = True

    def take(self, value: list[Any], key: list[str]) -> dict[str, Any]:
        return super().take(value, key[0])


class Give:
    """Starts a graph: a value from the test."""

    INPUT_TYPES = classmethod(lambda cls: {"required": {"key": ("STRING", {})}})
    RETURN_TYPES = (ANY,)
    FUNCTION = "give"
    CATEGORY = "test"

    def give(self, key: str) -> tuple[Any]:
        return (STORE[key],)


class Server:
    """The part of ComfyUI's web server that its executor talks to."""

    def __init__(self) -> None:
        self.client_id = "test"
        self.last_node_id = self.last_prompt_id = None
        self.sockets_metadata: dict[str, Any] = {}
        self.events: list[tuple[Any, Any]] = []

    def send_sync(self, event: Any, data: Any, sid: Any = None) -> None:
        self.events.append((event, data))


class Comfy:
    """Builds and runs graphs: `comfy.run(comfy.node("AmusedLoader", model="tiny"))`."""

    def __init__(self, models: Path) -> None:
        self.models = models
        self.server = Server()
        self.steps: list[tuple[int, int, Any]] = []
        self.on_progress: Any = None
        self.nodes, self.execution, self.pack = _boot(self)
        self.fresh()

    def fresh(self) -> None:
        """A new executor with empty caches."""
        wanted = inspect.signature(self.execution.PromptExecutor.__init__).parameters
        kw = {"cache_args": {"lru": 0, "ram": 0, "ram_inactive": 0}} if "cache_args" in wanted else {}
        self.executor = self.execution.PromptExecutor(self.server, **kw)

    def module(self, name: str) -> ModuleType:
        """A module of the pack, such as "nodes.host.guards"."""
        return sys.modules[f"{self.pack}.{name}"]

    def node(self, class_type: str, **inputs: Any) -> SimpleNamespace:
        """A node; inputs are values, nodes (their first output) or (node, output index)."""
        return SimpleNamespace(class_type=class_type, inputs=inputs, id=uuid.uuid4().hex)

    def defaults(self, class_type: str) -> dict[str, Any]:
        """The defaults of a node's required widgets: newer versions of stock nodes have more of them."""
        required = self.nodes.NODE_CLASS_MAPPINGS[class_type].INPUT_TYPES()["required"]
        options = {name: entry[1] for name, entry in required.items() if len(entry) > 1}
        return {name: entry["default"] for name, entry in options.items() if "default" in entry}

    def give(self, value: Any) -> SimpleNamespace:
        """A node that hands out `value`."""
        key = uuid.uuid4().hex
        STORE[key] = value
        return self.node("Give", key=key)

    def run(self, *outputs: Any) -> Any:
        """Runs the graph that ends in `outputs` (nodes or (node, index)); returns their values, one or a list."""
        prompt: dict[str, Any] = {}
        keys = [uuid.uuid4().hex for _ in outputs]
        for output, key in zip(outputs, keys, strict=True):
            self._collect(self.node("Take", value=output, key=key), prompt)
        self.prompt(prompt)
        values = [STORE.pop(key) for key in keys]
        return values[0] if len(values) == 1 else values

    def run_all(self, output: Any) -> list[Any]:
        """Runs the graph that ends in an output that is a list; returns all its values."""
        key = uuid.uuid4().hex
        self.finish(self.node("TakeAll", value=output, key=key))
        return STORE.pop(key)

    def finish(self, node: SimpleNamespace) -> None:
        """Runs the graph that ends in an output node, such as "SaveLatent"."""
        prompt: dict[str, Any] = {}
        self._collect(node, prompt)
        self.prompt(prompt)

    def prompt(self, prompt: dict[str, Any]) -> None:
        """Runs a prompt in API format; raises `GraphError` with ComfyUI's own message."""
        self.steps.clear()
        wanted = inspect.signature(self.execution.validate_prompt).parameters
        args = ("test", prompt, None) if len(wanted) == 3 else (prompt,)
        valid, error, outputs, node_errors = asyncio.run(self.execution.validate_prompt(*args))
        if not valid:
            raise GraphError(f"{error} {node_errors}", "invalid")
        self.executor.execute(prompt, uuid.uuid4().hex, {"client_id": "test"}, outputs)
        for event, data in self.executor.status_messages:
            if event == "execution_error":
                raise GraphError(data["exception_message"], data["exception_type"])
            if event == "execution_interrupted":
                raise GraphError("interrupted", "interrupted")

    def previews(self, method: str) -> None:
        """Sets ComfyUI's preview method: "none", "auto", "latent2rgb" or "taesd"."""
        import latent_preview
        from comfy.cli_args import LatentPreviewMethod, args

        args.preview_method = LatentPreviewMethod(method)
        latent_preview.default_preview_method = args.preview_method  # Newer versions set it anew for each prompt.

    def _collect(self, node: SimpleNamespace, prompt: dict[str, Any]) -> None:
        if node.id in prompt:
            return
        prompt[node.id] = {"class_type": node.class_type, "inputs": (inputs := {})}
        for name, value in node.inputs.items():
            source, index = value if isinstance(value, tuple) else (value, 0)
            if isinstance(source, SimpleNamespace):
                self._collect(source, prompt)
                value = [source.id, index]
            inputs[name] = value


def _boot(harness: Comfy) -> tuple[ModuleType, ModuleType, str]:
    """Imports ComfyUI as its main.py does, on a CPU, and loads the pack; returns its nodes, its executor, our name."""
    if sys.path[0] != COMFYUI_DIR:
        sys.path.insert(0, str(COMFYUI_DIR))
    from comfy.cli_args import args

    args.cpu = True
    import utils.install_util  # noqa: F401, I001  before ComfyUI's comfy/ folder hides this package
    import comfy.model_management
    import comfy.utils
    import execution
    import folder_paths
    import nodes

    for name in ("output", "input", "temp"):
        folder = harness.models / name
        folder.mkdir()
        getattr(folder_paths, f"set_{name}_directory")(str(folder))
    for kind in ("amused", "diffusers"):
        folder_paths.add_model_folder_path(kind, str(harness.models / kind))
    nodes.NODE_CLASS_MAPPINGS.update(Take=Take, TakeAll=TakeAll, Give=Give)
    asyncio.run(nodes.init_builtin_extra_nodes())
    assert asyncio.run(nodes.load_custom_node(str(ROOT))), "the pack does not load"

    def hook(value: int, total: int, preview: Any, **_: Any) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        harness.steps.append((value, total, preview))
        if harness.on_progress is not None:
            harness.on_progress(value)

    comfy.utils.set_progress_bar_global_hook(hook)
    # Newer versions leave out progress that comes too fast for people.
    comfy.utils.PROGRESS_THROTTLE_MIN_INTERVAL = comfy.utils.PROGRESS_THROTTLE_MIN_PERCENT = 0
    return nodes, execution, str(ROOT).replace(".", "_x_")
