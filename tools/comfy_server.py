"""A real ComfyUI server as a context manager: start it, run API-format graphs, get the pictures."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Graph = dict[str, dict[str, Any]]


class ServerError(RuntimeError):
    """The server did not start, refused a graph, or failed while running it."""


class ComfyServer:
    """Runs `main.py` of a ComfyUI folder on a free port; its files go to a temporary folder unless `keep_files`.

    Args:
        comfyui: the folder that holds main.py.
        python: the Python that runs it.
        arguments: more arguments of main.py, such as `--cpu`.
        keep_files: use ComfyUI's own input, output and user folders.
        port: 0 takes a free one.
    """

    def __init__(
        self,
        comfyui: Path,
        python: str = sys.executable,
        arguments: Sequence[str] = ("--cpu",),
        keep_files: bool = False,
        port: int = 0,
    ) -> None:
        self.comfyui = Path(comfyui).resolve()
        self.python = python
        self.arguments = list(arguments)
        self.keep_files = keep_files
        self.port = port or _free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> ComfyServer:
        self._folder = tempfile.TemporaryDirectory(prefix="amused-comfyui-")
        command = [self.python, "main.py", "--port", str(self.port), "--disable-auto-launch", *self.arguments]
        if not self.keep_files:
            command += self._own_folders()
        environment = os.environ | {"PYTHONUNBUFFERED": "1"}
        with self.log_file.open("wb") as log:
            self._process = subprocess.Popen(
                command, cwd=self.comfyui, stdout=log, stderr=subprocess.STDOUT, env=environment
            )
        try:
            self._wait_until_up()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def files(self) -> Path:
        """The temporary folder: the log, and input, output, user and temp folders."""
        assert self._folder is not None
        return Path(self._folder.name)

    @property
    def log_file(self) -> Path:
        """Where the server's standard output and error go."""
        return self.files / "comfyui.log"

    @property
    def pid(self) -> int:
        """The server's process."""
        assert self._process is not None
        return self._process.pid

    def log(self, lines: int = 40) -> str:
        """The last lines that the server printed."""
        return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-lines:])

    def stop(self) -> None:
        """Ends the server and removes its temporary folder."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def wait(self) -> None:
        """Returns when the server has ended."""
        assert self._process is not None
        self._process.wait()

    def get(self, path: str) -> Any:
        """GETs a JSON answer."""
        return json.loads(self._request(path))

    def post(self, path: str, body: Any) -> Any:
        """POSTs JSON and returns the JSON answer, or None where there is none."""
        answer = self._request(path, json.dumps(body).encode())
        return json.loads(answer) if answer else None

    def submit(self, graph: Graph) -> str:
        """Queues a graph and returns its prompt id; a refused graph raises with the reason of every node."""
        try:
            return self.post("/prompt", {"prompt": graph, "client_id": uuid.uuid4().hex})["prompt_id"]
        except urllib.error.HTTPError as error:
            raise ServerError(_refusal(json.loads(error.read()))) from error

    def result(self, prompt_id: str, timeout: float = 300) -> dict[str, Any]:
        """Waits for a prompt and returns its history entry; a failed node raises with its message."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            history = self.get(f"/history/{prompt_id}")
            if prompt_id in history:
                return _checked(history[prompt_id])
            self._check_alive()
            time.sleep(0.1)
        raise ServerError(f"No result after {timeout:.0f} s. The server's last words:\n{self.log()}")

    def run(self, graph: Graph, timeout: float = 300) -> dict[str, Any]:
        """Runs a graph and returns the outputs per node id, as /history gives them."""
        return self.result(self.submit(graph), timeout)["outputs"]

    def pictures(self, outputs: dict[str, Any]) -> list[bytes]:
        """The files of all pictures in `outputs`, in the order of the node ids."""
        found = [image for node in sorted(outputs, key=int) for image in outputs[node].get("images", [])]
        return [self._request("/view?" + urllib.parse.urlencode(image)) for image in found]

    def _own_folders(self) -> list[str]:
        command = ["--database-url", "sqlite:///:memory:"]
        for name in ("input", "output", "temp", "user"):
            (self.files / name).mkdir()
            command += [f"--{name}-directory", str(self.files / name)]
        return command

    def _request(self, path: str, body: bytes | None = None) -> bytes:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        request = urllib.request.Request(self.address + path, body, headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read()

    def _wait_until_up(self, timeout: float = 180) -> None:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            self._check_alive()
            try:
                self.get("/system_stats")
                return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.2)
        raise ServerError(f"ComfyUI did not answer in {timeout:.0f} s. Its last words:\n{self.log()}")

    def _check_alive(self) -> None:
        assert self._process is not None
        if self._process.poll() is not None:
            raise ServerError(f"ComfyUI ended with {self._process.returncode}. Its last words:\n{self.log()}")


def end_cleanly() -> None:
    """Makes the signal that ends a process an exception, so that `with ComfyServer(...)` stops its server."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _refusal(answer: dict[str, Any]) -> str:
    """One line per complaint of a 400 answer."""
    lines = [answer["error"]["message"]]
    for node, report in answer.get("node_errors", {}).items():
        lines += [f"node {node} ({report['class_type']}): {e['message']}: {e['details']}" for e in report["errors"]]
    return "\n".join(lines)


def _checked(entry: dict[str, Any]) -> dict[str, Any]:
    """The history entry, or the first failed node's error."""
    if entry["status"]["status_str"] == "success":
        return entry
    for kind, data in entry["status"]["messages"]:
        if kind == "execution_error":
            raise ServerError(f"node {data['node_id']} ({data['node_type']}): {data['exception_message'].strip()}")
    raise ServerError(f"The run ended with {entry['status']['status_str']!r}.")
