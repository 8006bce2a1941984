"""diffusers' pipelines beside ours on the same weights, and the grid of cases on which their tokens must be equal."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffusers
import torch

from amused_core import load_model
from amused_core.pipelines import AmusedImg2ImgPipeline, AmusedInpaintPipeline, AmusedPipeline
from tests.tiny import MASK_ID, write_tiny_checkpoint

TASKS = ("text2img", "img2img", "inpaint")
SHAPES = {"256": False, "512": True}
PROMPTS = ["a red apple", "two blue cats"]
SEED = 3


def quiet(pipe: Any) -> Any:
    """The pipeline without progress bars."""
    pipe.set_progress_bar_config(disable=True)
    return pipe


def generator(seed: int = SEED) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def picture(count: int = 1, height: int = 32, width: int = 32) -> torch.Tensor:
    """float [count,3,H,W] in 0..1, every one different."""
    return torch.rand(count, 3, height, width, generator=generator(7))


def block_mask(height: int = 32, width: int = 32) -> torch.Tensor:
    """[1,1,H,W]: a rectangle of whole cells, 5x4 of them."""
    mask = torch.zeros(1, 1, height, width)
    mask[..., 8:28, 4:20] = 1
    return mask


class Oracle:
    """One tiny checkpoint, loaded by diffusers' three pipelines, by our three, and by `load_model`."""

    def __init__(self, folder: Path, downsample: bool) -> None:
        self.folder = write_tiny_checkpoint(folder, downsample)
        self.model = load_model(self.folder, device="cpu")
        pipe = diffusers.AmusedPipeline.from_pretrained(self.folder)
        # diffusers' inpaint pipeline changes its scheduler, so it gets one of its own.
        own = {**pipe.components, "scheduler": diffusers.AmusedScheduler(mask_token_id=MASK_ID)}
        theirs = (pipe, diffusers.AmusedImg2ImgPipeline(**pipe.components), diffusers.AmusedInpaintPipeline(**own))
        classes = (AmusedPipeline, AmusedImg2ImgPipeline, AmusedInpaintPipeline)
        self.theirs = dict(zip(TASKS, map(quiet, theirs), strict=True))
        self.ours = {task: quiet(cls(**pipe.components)) for task, cls in zip(TASKS, classes, strict=True)}

    def differences(self, task: str, stride: int = 1) -> tuple[int, list[str]]:
        """Number of comparisons in every `stride`-th case of a task's grid, and those where the tokens differ."""
        count, unequal = 0, []
        for arguments in itertools.islice(GRIDS[task](), 0, None, stride):
            call = {**arguments, "output_type": "latent"}
            want = self.theirs[task](**call, generator=generator()).images
            got = {"pipeline": self.ours[task](**call, generator=generator()).images}
            if arguments["num_images_per_prompt"] == 1:
                got["generate"] = self.generate(**arguments)
            count += len(got)
            unequal += [
                f"{name} {describe(arguments)}" for name, tokens in got.items() if not torch.equal(want, tokens)
            ]
        return count, unequal

    def generate(self, prompt: Any, **arguments: Any) -> torch.Tensor:
        """`AmusedModel.generate` called with a pipeline's arguments."""
        names = {"num_inference_steps": "steps", "guidance_scale": "cfg", "mask_image": "mask"}
        call = {names.get(name, name): value for name, value in arguments.items() if name != "num_images_per_prompt"}
        if "image" in call:
            call["image"] = call["image"].movedim(1, -1)
        if "mask" in call:
            call["mask"] = call["mask"][:, 0]
        return self.model.generate(prompt, **call, seed=SEED, seeding="diffusers").tokens


def text2img_grid() -> Iterator[dict[str, Any]]:
    """steps x cfg x temperature x batch, on an oblong grid."""
    batches = [(PROMPTS[0], 1), (PROMPTS, 1), (PROMPTS, 2)]
    for steps, cfg, temperature, batch in itertools.product(
        (1, 2, 5, 12), (1.0, 3.0, 10.0), ((2, 0), (0, 0), 4.5), batches
    ):
        yield _case(steps, cfg, temperature, batch) | {"height": 32, "width": 40}


def img2img_grid() -> Iterator[dict[str, Any]]:
    """steps x cfg x strength x temperature x batch; 0 < strength < 1 and at least one step."""
    for steps, cfg, strength, temperature, count in itertools.product(
        (5, 12), (1.0, 3.0, 10.0), (0.2, 0.58, 0.9), ((2, 0), (4.5, 1)), (1, 2)
    ):
        batch = (PROMPTS[0], 1) if count == 1 else (PROMPTS, 1 + (strength == 0.9))
        yield _case(steps, cfg, temperature, batch) | {"image": picture(count), "strength": strength}


def inpaint_grid() -> Iterator[dict[str, Any]]:
    """As picture to picture, strength 1 too; one mask of whole cells for all pictures."""
    for steps, cfg, strength, temperature, count in itertools.product(
        (3, 12), (1.0, 3.0, 10.0), (0.4, 0.9, 1.0), ((2, 0), (4.5, 1)), (1, 2)
    ):
        batch = (PROMPTS[0], 1) if count == 1 else (PROMPTS, 1 + (strength == 0.9))
        mask = block_mask().expand(count, -1, -1, -1)
        yield _case(steps, cfg, temperature, batch) | {
            "image": picture(count),
            "mask_image": mask,
            "strength": strength,
        }


GRIDS = dict(zip(TASKS, (text2img_grid, img2img_grid, inpaint_grid), strict=True))


def _case(steps: int, cfg: float, temperature: Any, batch: tuple[Any, int]) -> dict[str, Any]:
    return {
        "prompt": batch[0],
        "num_inference_steps": steps,
        "guidance_scale": cfg,
        "temperature": temperature,
        "num_images_per_prompt": batch[1],
    }


def describe(arguments: dict[str, Any]) -> str:
    """The case on one line, tensors by their shape."""
    return str({k: tuple(v.shape) if isinstance(v, torch.Tensor) else v for k, v in arguments.items()})


def table() -> str:
    """The parity table: one line per task and shape."""
    lines = [f"{'task':10}{'shape':>6}{'cases':>7}{'equal':>7}"]
    for shape, downsample in SHAPES.items():
        with tempfile.TemporaryDirectory() as folder:
            oracle = Oracle(Path(folder) / "model", downsample)
            for task in TASKS:
                count, unequal = oracle.differences(task)
                lines.append(f"{task:10}{shape:>6}{count:>7}{count - len(unequal):>7}")
    return "\n".join(lines)
