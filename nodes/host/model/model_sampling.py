"""`model_sampling` of aMUSEd: a sigma is a mask ratio."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ....amused_core.errors import AmusedError
from ....amused_core.sampling.schedule import mask_ratios

TABLE = 1000


class AmusedModelSampling(nn.Module):
    """`model_sampling` of an aMUSEd model: sigma = mask ratio, from 1 (all masked) to 0.

    Args:
        schedule: the checkpoint's own masking schedule, which places percentages and the stock schedulers' steps.
    """

    # For nodes that ask for a timestep's size; ours is the ratio itself.
    multiplier = 1.0

    def __init__(self, schedule: str) -> None:
        super().__init__()
        if not isinstance(schedule, str):  # 'ModelNoiseScale' makes another one as other models' are made.
            raise AmusedError("An aMUSEd MODEL has no noise to scale; remove nodes such as 'ModelNoiseScale'.")
        self.schedule = schedule
        self.register_buffer("sigmas", mask_ratios(TABLE, schedule)[:-1].flip(0).contiguous())

    @property
    def sigma_min(self) -> Tensor:
        """The smallest ratio of the table."""
        return self.sigmas[0]

    @property
    def sigma_max(self) -> Tensor:
        """1: everything masked."""
        return self.sigmas[-1]

    def timestep(self, sigma: Tensor) -> Tensor:
        """Index of the nearest ratio in the table."""
        nearest = (sigma.flatten()[None].to(self.sigmas.device) - self.sigmas[:, None]).abs().argmin(dim=0)
        return nearest.view(sigma.shape).to(sigma.device)

    def sigma(self, timestep: Tensor) -> Tensor:
        """The ratio at an index of the table, between two of them on a straight line."""
        place = timestep.float().to(self.sigmas.device).clamp(0, TABLE - 1)
        low, high = self.sigmas[place.floor().long()], self.sigmas[place.ceil().long()]
        return torch.lerp(low, high, place.frac()).to(timestep.device)

    def percent_to_sigma(self, percent: float) -> float:
        """The ratio after a share of the steps."""
        done = min(max(percent, 0.0), 1.0)
        return 1 - done if self.schedule == "linear" else math.cos(done * math.pi / 2)

    def calculate_input(self, sigma: Tensor, noise: Tensor) -> Tensor:
        """Nothing to scale."""
        return noise

    def calculate_denoised(self, sigma: Tensor, model_output: Tensor, model_input: Tensor) -> Tensor:
        """The logits are the prediction."""
        return model_output

    def noise_scaling(self, sigma: Tensor, noise: Tensor, latent_image: Tensor, max_denoise: bool = False) -> Tensor:
        """Masks the share `sigma` of codes [B,1,h,w], those of the lowest noise; zero noise masks none ('AddNoise')."""
        if not noise.any():
            return latent_image
        count = math.floor(float(sigma) * noise[0, 0].numel())
        rank = noise[:, :1].flatten(1).argsort(-1).argsort(-1).view(noise[:, :1].shape)
        return torch.where(rank < count, 0.0, latent_image)

    def inverse_noise_scaling(self, sigma: Tensor, latent: Tensor) -> Tensor:
        """Nothing to scale."""
        return latent
