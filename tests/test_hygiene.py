"""What ships is clean: nothing the registry's scanner refuses, no ComfyUI in the core, nothing of this machine."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
# The registry's scanner looks at text, so comments and documents count as well.
REFUSED = {
    "network access": r"\b(urllib|requests|aiohttp|httpx|socket|http|websockets?)\.\w+\(|\.(connect|bind|send)\(",
    "the environment": r"\bos\.(environ|getenv|putenv)\b",
    "other processes": r"\bsubprocess\b|\bos\.(system|popen|exec\w*|spawn\w*)\(",
    "code made at run time": r"(?<![\w.])(eval|exec|compile|__import__)\(|\bimportlib\.import_module\b",
    "pickles": r"\bpickle\b|\btorch\.load\(|\bdill\b|\bmarshal\.loads?\(",
    "global random state": r"\b(torch|random|numpy\.random|np\.random)\.(manual_)?seed\(",
    "logging set-up": r"\blogging\.basicConfig\(",
    "changed import paths": r"\bsys\.path\.(insert|append|extend)\(|\bsys\.path\s*=",
    "raw code addresses": r"raw\.githubusercontent\.com",
    "databases": r"\b(sqlite3|psycopg2?|pymysql|sqlalchemy|pymongo)\b",
}
NETWORK_MODULES = {
    "urllib",
    "requests",
    "aiohttp",
    "httpx",
    "socket",
    "ftplib",
    "http",
    "websocket",
    "websockets",
    "ssl",
}
MACHINE_PATHS = re.compile(r"(?<![\w.}/])/(work|tmp|root|home|Users)/\w+")
SCANNED = {".py", ".js", ".md", ".json", ".toml", ".txt", ".yaml", ".html", ".css"}


def git_files(*arguments: str) -> set[str]:
    """Paths that `git ls-files` prints, of tracked files and of new ones that are not ignored."""
    command = ["git", "ls-files", "--cached", "--others", *arguments]
    return {
        name
        for name in subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
        if (ROOT / name).is_file()
    }


def project_files() -> list[Path]:
    """Every file of the project."""
    return [ROOT / name for name in sorted(git_files("--exclude-standard"))]


def shipped_files() -> list[Path]:
    """The project without what .comfyignore leaves out."""
    left_out = git_files("--ignored", "--exclude-from=.comfyignore")
    return [path for path in project_files() if path.relative_to(ROOT).as_posix() not in left_out]


def texts(paths: list[Path]) -> list[tuple[str, str]]:
    """(name, content) of the text files among `paths`."""
    return [(p.relative_to(ROOT).as_posix(), p.read_text("utf-8")) for p in paths if p.suffix in SCANNED]


def imports(path: Path, top_level_only: bool = False) -> set[str]:
    """Names of modules that a file imports absolutely."""
    tree = ast.parse(path.read_text("utf-8"))
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module)
    return found


def top(modules: set[str]) -> set[str]:
    """The packages of modules."""
    return {module.partition(".")[0] for module in modules}


def test_shipped_files_are_what_we_mean() -> None:
    names = {path.relative_to(ROOT).as_posix() for path in shipped_files()}
    assert {"__init__.py", "pyproject.toml", "LICENSE", "README.md", "requirements.txt"} <= names
    assert {"nodes/__init__.py", "amused_core/__init__.py", "workflows/text_to_image.json"} <= names
    assert {"locales/ar/nodeDefs.json", "locales/en/main.json", "web/docs/AmusedLoader/ar.md"} <= names
    assert not [name for name in names if name.startswith(("tests/", "tools/", ".ci/", "docs/")) or name == "Makefile"]


def test_nothing_is_bundled() -> None:
    """The scanner refuses copies of other packages ("vendored")."""
    folders = {"dist", "build", "node_modules", "vendor", "vendored", "third_party", "site-packages"}
    endings = (".min.js", ".whl", ".so", ".dll", ".pyd", ".dylib", ".exe", ".zip", ".tar.gz", ".egg")
    shipped = [path.relative_to(ROOT) for path in shipped_files()]
    assert not [path for path in shipped if folders & set(path.parts) or path.name.endswith(endings)]


def test_python_is_readable_on_windows() -> None:
    """Tools that read Python as cp1252 fail on other letters; Arabic and Chinese belong in locales/ and web/docs/."""
    for path in shipped_files():
        if path.suffix == ".py":
            path.read_text("utf-8").encode("cp1252")


def test_registry_knows_the_pack() -> None:
    """pyproject.toml has what the ComfyUI registry asks for, and the pictures have the sizes it wants."""
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    fields = dict(re.findall(r'^([\w-]+) = "(.*)"$', text, re.MULTILINE))
    assert re.fullmatch(r"[A-Za-z](?!.*[-_.]{2})[\w.-]{0,98}", name := fields["name"])
    assert "comfyui" not in name.lower()
    assert re.fullmatch(r"\d+\.\d+\.\d+", fields["version"]) and fields["description"]
    assert fields["PublisherId"] and fields["DisplayName"] and fields["requires-comfyui"].startswith(">=")
    with Image.open(ROOT / "docs" / Path(fields["Icon"]).name) as icon:
        assert icon.width == icon.height <= 400
    with Image.open(ROOT / "docs" / Path(fields["Banner"]).name) as banner:
        assert banner.width * 9 == banner.height * 21


@pytest.mark.parametrize("what", REFUSED)
def test_scanner_finds_nothing(what: str) -> None:
    pattern = re.compile(REFUSED[what])
    hits = [(name, hit.group(0)) for name, text in texts(shipped_files()) if (hit := pattern.search(text))]
    assert not hits, f"shipped files use {what}: {hits}"


@pytest.mark.parametrize(
    ("what", "sample"),
    [
        ("network access", "sock.connect(address)"),
        ("the environment", 'os.environ["HOME"]'),
        ("other processes", "import subprocess"),
        ("code made at run time", "x = eval(text)"),
        ("pickles", "torch.load(path)"),
        ("global random state", "torch.manual_seed(0)"),
        ("logging set-up", "logging.basicConfig()"),
        ("changed import paths", "sys.path.insert(0, here)"),
        ("raw code addresses", "https://raw.githubusercontent.com/a/b"),
        ("databases", "import sqlite3"),
    ],
)
def test_scanner_would_find(what: str, sample: str) -> None:
    assert re.search(REFUSED[what], sample)


def test_scanner_lets_models_be() -> None:
    assert not re.search(REFUSED["code made at run time"], "model.eval(); re.compile(x); torch.compile(m)")


def test_no_network_module_is_imported() -> None:
    hits = {
        path.name: used
        for path in shipped_files()
        if path.suffix == ".py" and (used := top(imports(path)) & NETWORK_MODULES)
    }
    assert not hits


def test_core_knows_no_comfyui() -> None:
    comfy = {"comfy", "comfy_api", "comfy_extras", "comfy_execution", "folder_paths", "nodes", "server", "execution"}
    hits = {
        path.name: used
        for path in shipped_files()
        if "amused_core" in path.parts and path.suffix == ".py" and (used := top(imports(path)) & comfy)
    }
    assert not hits


def test_only_host_touches_comfyui_internals() -> None:
    internals = {"comfy", "comfy_extras", "comfy_execution", "folder_paths", "server", "execution", "latent_preview"}
    hits = {path.name: used for path in (ROOT / "nodes").glob("*.py") if (used := top(imports(path)) & internals)}
    assert not hits


def test_nodes_leave_the_device_to_comfyui() -> None:
    files = [path for path in shipped_files() if path.is_relative_to(ROOT / "nodes") and path.suffix == ".py"]
    hits = [(path.name, hit[0]) for path in files if (hit := re.search(r"\b(cuda|mps|xpu)\b", path.read_text("utf-8")))]
    assert files and not hits


def test_pack_imports_itself_relatively() -> None:
    hits = [path.name for path in shipped_files() if path.suffix == ".py" and "amused_core" in top(imports(path))]
    assert not hits, "ComfyUI loads the pack under another name, so absolute imports of it fail there"


def test_importing_the_core_is_light() -> None:
    code = (
        "import sys, amused_core; amused_core.load_model; "
        "print([m for m in ('diffusers', 'transformers', 'comfy', 'PIL', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_paths_of_a_machine() -> None:
    hits = [
        (name, hit.group(0))
        for name, text in texts(project_files())
        if name != "tests/test_hygiene.py" and (hit := MACHINE_PATHS.search(text))
    ]
    assert not hits


def test_requirements_leave_torch_alone() -> None:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    wanted = [line for line in lines if line.strip() and not line.startswith("#")]
    assert wanted
    assert not [line for line in wanted if line.startswith("torch")]
    assert not [line for line in wanted if re.search(r"==|<|~=", line)], "floors only"


def test_pyproject_pins_nothing() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    dependencies = re.search(r"^dependencies = \[(.*?)^\]", text, re.MULTILINE | re.DOTALL).group(1)
    listed = re.findall(r'"([^"]+)"', dependencies)
    assert "torch" in listed, "any torch that is there is good"
    assert not [entry for entry in listed if re.search(r"==|<|~=", entry)], "floors only"
    assert set(listed) >= {line for line in (ROOT / "requirements.txt").read_text().splitlines() if line[:1].isalpha()}


def test_locales_and_examples_are_json() -> None:
    for path in project_files():
        if path.suffix == ".json":
            json.loads(path.read_text("utf-8"))


def test_no_weights_but_safetensors() -> None:
    bad = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".npy", ".npz", ".whl"}
    assert not [path.name for path in project_files() if path.suffix in bad]


def test_wheel_holds_the_core_and_its_model(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        entry = next(name for name in names if name.endswith("entry_points.txt"))
        assert "amused = amused_core.cli:main" in archive.read(entry).decode()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"amused_core"}
    core = {path.relative_to(ROOT).as_posix() for path in project_files() if "amused_core" in path.parts}
    assert core <= names
    assert any(name.startswith("amused_core/embedded/") and name.endswith(".safetensors") for name in names)
