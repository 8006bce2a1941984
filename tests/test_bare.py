"""A bare machine: the README's commands run with what is declared, and nothing else."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, packages_distributions
from pathlib import Path

import pytest
from comfy_server import ComfyServer, ServerError
from install_comfyui import TORCH, UNLISTED
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.bare import BareEnvironment, closure, declared, listed

ROOT = Path(__file__).resolve().parents[1]
COMFYUI = Path(os.environ.get("COMFYUI_DIR", "no ComfyUI"))
README = (ROOT / "README.md").read_text("utf-8")
needs_comfyui = pytest.mark.skipif(not COMFYUI.is_dir(), reason="COMFYUI_DIR is not set: no ComfyUI to test against")
# Where an extra is needed; elsewhere it may be used only where its absence is handled.
EXTRA = {"amused_core/finetune": "train", "amused_core/small_world/training": "train"}
# Packages whose names are not those of their distributions here; these come with ComfyUI, or are named in a refusal.
HOST = {"comfy", "comfy_api", "folder_paths", "latent_preview", "node_helpers", "nodes"}
ADVICE = {"bitsandbytes"}
HEADLESS = r"(?:amused (?:batch|bench|decode|eval|generate|save|train)|(?:\.venv/bin/)?python tools/)"
# The same commands, smaller: the last of an option that is given twice counts.
SMALLER = {
    r"amused eval.*": r"\g<0> --count 2",
    r"(amused bench.*) --shape \d+(.*)": r"\g<1>\g<2> --repeats 1",
}


def imports(file: Path) -> Iterator[tuple[str, bool]]:
    """Packages that a file imports, and whether it handles their absence."""

    def visit(node: ast.AST, handled: bool) -> Iterator[tuple[str, bool]]:
        if isinstance(node, ast.Import):
            yield from ((alias.name.partition(".")[0], handled) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.partition(".")[0], handled
        for name, value in ast.iter_fields(node):
            inside = isinstance(node, ast.Try) and name == "body" and "ImportError" in map(_text, _caught(node))
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from visit(child, handled or inside)

    yield from visit(ast.parse(file.read_text("utf-8")), False)


def _caught(node: ast.Try) -> list[ast.expr | None]:
    kinds = [handler.type for handler in node.handlers]
    return [kind for one in kinds for kind in (one.elts if isinstance(one, ast.Tuple) else [one])]


def _text(node: ast.expr | None) -> str:
    return "" if node is None else ast.unparse(node)


def undeclared(folder: str, allowed: Callable[[Path, bool], set[str]]) -> list[tuple[str, str]]:
    """(file, package) of imports in `folder` whose distribution is not among the allowed ones."""
    owners = packages_distributions()
    return [
        (file.relative_to(ROOT).as_posix(), package)
        for file in sorted((ROOT / folder).rglob("*.py"))
        for package, handled in imports(file)
        if package not in sys.stdlib_module_names
        and not {canonicalize_name(name) for name in owners.get(package, [package])} & allowed(file, handled)
    ]


def distributions(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(line).name) for line in requirements}


def test_the_core_imports_what_it_declares() -> None:
    always = distributions(declared())
    extras = {extra: distributions(declared(extra)) for extra in ("train", "xformers", "batch", "ray")}

    def allowed(file: Path, handled: bool) -> set[str]:
        name = file.relative_to(ROOT).as_posix()
        extra = next((extra for folder, extra in EXTRA.items() if name.startswith(folder)), None)
        if handled:
            return always.union(*extras.values(), ADVICE)
        # These are reached only after the import in question was tried in the same file.
        tried = {package for package, safe in imports(file) if safe}
        return always | extras.get(extra, set()) | tried

    assert undeclared("amused_core", allowed) == []


@needs_comfyui
def test_the_nodes_import_what_comfyui_or_the_pack_declares() -> None:
    known = distributions([*listed(COMFYUI / "requirements.txt"), *listed(ROOT / "requirements.txt")])
    assert undeclared("nodes", lambda file, handled: known | distributions(list(HOST))) == []
    assert distributions(declared()) <= known, "what the core needs comes with ComfyUI or with the pack"


def test_an_undeclared_import_would_be_seen() -> None:
    seen = undeclared("amused_core", lambda file, handled: distributions(declared()) - {"psutil"})
    assert ("amused_core/networks/decoder/optimized.py", "psutil") in seen


def readme_commands() -> dict[str, list[str]]:
    """The headless commands of the README in order, by the extra that their section installs; smaller where they are
    large."""
    found: dict[str, list[str]] = {"": []}
    for section in re.split(r"^##+ ", README, flags=re.MULTILINE):
        extra = (re.findall(r"^    pip install '\.\[(\w+)\]'", section, re.MULTILINE) or [""])[0]
        joined = re.sub(r" \\\n +", " ", section)
        for match in re.finditer(rf"^    ({HEADLESS}.*?)(?: {{2,}}# .*)?$|`({HEADLESS}.+?)`", joined, re.MULTILINE):
            command = (match[1] or match[2]).replace(".venv/bin/", "")
            for pattern, smaller in SMALLER.items():
                command = re.sub(pattern, smaller, command)
            found.setdefault(extra, []).append(command)
    return found


@pytest.fixture(scope="session")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], BareEnvironment]:
    """`bare("train")`: an environment with the wheel and one extra, or none."""
    made: dict[str, BareEnvironment] = {}

    def make(extra: str) -> BareEnvironment:
        if extra not in made:
            needs = [*declared(), *(declared(extra) if extra else [])]
            made[extra] = BareEnvironment(tmp_path_factory.mktemp("bare") / "venv", closure(needs))
            made[extra].install(wheel, extra)
        return made[extra]

    return make


def check(environment: BareEnvironment, command: str, folder: Path) -> str:
    """Runs a command that must succeed; returns what it printed."""
    run = environment.run(command, folder)
    assert run.returncode == 0, f"{command}\n{run.stdout[-3000:]}"
    return run.stdout


def test_the_first_command_draws(bare: Callable[[str], BareEnvironment], tmp_path: Path) -> None:
    environment = bare("")
    assert "amused.png" in check(environment, 'amused generate "a red apple"', tmp_path)
    assert (tmp_path / "amused.png").is_file()
    assert environment.run("python -c 'import pytest'", tmp_path).returncode, "what is not declared is not there"


def test_the_commands_are_found() -> None:
    found = readme_commands()
    assert found.keys() == {"", "train", "batch"}
    assert 'amused generate "a red apple on a blue background" --output apple.png' in found[""]
    assert "amused bench --threads 1 --measured-steps 3 --repeats 1" in found[""]
    assert [command.split()[:3] for command in found["train"][:1]] == [["amused", "train", "lora"]]
    assert "python tools/contact_sheet.py" in found[""] and len(found[""]) >= 10 and len(found["train"]) >= 4


@pytest.fixture
def clone(source: Path, tmp_path: Path) -> Path:
    """A clone to run commands in, with the LoRA that the README calls style.safetensors."""
    folder = shutil.copytree(source, tmp_path / "clone")
    shutil.copy(folder / "amused_core" / "embedded" / "loras" / "dotted.safetensors", folder / "style.safetensors")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("extra", ["", "train", "batch"])
def test_every_command_of_the_readme(bare: Callable[[str], BareEnvironment], clone: Path, extra: str) -> None:
    for command in readme_commands()[extra]:
        check(bare(extra), command, clone)


@pytest.mark.slow
def test_training_without_its_extra_says_what_to_install(bare: Callable[[str], BareEnvironment], clone: Path) -> None:
    run = bare("").run("amused train lora docs/style.png --caption carrot --output lora", clone)
    assert run.returncode == 2 and "pip install" in run.stdout and "Traceback" not in run.stdout


@pytest.mark.slow
def test_the_python_of_the_readme(bare: Callable[[str], BareEnvironment], clone: Path) -> None:
    snippets = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert len(snippets) >= 2
    for code in snippets:
        (clone / "snippet.py").write_text(code, encoding="utf-8")
        check(bare(""), "python -I snippet.py", clone)  # -I: the installed package, not the clone's


@pytest.mark.slow
def test_xformers(bare: Callable[[str], BareEnvironment], tmp_path: Path) -> None:
    """It draws, or says in one sentence why it cannot run on this machine."""
    try:
        environment = bare("xformers")
    except PackageNotFoundError:
        pytest.skip("xformers is not installed")
    run = environment.run('amused generate "a red apple" --attention xformers', tmp_path)
    assert run.returncode == 0 or (run.returncode == 2 and "Traceback" not in run.stdout), run.stdout


@pytest.mark.slow
def test_the_tests_are_collected_with_their_own_extra(bare: Callable[[str], BareEnvironment], clone: Path) -> None:
    check(bare("test"), "python -m pytest --collect-only -q tests", clone)


@pytest.mark.slow
@pytest.mark.server
@needs_comfyui
def test_the_pack_in_a_bare_comfyui(tmp_path: Path) -> None:
    """A ComfyUI with its own requirements and those of the pack draws every example but the one that trains."""
    needs = [*listed(COMFYUI / "requirements.txt"), *UNLISTED, *listed(ROOT / "requirements.txt")]
    environment = BareEnvironment(tmp_path / "venv", closure(needs, TORCH.match))
    graphs = {file.stem: json.loads(file.read_text("utf-8")) for file in (ROOT / "workflows" / "api").glob("*.json")}
    training = graphs.pop("train_a_style")
    with ComfyServer(COMFYUI, str(environment.python)) as server:
        assert sum(name.startswith("Amused") for name in server.get("/object_info")) >= 22
        for graph in graphs.values():
            assert server.pictures(server.run(graph))
        with pytest.raises(ServerError, match="pip install"):
            server.run(training)
