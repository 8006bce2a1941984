"""What is borrowed of ComfyUI: all of it is listed, is there, and takes what it is given; without it runs go on."""

from __future__ import annotations

import inspect
import json
import shutil
import subprocess
import sys
from functools import wraps
from pathlib import Path
from types import SimpleNamespace

import pytest
from comfy_import_guard.extract import scan_pack

from tests.comfy import graphs
from tests.comfy.graphs import same
from tests.comfy.harness import COMFYUI_DIR, ROOT

NODES = ROOT / "nodes"


@pytest.fixture(scope="module")
def borrowed(comfy):
    """The list."""
    return comfy.module("nodes.host.borrowed")


@pytest.fixture
def unlike(comfy, monkeypatch):
    """Forgets what was found of ComfyUI before and after a test, and gives `compat`."""
    compat = comfy.module("nodes.host.compat")
    forget = (compat.fast_path_problem.cache_clear, compat._log_once.cache_clear)
    for clear in forget:
        clear()
    comfy.fresh()
    yield compat
    monkeypatch.undo()
    for clear in forget:
        clear()
    comfy.fresh()


def test_this_comfyui_has_everything(borrowed):
    entries = {entry for part in (borrowed.NEEDED, borrowed.FAST) for group in part.values() for entry in group}
    assert len(entries) > 100
    assert not [problem for entry in sorted(entries) if (problem := borrowed.problem(entry))]


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("comfy.samplers.gone", "comfy.samplers.gone is missing"),
        ("comfy.gone.sample", "comfy.gone.sample is missing"),
        ("comfy.samplers.cond_cat(one, two, three, four)", "comfy.samplers.cond_cat: too many positional arguments"),
        ("comfy.samplers.cond_cat()", "comfy.samplers.cond_cat: missing a required argument: 'c_list'"),
        ("comfy.samplers.cond_cat(conds, other=)", "comfy.samplers.cond_cat: got an unexpected keyword argument"),
    ],
)
def test_what_does_not_fit_is_seen(comfy, borrowed, entry, problem):
    assert borrowed.problem(entry).startswith(problem)


def test_everything_is_listed(borrowed):
    """Every name of ComfyUI's that a file of `nodes/host` has, under that file; the nodes have none."""
    listed = {
        file: {entry.partition("(")[0] for part in (borrowed.NEEDED, borrowed.FAST) for entry in part.get(file, ())}
        for file in borrowed.NEEDED.keys() | borrowed.FAST.keys()
    }
    used: dict[str, set[str]] = {}
    for reference in scan_pack(NODES, "amused").references:
        used.setdefault(reference.file, set()).add(reference.dotted)
    assert all(Path(file).parts[0] == "host" for file in used)
    for file, names in used.items():
        known = listed.get(Path(file).relative_to("host").as_posix(), set())
        whole = {name for name in names if not any(other.startswith(f"{name}.") for other in names | known)}
        assert not {name for name in whole if not any(name == k or name.startswith(f"{k}.") for k in known)}, file


def test_comfy_import_guard_finds_nothing(tmp_path):
    """It reads every import and call of `comfy`, listed or not, against ComfyUI's own source."""
    source = tmp_path / "cache" / "ComfyUI"
    shutil.copytree(
        Path(COMFYUI_DIR) / "comfy", source / "comfy", ignore=lambda _, names: [n for n in names if n == "__pycache__"]
    )
    git = ["git", "-C", str(source), "-c", "user.name=test", "-c", "user.email=test@example.org"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "ComfyUI"], ["tag", "here"]):
        subprocess.run([*git, *command], check=True, capture_output=True)
    pack = tmp_path / "custom_nodes" / "amused"
    shutil.copytree(NODES, pack, ignore=shutil.ignore_patterns("__pycache__"))
    options = ["--offline", "--json", "--cache-dir", str(source.parent)]
    command = [sys.executable, "-m", "comfy_import_guard.cli", *options, "check", "--target", "here"]
    found = subprocess.run([*command, "--comfy-dir", str(tmp_path)], capture_output=True, text=True, check=False)
    (report,) = json.loads(found.stdout)["packs"]
    assert report["references"] > 50
    assert not report["breaking"] and not report["signature_drift"] and not report["unparseable"]


FAST = (
    "get_all_wrappers", "get_all_callbacks", "get_area_and_mult", "cond_cat", "cond_equal_size", "sampling_function",
    "calc_cond_batch", "cfg_function",
)  # fmt: skip


def needs_more(function):
    """The same function, saying that it takes another argument, which nobody gives it."""
    changed = wraps(function)(lambda *args, **kw: function(*args, **kw))
    parameters = list(inspect.signature(function).parameters.values())
    more = inspect.Parameter("more", inspect.Parameter.KEYWORD_ONLY)
    variable = [p for p in parameters if p.kind is p.VAR_KEYWORD]
    changed.__signature__ = inspect.Signature([p for p in parameters if p not in variable] + [more, *variable])
    return changed


def drawn(comfy):
    """Tokens of plain runs, by our sampler and by a stock one, of a newly loaded model."""
    comfy.fresh()
    loader = graphs.load(comfy)
    latent = graphs.empty(comfy, loader, batch=2)
    return comfy.run(graphs.sample(comfy, loader, latent), graphs.ksampler(comfy, loader, latent))


def slow(comfy, unlike, caplog, *words):
    """Draws, and checks that the log says once that runs are slower, and why."""
    unlike.fast_path_problem.cache_clear()
    unlike._log_once.cache_clear()
    caplog.clear()
    result = drawn(comfy)
    (message,) = [r.getMessage() for r in caplog.records if "the slower stock path" in r.getMessage()]
    assert all(word in message for word in words), message
    return result


@pytest.mark.parametrize("name", FAST)
def test_a_function_with_another_signature(comfy, unlike, monkeypatch, caplog, name):
    from comfy import patcher_extension, samplers

    want = drawn(comfy)
    owner = samplers if hasattr(samplers, name) else patcher_extension
    monkeypatch.setattr(owner, name, needs_more(getattr(owner, name)))
    assert all(map(same, want, slow(comfy, unlike, caplog, name, "'more'")))


def test_every_symbol_may_be_missing(comfy, unlike, borrowed, monkeypatch, caplog):
    """ComfyUI could not run without most of them itself, so they are missing for the pack alone."""
    want, find = drawn(comfy), borrowed._find
    entries = sorted({entry.partition("(")[0] for group in borrowed.FAST.values() for entry in group})
    for gone in entries:

        def look(name, gone=gone):
            if name == gone:
                raise AttributeError(name)
            return find(name)

        monkeypatch.setattr(borrowed, "_find", look)
        assert all(map(same, want, slow(comfy, unlike, caplog, f"{gone} is missing"))), gone


class Without:
    """An object as another version might have it: some attributes are gone."""

    def __init__(self, inner, *gone):
        self.__dict__.update(_inner=inner, _gone=gone)

    def __getattr__(self, name):
        if name in self._gone:
            raise AttributeError(f"no {name}")
        return getattr(self._inner, name)


@pytest.mark.parametrize("gone", ["conds", "cfg", "model_patcher", "inner_model"])
def test_a_guider_without_what_is_read(comfy, unlike, monkeypatch, caplog, gone):
    direct = comfy.module("nodes.host.sample.fast_path")
    read, want = direct._read, drawn(comfy)

    def unlike_guider(wrapped, *args):
        return read(SimpleNamespace(inner_model=Without(wrapped.inner_model, gone)), *args)

    monkeypatch.setattr(direct, "_obstacle", lambda *_: None)
    monkeypatch.setattr(direct, "_read", unlike_guider)
    assert all(map(same, want, slow(comfy, unlike, caplog, f"no {gone}")))


@pytest.mark.parametrize("gone", ["current_patcher", "memory_required"])
def test_a_model_without_what_is_read(comfy, unlike, monkeypatch, caplog, gone):
    plain = comfy.module("nodes.host.sample.plain")
    join, want = plain._join, drawn(comfy)
    monkeypatch.setattr(comfy.module("nodes.host.sample.fast_path"), "_obstacle", lambda *_: "a test")
    monkeypatch.setattr(plain, "_join", lambda model, *args: join(Without(model, gone), *args))
    assert all(map(same, want, slow(comfy, unlike, caplog, f"no {gone}")))


@pytest.mark.parametrize("change", ["one argument more", "a keyword more", "one less"])
def test_a_wrapper_is_called_in_another_way(comfy, unlike, change):
    wrapper, seen = comfy.module("nodes.host.sample.plain").plain_prompts, []
    args, kw = (1, 2, 3, 4, 5), {}
    args = {"one argument more": (*args, 6), "one less": args[:-1]}.get(change, args)
    kw = {"more": 7} if change == "a keyword more" else kw
    assert wrapper(lambda *a, **k: seen.append((a, k)) or "result", *args, **kw) == "result"
    assert seen == [(args, kw)]


def test_a_step_is_told_in_another_way(comfy, unlike, monkeypatch, caplog):
    """Runs that leave the core's predictor take ComfyUI's own way entirely, if it wants to hear more of a step."""
    compat, want = comfy.module("nodes.host.compat"), drawn(comfy)

    def wants_more(patcher, timestep, options):
        raise TypeError("prepare_state() missing 1 required positional argument: 'more'")

    monkeypatch.setattr(comfy.module("nodes.host.sample.fast_path"), "_obstacle", lambda *_: "a test")
    monkeypatch.setattr(compat, "prepare_state", wants_more)
    assert all(map(same, want, slow(comfy, unlike, caplog, "missing 1 required", "'more'")))


def test_our_own_refusals_are_not_taken_for_that(comfy, unlike):
    from comfy.model_management import InterruptProcessingException

    error = comfy.module("amused_core.errors").AmusedError

    def fails(with_):
        raise with_

    for kind in (error, InterruptProcessingException, RuntimeError):
        with pytest.raises(kind):
            unlike.try_fast_path(fails, kind("no"))
    assert unlike.try_fast_path(fails, KeyError("no")) is None


def test_dynamic_vram_leaves_our_models_alone(comfy, monkeypatch):
    """Newer versions load models by another class then; ours stay with the one that they are made for."""
    from comfy import model_patcher

    if not hasattr(model_patcher, "ModelPatcherDynamic"):
        pytest.skip("this ComfyUI has no dynamic VRAM")
    want = drawn(comfy)
    monkeypatch.setattr(model_patcher, "CoreModelPatcher", model_patcher.ModelPatcherDynamic)
    assert all(map(same, want, drawn(comfy)))
    loader = graphs.load(comfy)
    model, clip, vae = comfy.run(loader, (loader, 1), (loader, 2))
    assert not any(part.is_dynamic() for part in (model, clip, clip.clone(), vae.patcher))


def test_half_precision_between_nodes(comfy, monkeypatch):
    """`--fp16-intermediates` of newer versions: token ids and pictures stay in float32."""
    from comfy.cli_args import args

    if not hasattr(args, "fp16_intermediates"):
        pytest.skip("this ComfyUI hands on float32 only")
    comfy.fresh()
    loader = graphs.load(comfy)
    encoded = comfy.node("VAEEncode", pixels=comfy.give(graphs.picture()), vae=(loader, 2))

    def run():
        sampled = graphs.sample(comfy, loader, encoded, denoise=0.5)
        return comfy.run(encoded, sampled, comfy.node("VAEDecode", samples=sampled, vae=(loader, 2)))

    want = run()
    monkeypatch.setattr(args, "fp16_intermediates", True)
    comfy.fresh()
    got = run()
    assert same(want[0], got[0]) and same(want[1], got[1]) and (want[2] == got[2]).all()
    assert {str(part.dtype) for part in (got[0]["samples"], got[1]["samples"], got[2])} == {"torch.float32"}
