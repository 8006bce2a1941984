"""Write the trained parts as a folder in diffusers' layout, which `AmusedPipeline.from_pretrained` loads unchanged.

python -m amused_core.small_world.training.export --run RUN --output FOLDER [--cfg X] [--vague MODEL]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import nn

from ...files.writing import beside
from ...networks.uvit import UVit
from .masked import MaskedTrainer
from .networks import MASK_ID
from .refine import load_refined
from .tokenizer import save_tokenizer
from .tokens import SceneTokens, load_vq
from .vague import VagueTrainer

NAME = "aMUSEd embedded 128"


def recommendation(cfg: float, side: int = 128) -> dict[str, Any]:
    """The content of amused.json: the settings this model is meant to be used with."""
    settings = {"cfg": cfg, "steps": 12, "temperature": [2.0, 0.0], "schedule": "cosine", "width": side, "height": side}
    return {"name": NAME, "recommended": settings}


class Parts(NamedTuple):
    """The trained parts of a model."""

    vqvae: nn.Module
    transformer: UVit
    text_encoder: nn.Module
    tokenizer: Any


def write_folder(folder: Path, parts: Parts, mask_id: int, cfg: float) -> None:
    """Write a diffusers folder in half precision, file by file, so that a reader never meets half a file."""
    from diffusers import AmusedPipeline, AmusedScheduler, UVit2DModel

    transformer = UVit2DModel(**asdict(parts.transformer.config))
    transformer.load_state_dict(parts.transformer.state_dict())
    scheduler = AmusedScheduler(mask_token_id=mask_id)
    pipeline = AmusedPipeline(parts.vqvae, parts.tokenizer, parts.text_encoder, transformer, scheduler)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        fresh = Path(name)
        pipeline.to(torch.float16).save_pretrained(fresh)
        _runs_in_fp32(fresh / "text_encoder" / "config.json")
        save_tokenizer(parts.tokenizer, fresh / "tokenizer")
        settings = recommendation(cfg, parts.vqvae.config.sample_size)
        (fresh / "amused.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        for source in sorted(path for path in fresh.rglob("*") if path.is_file()):
            with beside(folder / source.relative_to(fresh)) as partial:
                source.replace(partial)


def _runs_in_fp32(config: Path) -> None:
    """transformers loads in the dtype its config names; the pipeline's other parts come in fp32."""
    content = json.loads(config.read_text(encoding="utf-8"))
    content.update({key: "float32" for key in ("dtype", "torch_dtype") if key in content})
    config.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _trained_vq(run: Path) -> nn.Module:
    refined = run / "vq-refined.safetensors"
    return load_refined(refined) if refined.exists() else load_vq(run / "vq.safetensors")


@torch.no_grad()
def _mix(module: nn.Module, file: Path, kept: float) -> None:
    """Interpolates from the weights of `module` to those in `file` by `kept`, 0..1: what a model could do before
    further training comes back, at little cost to what it has learnt (WiSE-FT, Wortsman et al. 2022)."""
    before = load_file(file)
    for name, weight in module.state_dict().items():
        if weight.is_floating_point():
            weight.lerp_(before[name].to(weight.dtype), kept)


def main(argv: Sequence[str] | None = None) -> None:
    """Export RUN/vq.safetensors and the averaged weights of RUN/masked.safetensors (or RUN/vague.safetensors)."""
    from diffusers import VQModel

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, type=Path)
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--cfg", type=float, default=1.5, help="recommended guidance, chosen by evaluation")
    parser.add_argument("--vague", type=Path, metavar="MODEL", help="the run is one of `vague` that began with MODEL")
    parser.add_argument("--kept", type=float, default=0.1, help="with --vague: share of MODEL's weights in the result")
    args = parser.parse_args(argv)
    tokens = SceneTokens.load(args.run / "tokens.safetensors")
    trainer: MaskedTrainer = VagueTrainer(tokens) if args.vague else MaskedTrainer(tokens)
    trainer.load(args.run / ("vague.safetensors" if args.vague else "masked.safetensors"))
    trainer.use_ema()
    if args.vague:
        _mix(trainer.transformer, args.vague / "transformer" / "diffusion_pytorch_model.safetensors", args.kept)
        _mix(trainer.text_encoder, args.vague / "text_encoder" / "model.safetensors", args.kept)
    vqvae = VQModel.from_pretrained(args.vague, subfolder="vqvae") if args.vague else _trained_vq(args.run)
    parts = Parts(vqvae, trainer.transformer.eval(), trainer.text_encoder.eval(), trainer.tokenizer)
    write_folder(args.output, parts, MASK_ID, args.cfg)
    size = sum(path.stat().st_size for path in args.output.rglob("*") if path.is_file())
    print(f"{args.output}: step {trainer.step_count}, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
