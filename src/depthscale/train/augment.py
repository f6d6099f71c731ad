"""Random changes to images, a whole batch at once, parameters drawn from the run's own generator.

Borders are repeated outwards rather than filled with zeros, so that standardised backgrounds stay what they are.
Cutout: DeVries & Taylor 2017; mixup: Zhang et al. 2018, "mixup: beyond empirical risk minimization".
"""

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from depthscale.errors import TrainingError


@dataclass(frozen=True)
class Augment:
    """What may happen to a training image.

    ``shift`` pixels at most along each axis; ``flip`` left to right for half of them; ``rotate`` and ``shear``
    degrees at most; ``scale`` ± this fraction at most; ``cutout`` the side of a square set to the batch's mean;
    ``mixup`` the α of Beta(α, α), which works for tables too.
    """

    shift: int = 0
    flip: bool = False
    rotate: float = 0.0
    shear: float = 0.0
    scale: float = 0.0
    cutout: int = 0
    mixup: float = 0.0

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name == "flip":
                ok, wanted = isinstance(value, bool), "true or false"
            elif f.name in ("shift", "cutout"):
                ok = isinstance(value, int) and not isinstance(value, bool) and value >= 0
                wanted = "a whole number of pixels of at least 0"
            else:
                high = {"scale": 0.9, "rotate": 180.0, "shear": 80.0}.get(f.name, math.inf)
                ok = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= high
                ok, wanted = ok and math.isfinite(value), f"a finite number from 0 to {high:g}"
            if not ok:
                raise TrainingError(f"expected augmentation {f.name} to be {wanted}, got {value!r}")

    @property
    def spatial(self) -> bool:
        """Whether it needs images of shape (C, H, W)."""
        return any((self.shift, self.flip, self.rotate, self.shear, self.scale, self.cutout))

    def __call__(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        """Changed copies of the images ``x`` (B, C, H, W); without spatial changes, ``x`` itself."""
        if self.flip:
            x = torch.where(_to(rng.random(len(x)) < 0.5, x)[:, None, None, None], x.flip(-1), x)
        if self.rotate or self.shear or self.scale:
            x = self._affine(x, rng)
        elif self.shift:
            x = self._shifted(x, rng)
        if self.cutout:
            x = self._cut(x, rng)
        return x

    def _shifted(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        k = self.shift
        b, _, h, w = x.shape
        dy, dx = (_to(d, x) for d in rng.integers(0, 2 * k + 1, (2, b)))
        windows = F.pad(x, (k, k, k, k), mode="replicate").unfold(2, h, 1).unfold(3, w, 1)  # (B, C, 2k+1, 2k+1, H, W)
        return windows[torch.arange(b, device=x.device), :, dy, dx]  # (B, C, H, W)

    def _affine(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        """Output (i, j) reads the input at A(i, j) + t, in coordinates of [-1, 1]."""
        b, _, h, w = x.shape
        turn, skew, size, right, down = rng.uniform(-1, 1, (5, b))
        turn, skew = np.deg2rad(self.rotate) * turn, np.tan(np.deg2rad(self.shear) * skew)
        zoom = 1 / (1 + self.scale * size)
        cos, sin = np.cos(turn) * zoom, np.sin(turn) * zoom
        theta = np.empty((b, 2, 3))
        theta[:, 0, 0], theta[:, 0, 1] = cos, (skew * cos - sin) * h / w
        theta[:, 1, 0], theta[:, 1, 1] = sin * w / h, skew * sin + cos
        theta[:, 0, 2], theta[:, 1, 2] = 2 * self.shift / w * right, 2 * self.shift / h * down
        grid = F.affine_grid(_to(theta, x).to(x.dtype), list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)

    def _cut(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        b, _, h, w = x.shape
        top = _to(rng.integers(0, h, b) - self.cutout // 2, x)[:, None]
        left = _to(rng.integers(0, w, b) - self.cutout // 2, x)[:, None]
        rows, columns = torch.arange(h, device=x.device), torch.arange(w, device=x.device)
        inside_h = (rows >= top) & (rows < top + self.cutout)  # (B, H)
        inside_w = (columns >= left) & (columns < left + self.cutout)  # (B, W)
        inside = (inside_h[:, None, :, None]) & (inside_w[:, None, None, :])
        return torch.where(inside, x.mean((0, 2, 3), keepdim=True), x)


def mix_pairs(x: Tensor, alpha: float, rng: np.random.Generator) -> tuple[Tensor, Tensor, float]:
    """``λx + (1−λ)x[partner]``, partner (B,) and λ ~ Beta(α, α), one λ for the batch."""
    share = float(rng.beta(alpha, alpha))
    partner = _to(rng.permutation(len(x)), x)
    return x * share + x[partner] * (1 - share), partner, share


def _to(values: NDArray[Any], like: Tensor) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).to(like.device, non_blocking=True)
