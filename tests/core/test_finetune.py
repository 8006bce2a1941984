"""Fine-tuning: what is learnt, what a crash leaves, and what bad pictures and settings do."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

pytest.importorskip("peft", reason="the extra 'train' is not installed")
pytest.importorskip("accelerate", reason="the extra 'train' is not installed")

from amused_core import AmusedError, AmusedModel, load_model
from amused_core.cli import main
from amused_core.finetune import adapters, checkpoint, curve, masking, presets
from amused_core.finetune.data import fit, read_examples
from amused_core.finetune.devices import make_accelerator
from amused_core.finetune.folder import Report
from amused_core.finetune.lessons import Lessons, encode
from amused_core.finetune.optimizer import learning_rate
from amused_core.finetune.presets import Settings, preset
from amused_core.finetune.run import LORA, STATE, Plan, Run
from amused_core.finetune.student import FrozenTexts, Student, make_student
from amused_core.finetune.trainer import START, Trainer
from amused_core.networks.text import TextEmbedding
from amused_core.small_world.training.progress import step_generator
from tests.tiny import MASK_ID

ROOT = Path(__file__).resolve().parents[2]
EVERYWHERE = ("to_q", "to_k", "to_v", "to_out.0", "proj", "net.2", "channelwise_linear_2", "conv1", "conv2")
QUICK = Settings(steps=6, learning_rate=1e-2, batch=2, rank=4)


@pytest.fixture(autouse=True)
def one_thread():
    """The same sums in the same order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def fresh(folder: Path) -> AmusedModel:
    """A tiny model to train: never the shared one, which training would change."""
    return load_model(folder)


@pytest.fixture
def run(folder: Path, png: Path, tmp_path: Path) -> Callable[..., Run]:
    """`run(output, settings)`: a run on one picture with a caption."""

    def make(output: str = "run", settings: Settings = QUICK, source: Path = png, **plan: Any) -> Run:
        where = Plan(source, plan.pop("caption", "a mushroom in flat style"), tmp_path / output, **plan)
        return Run(load_model(folder), where, settings)

    return make


def weights(run: Run) -> list[torch.Tensor]:
    """What a run has learnt so far."""
    return [parameter.detach().clone() for parameter in run.trainer.parameters]


def same(one: list[torch.Tensor], two: list[torch.Tensor]) -> bool:
    """Bit for bit."""
    return len(one) == len(two) > 0 and all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def save_picture(path: Path, size: tuple[int, int] = (32, 32), mode: str = "RGB", **options: Any) -> Path:
    """A picture file with a gradient in it."""
    picture = Image.linear_gradient("L").resize(size).convert(mode)
    picture.save(path, **options)
    return path


# What is learnt


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_a_picture_is_learnt_by_heart(run: Callable[..., Run], kind: str) -> None:
    """The loss falls, and the caption alone then gives the picture's tokens.

    All of them are one: with one convolution at each end the tiny model cannot tell places in the middle apart.
    """
    settings = Settings(kind=kind, steps=60, learning_rate=1e-2, batch=4, rank=8, targets=EVERYWHERE, drop_text=0)
    job = run(settings=settings)
    job.trainer.lessons.tokens.fill_(7)
    before = job.model.generate("a mushroom in flat style", cfg=1.0, seed=5).tokens
    job()
    losses = job.trainer.losses
    assert sum(losses[-5:]) < 0.2 * sum(losses[:5])
    after = job.model.generate("a mushroom in flat style", cfg=1.0, seed=5).tokens
    assert (before == 7).float().mean() < 0.5 < 0.95 < (after == 7).float().mean()


@pytest.mark.slow
def test_the_embedded_model_learns_a_picture(tmp_path: Path) -> None:
    """A few dozen steps, and its caption draws a picture of many tokens."""
    from amused_core.small_world.scenes.layout import Scene
    from amused_core.small_world.scenes.sprites import draw

    picture = (draw([Scene.single("rocket", "red")])[0] * 255).round().byte().permute(1, 2, 0)
    Image.fromarray(picture.flip(0).contiguous().numpy()).save(tmp_path / "x.png")  # upside down: nothing it knows
    settings = Settings(steps=70, learning_rate=1e-3, batch=4, targets=EVERYWHERE, drop_text=0)
    job = Run(load_model(), Plan(tmp_path / "x.png", "a rocket on a red background", tmp_path / "run"), settings)
    before = job.model.generate("a rocket on a red background", cfg=1.0).tokens
    job()
    after = job.model.generate("a rocket on a red background", cfg=1.0).tokens
    right = job.trainer.lessons.tokens
    assert len(right.unique()) > 20
    assert (before == right).float().mean() < 0.5 < 0.9 < (after == right).float().mean()


@pytest.mark.parametrize("shape", ["folder", "folder_512"])
def test_lora_loads_into_diffusers(request: pytest.FixtureRequest, shape: str, png: Path, tmp_path: Path) -> None:
    """The written file as an adapter of diffusers' own model: the same logits as the trained one."""
    from diffusers import UVit2DModel

    path = request.getfixturevalue(shape)
    job = Run(load_model(path), Plan(png, "a mushroom", tmp_path / "run"), QUICK)
    tokens = torch.full((1, 8, 8), MASK_ID)
    text, micro = job.model.text.encode(["a mushroom"]), torch.tensor([[32.0, 32, 0, 0, 6]])
    with torch.no_grad():
        plain = job.model.transformer(tokens, *text, micro)
    file = job()
    with torch.no_grad():
        ours = job.model.transformer(tokens, *text, micro)
        theirs = UVit2DModel.from_pretrained(path / "transformer")
        theirs.load_lora_adapter(load_file(file), prefix="transformer")
        logits = theirs(tokens, text.hidden, pooled_text_emb=text.pooled, micro_conds=micro)
    assert not torch.allclose(plain, ours, atol=1e-2)
    assert torch.allclose(ours, logits.reshape(ours.shape), atol=1e-4)


def test_lora_loads_into_our_model(run: Callable[..., Run], folder: Path) -> None:
    job = run()
    file = job()
    model = load_model(folder)
    model.load_lora(file)
    one, two = (m.generate("a mushroom in flat style", seed=3).tokens for m in (model, job.model))
    assert torch.equal(one, two)


def test_lora_says_what_it_is(run: Callable[..., Run]) -> None:
    with safe_open(run()(), framework="pt") as file:
        about, names = file.metadata(), list(file.keys())  # noqa: SIM118
    expected = {"base_model": "tiny", "rank": "4", "lora_alpha": "4", "trained_alpha": "32", "steps": "6", "seed": "0"}
    assert about.items() >= expected.items()
    assert json.loads(about["prompts"]) == ["a mushroom in flat style"]
    assert "transformer.transformer_layers.0.attn1.to_q.lora_A.weight" in names
    assert all(name.startswith("transformer.") for name in names)


def test_text_encoder_is_trained_too(run: Callable[..., Run], folder: Path) -> None:
    """Under the names that CLIP has, not the U-ViT's."""
    job = run(settings=QUICK.with_changes(text_encoder=True))
    tensors = load_file(job())
    ours = [name for name in tensors if name.startswith("text_encoder.")]
    assert {name.split(".")[-3] for name in ours} == {"q_proj", "k_proj", "v_proj", "out_proj"}
    assert any(tensors[name].abs().sum() > 0 for name in ours if "lora_B" in name)
    model = load_model(folder)
    before = model.text.encode(["a mushroom"]).hidden
    assert not model.load_lora(job.plan.output / LORA).unused
    after = model.text.encode(["a mushroom"]).hidden
    assert not torch.equal(before, after)
    assert torch.allclose(after, job.model.text.encode(["a mushroom"]).hidden, atol=1e-5)


@pytest.mark.parametrize("single_file", [False, True])
def test_full_training_writes_a_model(run: Callable[..., Run], folder: Path, tmp_path: Path, single_file: bool) -> None:
    """diffusers' pipeline and ours load it, and the trained weights are in it."""
    from diffusers import AmusedPipeline

    settings = QUICK.with_changes(kind="full", text_encoder=True)
    if single_file:
        load_model(folder).save(tmp_path / "tiny.safetensors")
        folder = tmp_path / "tiny.safetensors"
    png = save_picture(tmp_path / "x.png")
    job = Run(load_model(folder), Plan(png, "a mushroom", tmp_path / "full"), settings)
    path = job()
    again = load_model(path)
    for name, value in job.model.transformer.state_dict().items():
        assert torch.equal(again.transformer.state_dict()[name], value), name
    assert torch.equal(again.generate("a mushroom").tokens, job.model.generate("a mushroom").tokens)
    old = load_model(folder)
    assert not torch.equal(again.transformer.encoder_proj.weight, old.transformer.encoder_proj.weight)
    assert not torch.equal(again.text.encode(["a"]).pooled, old.text.encode(["a"]).pooled)
    pipeline = AmusedPipeline.from_pretrained(path)
    assert pipeline("a mushroom", height=32, width=32, num_inference_steps=2, output_type="np").images.shape[1:3] == (
        32,
        32,
    )


def test_prior_holds_what_was_known(folder: Path, png: Path, tmp_path: Path) -> None:
    """With the model's own pictures of a class in the batch, its logits for that class change less."""
    model = load_model(folder)
    text, micro = model.text.encode(["a castle"]), torch.tensor([[32.0, 32, 0, 0, 6]])
    tokens = torch.full((1, 8, 8), MASK_ID)
    with torch.no_grad():
        before = model.transformer(tokens, *text, micro).softmax(1)
    moved = []
    for number, prompts in enumerate(((), ("a castle",))):
        settings = Settings(steps=30, learning_rate=1e-2, batch=4, prior_prompts=prompts, prior_count=8)
        job = Run(load_model(folder), Plan(png, "a mushroom", tmp_path / str(number)), settings)
        job()
        with torch.no_grad():
            moved.append(float((job.model.transformer(tokens, *text, micro).softmax(1) - before).abs().mean()))
    assert moved[1] < 0.7 * moved[0]
    assert len(job.trainer.prior) == 8 and job.trainer.prior.tokens.max() < 64


# What an example becomes


class Recorder(torch.nn.Module):
    """Stands in for a student: keeps what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[torch.Tensor, list[str]]] = []

    def forward(self, tokens: torch.Tensor, micro: torch.Tensor, text: tuple[torch.Tensor, ...]) -> torch.Tensor:
        self.seen.append((tokens, text))
        return torch.zeros(len(tokens), 64, *tokens.shape[1:]) + self.weight


def recorded(settings: Settings, count: int = 1) -> tuple[Trainer, Recorder, list[str]]:
    """A trainer on random tokens whose captions are kept."""
    said: list[str] = []

    def texts(captions: Any) -> tuple[torch.Tensor, ...]:
        said.extend(captions)
        return ()

    tokens = torch.randint(64, (count, 8, 8), generator=torch.Generator().manual_seed(1))
    lessons = Lessons(tokens, tuple(f"picture {i}" for i in range(count)), torch.zeros(count, 5))
    student = Recorder()
    accelerator = make_accelerator(settings.precision, settings.accumulation, True)
    return Trainer(student, texts, lessons, settings, accelerator, MASK_ID), student, said


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, 0, 0), (0.2, 0.12, 0.28), (1.0, 1, 1)])
def test_drop_text_is_the_share_that_loses_its_caption(share: float, low: float, high: float) -> None:
    trainer, _, said = recorded(Settings(steps=20, batch=20, drop_text=share))
    for _ in range(20):
        trainer.step()
    assert low <= said.count("") / len(said) <= high
    assert set(said) <= {"", "picture 0"}


def test_masked_cells_hold_the_mask_token_and_others_their_own() -> None:
    trainer, student, _ = recorded(Settings(batch=8))
    trainer.step()
    (tokens, _), known = student.seen[0], trainer.lessons.tokens
    masked = tokens == MASK_ID
    assert masked.flatten(1).any(1).all() and not masked.all()
    assert torch.equal(tokens[~masked], known.expand_as(tokens)[~masked])


def test_every_example_comes_once_before_any_comes_again() -> None:
    trainer, _, said = recorded(Settings(batch=2, drop_text=0), count=5)
    for _ in range(5):
        trainer.step()
    assert sorted(said[:5]) == sorted(said[5:]) == [f"picture {i}" for i in range(5)]
    assert said[:5] != said[5:]


def test_accumulation_is_many_batches_for_one_update() -> None:
    trainer, student, said = recorded(Settings(batch=2, accumulation=3, drop_text=0), count=6)
    trainer.step()
    assert len(student.seen) == 3 and sorted(said) == [f"picture {i}" for i in range(6)]
    assert len(trainer.losses) == 1


def test_accumulated_gradients_are_those_of_one_batch(folder: Path, png: Path, tmp_path: Path) -> None:
    """Two batches of one example, and the mean of their losses: one update, as told by a hand-made sum."""
    settings = Settings(steps=1, accumulation=2, rank=2, max_norm=1e6, learning_rate=1e-3)
    job = Run(load_model(folder), Plan(png, "a", tmp_path / "a"), settings)
    twin = Run(load_model(folder), Plan(png, "a", tmp_path / "b"), settings)
    ((twin.trainer._loss(0) + twin.trainer._loss(1)) / 2).backward()
    wanted = [p.grad.clone() for p in twin.trainer.parameters]
    seen: list[torch.Tensor] = []
    inner = job.trainer.inner_optimizer
    inner.register_step_pre_hook(lambda *_: seen.extend(p.grad.clone() for p in job.trainer.parameters))
    job.trainer.step()
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(seen, wanted, strict=True))


@pytest.mark.parametrize(("height", "width"), [(8, 8), (16, 4), (3, 11), (1, 1)])
def test_regions_are_rectangles_of_the_asked_size(height: int, width: int) -> None:
    generator, shapes = torch.Generator().manual_seed(0), set()
    for ratio in (0.0, 0.1, 0.33, 0.8, 1.0) * 8:
        mask = masking.region_mask(height, width, ratio, generator)
        rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
        box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert box.all() and mask.sum() == box.numel(), "one rectangle"
        count = max(1, round(ratio * height * width))
        assert count <= mask.sum() < count + max(height, width)
        shapes.add((tuple(box.shape), int(rows[0]), int(columns[0])))
    assert len(shapes) > 1 or height * width == 1


def test_share_of_regions() -> None:
    def in_one_piece(mask: torch.Tensor) -> bool:
        rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
        return bool(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all())

    generator = torch.Generator().manual_seed(0)
    masks = masking.sample_masks(400, 16, 16, 0.15, generator)
    assert 0.1 < sum(map(in_one_piece, masks)) / 400 < 0.22  # scattered masks of one cell, or of all, count as well
    ratios = masks.float().mean((1, 2))
    assert abs(float(ratios.mean()) - 0.637) < 0.04  # the mean of a cosine over a quarter turn
    assert not any(map(in_one_piece, masking.sample_masks(50, 16, 16, 0.0, generator)[:0]))


def test_gradient_checkpointing_changes_no_gradient(folder: Path, png: Path, tmp_path: Path) -> None:
    found = []
    for number, on in enumerate((False, True)):
        settings = QUICK.with_changes(gradient_checkpointing=on, text_encoder=True)
        job = Run(load_model(folder), Plan(png, "a mushroom", tmp_path / str(number)), settings)
        job.trainer.step()
        found.append(weights(job))
    assert same(*found)


def test_averaged_weights_are_what_is_written(run: Callable[..., Run]) -> None:
    job = run(settings=QUICK.with_changes(ema=0.9))
    tensors = load_file(job())
    name = "transformer_layers.0.attn1.to_q"
    live = job.model.transformer.get_submodule(name).lora_A["default"].weight
    index = next(i for i, p in enumerate(job.trainer.parameters) if p is live)
    assert torch.equal(tensors[f"transformer.{name}.lora_A.weight"], job.trainer.ema[index])
    assert not torch.equal(job.trainer.ema[index], live)


@pytest.mark.parametrize("precision", ["bf16"])
def test_half_precision(run: Callable[..., Run], precision: str) -> None:
    job = run(settings=QUICK.with_changes(precision=precision, steps=12))
    job()
    assert job.model.transformer.encoder_proj.weight.dtype is torch.bfloat16
    assert all(parameter.dtype is torch.float32 for parameter in job.trainer.parameters)
    assert job.trainer.losses[-1] < job.trainer.losses[0]


def test_captions_of_several_lengths() -> None:
    """Repeating keys and values changes no attention, so short and long prompts fit into one batch."""
    short = TextEmbedding(torch.rand(1, 2, 4), torch.rand(1, 3))
    long = TextEmbedding(torch.rand(1, 3, 4), torch.rand(1, 3))
    hidden, pooled = FrozenTexts({"s": short, "l": long})(["s", "l", "s"])
    assert hidden.shape == (3, 6, 4) and pooled.shape == (3, 3)
    query = torch.rand(1, 5, 4)
    attend = torch.nn.functional.scaled_dot_product_attention
    assert torch.allclose(attend(query, short.hidden, short.hidden), attend(query, hidden[:1], hidden[:1]), atol=1e-6)


def test_training_leaves_the_global_generator_alone(run: Callable[..., Run]) -> None:
    before = torch.get_rng_state()
    run(settings=QUICK.with_changes(gradient_checkpointing=True))()
    assert torch.equal(before, torch.get_rng_state())


# Going on after a stop


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_going_on_is_the_same_as_no_stop(run: Callable[..., Run], kind: str) -> None:
    settings = QUICK.with_changes(
        kind=kind, ema=0.9, steps=7, warmup=2, accumulation=2, prior_prompts=("a castle",), prior_count=3
    )
    whole = run("whole", settings)
    whole()
    for _ in range(3):
        part = run("parts", settings)
        for _ in range(min(3, 7 - len(part.trainer.losses))):
            part.trainer.step()
        part.save()
    assert part.trainer.losses == whole.trainer.losses
    assert same(weights(part), weights(whole)) and same(part.trainer.ema, whole.trainer.ema)
    part.export()
    if kind == "lora":
        one, two = (load_file(job.plan.output / LORA) for job in (part, whole))
        assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_a_longer_run_goes_on(run: Callable[..., Run]) -> None:
    run("run", QUICK)()
    longer = run("run", QUICK.with_changes(steps=9))
    assert len(longer.trainer.losses) == 6
    longer()
    whole = run("whole", QUICK.with_changes(steps=9))
    whole()
    assert same(weights(longer), weights(whole))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"settings": QUICK.with_changes(learning_rate=1e-3)}, "learning_rate 0.01, not 0.001"),
        ({"settings": QUICK.with_changes(rank=2)}, "rank 4, not 2"),
        ({"caption": "a castle"}, "other pictures or captions"),
    ],
)
def test_another_run_is_not_gone_on_with(run: Callable[..., Run], change: dict[str, Any], said: str) -> None:
    run("run")()
    with pytest.raises(AmusedError, match=said):
        run("run", **change)


def test_an_interrupt_keeps_what_was_learnt(run: Callable[..., Run]) -> None:
    job = run(settings=QUICK.with_changes(steps=50))

    def stop(done: int, loss: float) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        job(stop)
    assert len(run(settings=QUICK.with_changes(steps=50)).trainer.losses) == 3
    with safe_open(job.plan.output / LORA, framework="pt") as file:
        assert file.metadata()["steps"] == "3"


def test_kill_at_any_moment(run: Callable[..., Run], folder: Path, png: Path, tmp_path: Path) -> None:
    """SIGKILL again and again: no file is ever broken, and the end is that of a run without a stop."""
    settings = preset("style", load_model(folder).checkpoint.transformer_config, steps=40, batch=2, rank=4)
    output = tmp_path / "killed"
    command = [sys.executable, "-m", "amused_core.cli", "train", "lora", str(png), "--caption", "a mushroom"]
    command += ["--model", str(folder), "--output", str(output), "--steps", "40", "--batch", "2", "--rank", "4"]
    command += ["--save-every", "1", "--device", "cpu"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    reached = []
    for delay in (0.05, 0.11):
        process = subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        wanted, patience = (reached[-1] if reached else 0) + 2, time.monotonic() + 120
        while _saved(output) < wanted and process.poll() is None and time.monotonic() < patience:
            time.sleep(0.02)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        reached.append(_saved(output))
        for file in output.glob("*.safetensors"):
            load_file(file)
        rows = (output / "loss.csv").read_text().splitlines()
        assert all(len(row.split(",")) == 2 for row in rows)
    assert 0 < reached[0] < reached[1] <= 40
    job = Run(load_model(folder), Plan(png, "a mushroom", output), settings)
    assert len(job.trainer.losses) == reached[-1]
    job()
    whole = Run(load_model(folder), Plan(png, "a mushroom", tmp_path / "whole"), settings)
    whole()
    assert same(weights(job), weights(whole))


def _saved(output: Path) -> int:
    """Steps in the saved state; 0 where there is none."""
    state = output / STATE
    return len(checkpoint.get_state(state)[1]["losses"]) if state.exists() else 0


@pytest.mark.parametrize("damage", ["cut", "text", "other"])
def test_a_broken_state_is_refused(run: Callable[..., Run], damage: str) -> None:
    job = run()
    job()
    state = job.plan.output / STATE
    if damage == "cut":
        state.write_bytes(state.read_bytes()[:-50])
    elif damage == "text":
        state.write_text("hello")
    else:
        shutil.copyfile(job.plan.output / LORA, state)
    with pytest.raises(AmusedError, match="state.safetensors"):
        run()


def test_a_file_is_never_half_written(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    checkpoint.put_text(path, "old")

    def fail(beside: Path) -> None:
        beside.write_text("ne")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        checkpoint.put(path, fail)
    assert path.read_text() == "old"


def test_curve_and_samples(run: Callable[..., Run]) -> None:
    job = run(sample_every=3, sample_prompts=("a castle", "a boat"))
    job()
    rows = (job.plan.output / "loss.csv").read_text().splitlines()
    assert rows[0] == "step,loss" and [row.split(",")[0] for row in rows[1:]] == [str(i) for i in range(1, 7)]
    assert [float(row.split(",")[1]) for row in rows[1:]] == pytest.approx(job.trainer.losses, abs=1e-5)
    samples = sorted((job.plan.output / "samples").iterdir())
    assert [path.name for path in samples] == ["step-000003.png", "step-000006.png"]
    assert Image.open(samples[0]).size == (66, 32)
    assert Image.open(job.plan.output / "loss.png").size == (600, 300)


def test_smoothed_curve() -> None:
    assert curve.smoothed([4.0, 2.0, 0.0, 0.0], window=2) == [4.0, 3.0, 1.0, 0.0]


# Pictures and captions


def read(source: Path, caption: str | None = None, size: tuple[int, int] = (32, 32)) -> tuple[list[Any], Report]:
    report = Report()
    return list(read_examples(source, caption, size, 4, report)), report


def test_folder_with_every_trouble(tmp_path: Path) -> None:
    """What cannot be used is named with its reason; the rest goes on."""
    for name, mode in (("a.png", "RGB"), ("cmyk.jpg", "CMYK"), ("grey.png", "L"), ("alpha.png", "RGBA")):
        save_picture(tmp_path / name, mode=mode)
    save_picture(tmp_path / "dot.png", size=(1, 1))
    save_picture(tmp_path / "line.png", size=(400, 1))
    save_picture(tmp_path / "wide.webp", size=(96, 40))
    frames = [Image.new("RGB", (32, 32), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    (tmp_path / "text.jpg").write_text("hello")
    save_picture(tmp_path / "silent.png")
    save_picture(tmp_path / "lonely.png")
    save_picture(tmp_path / "latin.png")
    (tmp_path / "notes.md").write_text("no picture, and not meant as one")
    for path in tmp_path.iterdir():
        if path.stem not in ("lonely", "notes"):
            path.with_suffix(".txt").write_text("" if path.stem == "silent" else f"a {path.stem}\n", encoding="utf-8")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    examples, report = read(tmp_path)
    assert [e.caption for e in examples] == ["a a", "a alpha", "a cmyk", "a grey", "a moving", "a wide"]
    assert report.used == 6
    why = dict(report.left_out)
    assert sorted(why) == sorted(
        ["cut.png", "dot.png", "latin.png", "line.png", "lonely.png", "silent.png", "text.jpg"]
    )
    for name, part in {
        "cut.png": "cannot be read as a picture",
        "dot.png": "1x1 pixels",
        "line.png": "400x1 pixels",
        "text.jpg": "cannot be read as a picture",
        "silent.png": "caption is empty",
        "lonely.png": "no lonely.txt",
        "latin.png": "cannot be read",
    }.items():
        assert part in why[name]
        assert name in report.text()
    changed = dict(report.changed)
    assert changed["moving.gif"] == "the first of 2 frames is used"
    assert changed["wide.webp"] == "96x40 resized to 77x32 and cut to 32x32"
    red = examples[4].picture.mean((0, 1, 2))
    assert red[0] > 0.9 and red[2] < 0.1
    assert examples[5].crop == (0, 22)
    for example in examples:
        assert example.picture.shape == (1, 32, 32, 3) and 0 <= example.picture.min() <= example.picture.max() <= 1


def test_nothing_left_is_a_clear_stop(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_text("hello")
    (tmp_path / "x.txt").write_text("a caption")
    with pytest.raises(AmusedError, match="Nothing in .* can be learnt from .*x.png.*cannot be read"):
        read(tmp_path)
    (tmp_path / "x.png").unlink()
    with pytest.raises(AmusedError, match="no pictures are in it"):
        read(tmp_path)
    with pytest.raises(AmusedError, match="Nothing at .*nowhere"):
        read(tmp_path / "nowhere")


def test_jsonl(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    save_picture(tmp_path / "in" / "a.png")
    lines = [
        json.dumps({"image": "in/a.png", "text": "one"}),
        json.dumps({"image": str(tmp_path / "in" / "a.png"), "text": "two"}),
        "",
        "no json",
        json.dumps({"image": "in/b.png", "text": "three"}),
        json.dumps({"image": 3, "text": "four"}),
        json.dumps(["in/a.png"]),
        json.dumps({"image": "in/a.png"}),
    ]
    (tmp_path / "list.jsonl").write_text("\n".join(lines), encoding="utf-8")
    examples, report = read(tmp_path / "list.jsonl")
    assert [e.caption for e in examples] == ["one", "two"]
    assert [name for name, _ in report.left_out] == ["line 4", "line 6", "line 7", "line 8", "b.png"]
    examples, _ = read(tmp_path / "list.jsonl", caption="any")
    assert [e.caption for e in examples] == ["one", "two", "any"]


def test_one_picture_wants_a_caption(png: Path) -> None:
    with pytest.raises(AmusedError, match=r"no picture\.txt"):
        read(png)
    assert read(png, "a castle")[0][0].caption == "a castle"
    png.with_suffix(".txt").write_text("a boat")
    assert read(png, "a castle")[0][0].caption == "a boat"


def test_fit_keeps_the_middle() -> None:
    wide = torch.zeros(1, 10, 30, 3)
    wide[:, :, 10:20] = 1
    fitted, crop, _ = fit(wide, 10, 10)
    assert fitted.shape == (1, 10, 10, 3) and crop == (0, 10) and fitted.min() > 0.99
    same_size, crop, how = fit(wide, 30, 10)
    assert same_size is wide and crop == (0, 0) and how == ""


def test_micro_conditioning_says_what_was_cut_off(tmp_path: Path, model: AmusedModel) -> None:
    save_picture(tmp_path / "wide.png", size=(64, 32))
    examples, _ = read(tmp_path / "wide.png", "a castle")
    assert encode(examples, model.vq).micro.tolist() == [[32, 32, 0, 16, 6]]


# Settings


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"learning_rate": -1.0}, "learning_rate is -1"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"drop_text": 1.5}, "drop_text is 1.5"),
        ({"batch": 2.5}, "batch is 2.5"),
        ({"precision": "fp8"}, "precision is 'fp8'; allowed are fp32, bf16, fp16"),
        ({"optimizer": "sgd"}, "optimizer is 'sgd'"),
        ({"lr_schedule": "step"}, "lr_schedule is 'step'"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_bad_settings(change: dict[str, Any], said: str) -> None:
    with pytest.raises(AmusedError, match=said):
        Settings(**change)


def test_unknown_layers_are_refused(run: Callable[..., Run]) -> None:
    with pytest.raises(AmusedError, match="targets are 'to_z'.*to_k, to_q"):
        run(settings=QUICK.with_changes(targets=("to_z",)))


def test_missing_bitsandbytes_is_said(run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(AmusedError, match="'bitsandbytes'; install it"):
        run(settings=QUICK.with_changes(optimizer="adamw8bit"))


@pytest.mark.parametrize("package", ["peft", "accelerate"])
def test_missing_packages_are_said(run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(AmusedError, match=f"'{package}'; install it with: pip install {package}"):
        run()


@pytest.mark.skipif(torch.cuda.is_available(), reason="fp16 works on this machine")
def test_fp16_without_a_graphics_card(run: Callable[..., Run]) -> None:
    with pytest.raises(AmusedError, match="precision is 'fp16', which a CPU cannot train in"):
        run(settings=QUICK.with_changes(precision="fp16"))


def test_a_loss_that_is_no_number_stops_the_run(run: Callable[..., Run]) -> None:
    job = run()
    job.trainer.step()
    before = weights(job)
    job.trainer.lessons.micro.fill_(float("nan"))
    with pytest.raises(AmusedError, match="The loss is nan at step 2"):
        job.trainer.step()
    assert same(before, weights(job))


def test_learning_rates() -> None:
    warm = Settings(learning_rate=1.0, steps=10, warmup=3)
    assert [learning_rate(step, warm) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    falling = Settings(learning_rate=1.0, steps=10, lr_schedule="cosine")
    rates = [learning_rate(step, falling) for step in range(11)]
    assert rates[0] == 1 and rates == sorted(rates, reverse=True) and rates[-1] < 1e-9


def test_presets_are_those_of_the_paper_and_of_diffusers() -> None:
    from amused_core.networks.uvit.config import UVitConfig

    small = UVitConfig(hidden_size=256)
    configs = {"256": UVitConfig(), "512": UVitConfig(downsample=True, upsample=True), "embedded": small}
    for name in presets.PRESETS:
        for size, config in configs.items():
            assert presets.size_of(config) == size and isinstance(preset(name, config), Settings)
    style = preset("style", configs["512"])
    assert (style.learning_rate, style.alpha, style.rank, style.batch) == (1e-3, 1.0, 16, 1)
    assert style.targets == ("to_q", "to_k", "to_v")
    assert preset("style", configs["256"]).learning_rate == 4e-4
    assert preset("full", configs["256"], steps=3).steps == 3
    with pytest.raises(AmusedError, match="preset is 'sdxl'; allowed are style, dataset, full"):
        preset("sdxl", small)


def test_frozen_weights_stay(fresh: AmusedModel) -> None:
    before = {name: value.clone() for name, value in fresh.transformer.state_dict().items()}
    student = make_student(fresh.transformer, fresh.text, QUICK, step_generator(0, START))
    assert isinstance(student, Student) and student.text_encoder is None
    trained = {name for name, parameter in student.named_parameters() if parameter.requires_grad}
    assert trained and all("lora_" in name for name in trained)
    state = {name.replace(".base_layer", ""): value for name, value in fresh.transformer.state_dict().items()}
    assert all(torch.equal(state[name], value) for name, value in before.items())
    assert all(
        value.abs().sum() == 0 for name, value in adapters.lora_state(fresh.transformer, "t").items() if "_B." in name
    )


# The command


def train(*arguments: str | Path) -> int:
    return main(["train", *map(str, arguments), "--device", "cpu"])


def test_command(folder: Path, png: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = (png, "--caption", "a castle", "--model", folder, "--steps", "2", "--output")
    assert train("lora", *options, tmp_path / "l", "--rank", "2", "--targets", "to_q", "to_out.0") == 0
    assert "lora.safetensors (2 steps" in capsys.readouterr().out
    assert len(load_file(tmp_path / "l" / LORA)) == 2 * 2 * (4 + 4)
    assert train("full", *options, tmp_path / "f", "--batch", "1") == 0
    assert (tmp_path / "f" / "model-000002" / "model_index.json").is_file()
    assert (tmp_path / "l" / "report.txt").read_text() == "1 used, 0 left out\n"
    assert train("lora", *options, tmp_path / "l", "--rank", "2", "--targets", "to_q", "to_out.0") == 0
    assert "(0 steps" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["lora", "nowhere.png", "--caption", "x"], "Nothing at 'nowhere.png'"),
        (["lora", "PNG"], "has no caption"),
        (["lora", "PNG", "--caption", "x", "--preset", "full"], "for 'lora' allowed are style, dataset"),
        (["full", "PNG", "--caption", "x", "--preset", "style"], "for 'full' allowed are full, full-8bit"),
        (["lora", "PNG", "--caption", "x", "--steps", "0"], "steps is 0"),
        (["lora", "PNG", "--caption", "x", "--save-every", "0"], "--save-every is 0"),
        (["lora", "PNG", "--caption", "x", "--width", "33"], "width is 33"),
    ],
)
def test_command_refuses(
    options: list[str], said: str, folder: Path, png: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [str(png) if option == "PNG" else option for option in options]
    assert train(*options, "--model", folder, "--output", tmp_path / "out") == 2
    captured = capsys.readouterr().err
    assert said in captured and "Traceback" not in captured
