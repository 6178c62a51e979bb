"""A decoder that generates: a transformer that carries noise to pictures along a rectified flow, conditioned on the latents.

The decoder of FlexTok (https://arxiv.org/abs/2502.13967), on pixels where FlexTok's works on the latents of an image VAE.
"""

from __future__ import annotations

import math
import re
from typing import Any, Literal

import torch
import torch.nn.functional as F
from timm.models.eva import EvaBlock
from torch import Tensor, nn

from tokkit.errors import InputError
from tokkit.networks.base import GenerativeDecoder, Grid
from tokkit.networks.noise import seeded_noise
from tokkit.networks.rectified import Sampler, denoised, draw_sigmas, guided, guided_by_projection, integrate, noised, spread
from tokkit.networks.transformer import (
    Patchify,
    Rank,
    Shape,
    Size,
    Unpatchify,
    attention_dtype,
    check_cells,
    initialise,
    learned_tokens,
    resolve_shape,
    rotary,
    start_faint,
)
from tokkit.registry import register

SMALLEST_SIGMA = 0.05
"""Where the division by sigma is held, as in JiT (https://arxiv.org/abs/2511.13720)."""
ADOPTED_NOISE = 0.3
"""Share of the fresh map from noised patches where the rest is another decoder's."""
_TIME_WIDTH = 256
_PARTS = 6


@register("decoder", "flow")
class FlowDecoder(GenerativeDecoder):
    """Rectified flow from noise to pixels, conditioned on latents (https://arxiv.org/abs/2502.13967).

    D is the width. The latents stand before the noised patches in one transformer, whose norms the time modulates. `forward` draws with
    `seed`; `draw` takes a seed for every sample. `steps`, `sampler`, `guidance`, `apg` and `seed` are attributes that may be set at any
    time: few steps for a preview, another seed for another picture.

    Attributes:
        num_tokens: N, the most latents it takes; None: one for every cell of the grid.
    """

    def __init__(
        self,
        *,
        num_tokens: int | None = None,
        channels: int = 3,
        patch: int = 16,
        size: Size = "base",
        width: int | None = None,
        depth: int | None = None,
        heads: int | None = None,
        rank: Rank = 2,
        time_stride: int | None = None,
        predict: Literal["velocity", "input"] = "velocity",
        drop: float = 0.1,
        noise_mean: float = 0.0,
        steps: int = 20,
        sampler: Sampler = "euler",
        guidance: float = 1.0,
        apg: float | None = None,
    ):
        """
        Args:
            num_tokens: the most latents of a 1D tokenizer (`vit1d`), any number of leading ones will do; None for encoders with one latent
                a cell (`conv`, `vit`).
            channels: of the output.
            patch: side of a patch in pixels; the stride.
            size: names width, depth and heads; FlexTok's d12, d18, d28 or TiTok's small, base, large.
            width, depth, heads: instead of the size's.
            rank: spatial axes of the output.
            time_stride: frames of a patch of video, as `causal3d` divides time: the first frame has patches of its own, and T is 1 + a
                multiple of it. None: patches are as long as they are wide.
            predict: what the network's output stands for, the loss being that of the velocity in either case. "input" (JiT) is for patches
                with more numbers than the transformer is wide, whose noise it could not carry.
            drop: share of the samples of a training step that see no latents, which guidance needs.
            noise_mean: sigmas of training steps are sigmoid(N(noise_mean, 1)). Large pictures drown in noise later than small ones, so that
                more of it tells more: JiT has 0.8 at 256 px.
            steps: of a drawing.
            sampler: "euler" asks the network once a step, "heun" twice.
            guidance: classifier-free; 1 is none, and saves half of the work. FlexTok: 7.5 with `apg`.
            apg: adaptive projected guidance with this largest norm of the difference; None: plain guidance.

        Raises:
            InputError: a number is not positive, the heads do not get an even number of channels each, guidance without `drop`, or
                `time_stride` without time.
        """
        super().__init__()
        shape = resolve_shape(size, width, depth, heads)
        if min(num_tokens or 1, steps, patch) < 1 or num_tokens == 0 or (apg is not None and apg <= 0):
            raise InputError(f"flow: num_tokens, steps, patch and apg must be positive, got {num_tokens}, {steps}, {patch} and {apg}")
        if time_stride is not None and (rank != 3 or time_stride < 1):
            raise InputError(f"flow: time_stride goes with rank=3 and is positive; got time_stride={time_stride} and rank={rank}")
        if not 0 <= drop < 1 or (guidance != 1 and not drop):
            raise InputError(f"flow: drop must be in [0, 1), and above 0 for guidance={guidance}; got {drop}")
        self.channels, self.dim, self.rank, self.stride, self.time_stride = channels, shape.width, rank, patch, time_stride
        self.num_tokens, self.predict, self.drop, self.noise_mean = num_tokens, predict, drop, noise_mean
        self.steps, self.sampler, self.guidance, self.apg = steps, sampler, guidance, apg
        self.positions = learned_tokens(num_tokens, shape.width) if num_tokens else None
        self.nothing = learned_tokens(1, shape.width)
        self.patchify = Patchify(channels, self.strides, shape.width)
        self.transformer = TimedTransformer(shape)
        self.unpatchify = Unpatchify(channels, self.strides, shape.width, smooth=False)

    @property
    def strides(self) -> tuple[int, ...]:
        return (self.time_stride or self.stride, *(self.stride,) * (self.rank - 1))

    def output_size(self, grid: Grid) -> tuple[int, ...]:
        frames, *sides = super().output_size(grid)
        return (frames - self._repeated, *sides)

    def forward(self, latents: Tensor, grid: Grid) -> Tensor:
        return self.draw(latents, grid, torch.full((1,), self.seed, device=latents.device))

    def draw(self, latents: Tensor, grid: Grid, seeds: Tensor) -> Tensor:
        """Decode [B, N, D] to [B, C, *spatial], a sample from the noise of its seed; `seeds` is [B] int64, or [1] for all."""
        noise = seeded_noise(seeds, (self.channels, *self.output_size(grid)))
        noise = noise.expand(len(latents), *noise.shape[1:])
        guides = self.guidance != 1
        if guides:
            latents = torch.cat([latents, self._without(latents)])

        def field(values: Tensor, sigma: float) -> Tensor:
            both = torch.cat([values, values]) if guides else values
            velocity = self.velocity(both, torch.full((len(both),), sigma, device=both.device), latents, grid)
            if not guides:
                return velocity
            conditional, unconditional = velocity.chunk(2)
            if self.apg is None:
                return guided(conditional, unconditional, self.guidance)
            return guided_by_projection(conditional, unconditional, self.guidance, values=values, sigma=sigma, limit=self.apg)

        return integrate(field, noise, self.steps, self.sampler)

    def learn(self, latents: Tensor, grid: Grid, target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The estimate is the data that one step from x_sigma leads to; the loss, `flow`, is the mean squared error of the velocity."""
        data = target.float()
        noise = torch.randn_like(data)
        sigma = draw_sigmas(len(data), data.device, self.noise_mean)
        dropped = torch.rand(len(data), device=data.device) < self.drop
        latents = torch.where(spread(dropped, latents), self._without(latents), latents)
        values = noised(data, noise, sigma)
        velocity = self.velocity(values, sigma, latents, grid)
        return denoised(values, velocity, sigma), {"flow": F.mse_loss(velocity, noise - data)}

    def velocity(self, values: Tensor, sigma: Tensor, latents: Tensor, grid: Grid) -> Tensor:
        """dx/dsigma at x_sigma [B, C, *spatial], sigma [B], given latents [B, N, D]: fp32, of the shape of x_sigma."""
        cells = math.prod(grid)
        inputs = torch.cat([values[:, :, :1]] * self._repeated + [values], 2) if self._repeated else values
        patches = self.patchify(inputs.to(self.patchify.embed.weight.dtype))
        if self.positions is None:
            check_cells("decoder flow", latents.shape[1], grid)
            tokens = patches + latents
        else:
            given = latents.shape[1]
            if given > len(self.positions):
                raise InputError(f"decoder flow: got {given} latents, and it was built for at most num_tokens={self.num_tokens}")
            tokens = torch.cat([latents + self.positions[:given].to(latents.dtype), patches], 1)
        found = self.transformer(tokens, sigma, grid)[:, -cells:]
        output = self.unpatchify(found, grid).float()[:, :, self._repeated :]
        if self.predict == "velocity":
            return output
        return (values - output) / spread(sigma, values).clamp(min=SMALLEST_SIGMA)

    def adopted(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Of a `vit1d` decoder of this shape: its blocks, places and last map, its mask token being what patches are before noise is added.

        For `predict: input`, whose best answer at sigma 1 is the mean of all possible inputs, which that decoder has learned to give.
        """
        if "mask_token" not in weights:
            return weights
        state = self.state_dict()
        embed = "patchify.embed"
        state[f"{embed}.weight"] = ADOPTED_NOISE * state[f"{embed}.weight"]
        state[f"{embed}.bias"] = weights["mask_token"][0]
        for name, value in weights.items():
            if name != "mask_token" and not name.startswith("unpatchify.smooth."):
                state[re.sub(r"^(transformer\.blocks\.\d+)\.", r"\1.block.", name)] = value
        return state

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the transformer, which drawing and learning share; `nn.Module.compile` would compile `forward` alone."""
        self.transformer.compile(*args, **kwargs)

    @property
    def _repeated(self) -> int:
        """How often the first frame stands before a video, so that it fills the patches it has to itself."""
        return 0 if self.time_stride is None else self.time_stride - 1

    def _without(self, latents: Tensor) -> Tensor:
        return self.nothing.to(latents.dtype).expand(latents.shape)

    @property
    def last_layer(self) -> nn.Parameter:
        return self.unpatchify.last_layer

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        return {"num_tokens": 5, "patch": 4, "width": 16, "depth": 1, "heads": 2, "steps": 2, "sampler": "heun", "guidance": 2.0}


class TimedTransformer(nn.Module):
    """The transformer of `transformer.py` whose norms are scaled and shifted, and whose branches are gated, by the time.

    One map from the time serves all blocks, each of which adds learned numbers of its own (adaLN-single, https://arxiv.org/abs/2310.00426).
    """

    def __init__(self, shape: Shape):
        super().__init__()
        self.head_width = shape.width // shape.heads
        self.time = nn.Sequential(
            nn.Linear(_TIME_WIDTH, shape.width),
            nn.SiLU(),
            nn.Linear(shape.width, shape.width),
            nn.SiLU(),
            nn.Linear(shape.width, _PARTS * shape.width),
        )
        self.blocks = nn.ModuleList(TimedBlock(shape) for _ in range(shape.depth))
        self.norm = nn.LayerNorm(shape.width)
        self.last = learned_tokens(2, shape.width)
        self.blocks.apply(initialise)
        for layer in self.time:
            if isinstance(layer, nn.Linear):
                start_faint(layer)

    def forward(self, tokens: Tensor, sigma: Tensor, grid: Grid) -> Tensor:
        """Transform [B, prefix + cells, width] at times sigma [B]."""
        rope = rotary(grid, tokens.shape[1] - math.prod(grid), self.head_width, tokens.device).to(attention_dtype(tokens))
        embedded = time_embedding(sigma, _TIME_WIDTH).to(self.norm.weight.dtype)
        modulation = self.time(embedded).unflatten(-1, (_PARTS, -1)).to(tokens.dtype)
        for block in self.blocks:
            tokens = block(tokens, modulation, rope)
        scale, shift = (modulation[:, :2] + self.last.to(tokens.dtype)).unsqueeze(2).unbind(1)
        return self.norm(tokens) * (1 + scale) + shift


class TimedBlock(nn.Module):
    """timm's block with modulated norms and gated branches."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.block = EvaBlock(shape.width, shape.heads, attn_type="rope", num_prefix_tokens=0, rotate_half=True, norm_layer=nn.LayerNorm)
        self.own = learned_tokens(_PARTS, shape.width)

    def forward(self, tokens: Tensor, modulation: Tensor, rope: Tensor) -> Tensor:
        """[B, T, width] with modulation [B, 6, width]."""
        parts = (modulation + self.own.to(tokens.dtype)).unsqueeze(2).unbind(1)
        scale, shift, gate = parts[:3]
        tokens = tokens + (1 + gate) * self.block.attn(self.block.norm1(tokens) * (1 + scale) + shift, rope=rope)
        scale, shift, gate = parts[3:]
        return tokens + (1 + gate) * self.block.mlp(self.block.norm2(tokens) * (1 + scale) + shift)


def time_embedding(sigma: Tensor, width: int) -> Tensor:
    """[B] in [0, 1] to [B, width]: cosines and sines of 1000 sigma at wavelengths from 2 pi to 20,000 pi, as diffusion transformers do."""
    bands = 10_000 ** -(torch.arange(width // 2, device=sigma.device) / (width // 2))
    angles = 1000 * sigma.unsqueeze(-1) * bands
    return torch.cat([angles.cos(), angles.sin()], -1)
