"""Augmentation against one-image-at-a-time references."""

from typing import Any

import numpy as np
import pytest
import torch

from depthscale.train import Augment
from depthscale.train.augment import mix_pairs


def pictures(b: int = 6, c: int = 2, h: int = 9, w: int = 7) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).standard_normal((b, c, h, w), dtype=np.float32))


class Fixed:
    """A generator whose uniform numbers are given."""

    def __init__(self, values: Any) -> None:
        self.values = np.asarray(values)

    def uniform(self, low: float, high: float, shape: tuple[int, ...]) -> np.ndarray:
        return np.broadcast_to(self.values, shape).copy()


def test_shift_moves_each_image_and_repeats_its_border() -> None:
    x, k = pictures(), 2
    got = Augment(shift=k)(x, np.random.default_rng(1))
    dy, dx = np.random.default_rng(1).integers(0, 2 * k + 1, (2, len(x)))
    assert len(set(zip(dy, dx, strict=True))) > 2
    _, _, h, w = x.shape
    for i in range(len(x)):
        rows = np.clip(np.arange(h) + dy[i] - k, 0, h - 1)
        columns = np.clip(np.arange(w) + dx[i] - k, 0, w - 1)
        assert torch.equal(got[i], x[i][:, rows][:, :, columns])
    assert got.is_contiguous()


def test_flip_turns_about_half() -> None:
    x = pictures(2000, 1, 3, 3)
    got = Augment(flip=True)(x, np.random.default_rng(0))
    turned = [torch.equal(g, i.flip(-1)) for g, i in zip(got, x, strict=True)]
    kept = [torch.equal(g, i) for g, i in zip(got, x, strict=True)]
    assert all(a != b for a, b in zip(turned, kept, strict=True))
    assert abs(sum(turned) - 1000) < 4 * np.sqrt(500)


@pytest.mark.parametrize(("degrees", "turns"), [(90.0, 1), (180.0, 2), (-90.0, 3)])
def test_a_right_angle_is_rot90(degrees: float, turns: int) -> None:
    x = pictures(3, 2, 8, 8)
    numbers = np.array([np.sign(degrees), 0, 0, 0, 0])[:, None]
    got = Augment(rotate=abs(degrees))(x, Fixed(numbers))  # type: ignore[arg-type]
    candidates = [torch.rot90(x, t, (2, 3)) for t in (turns, -turns)]
    assert any(torch.allclose(got, c, atol=1e-5) for c in candidates)


def test_opposite_turns_undo_each_other() -> None:
    x = torch.zeros(1, 1, 21, 33)
    x[..., 6:15, 10:23] = 1.0
    x = torch.nn.functional.avg_pool2d(x, 5, 1, 2)  # smooth, so that interpolation costs little
    augment = Augment(rotate=20.0)
    there = augment(x, Fixed(np.array([1, 0, 0, 0, 0])[:, None]))  # type: ignore[arg-type]
    back = augment(there, Fixed(np.array([-1, 0, 0, 0, 0])[:, None]))  # type: ignore[arg-type]
    assert (there - x).abs().max() > 0.2
    assert (back - x).abs().max() < 0.1
    assert there.sum() == pytest.approx(float(x.sum()), rel=0.01)  # also on a rectangle, turning keeps areas


def test_scale_and_shift_in_pixels() -> None:
    x = pictures(2, 1, 8, 10)
    # full shift of 3 to the right and 1 … with nothing else: reads 3 pixels further on
    got = Augment(shift=3, rotate=1e-9)(x, Fixed(np.array([0, 0, 0, 1, 1])[:, None]))  # type: ignore[arg-type]
    rows, columns = np.clip(np.arange(8) + 3, 0, 7), np.clip(np.arange(10) + 3, 0, 9)
    assert torch.allclose(got, x[:, :, rows][..., columns], atol=1e-4)
    place = torch.arange(41) - 20.0
    bump = torch.exp(-(place**2) / 18)
    blob = (bump[:, None] * bump)[None, None]
    grown = Augment(scale=0.5)(blob, Fixed(np.array([0, 0, 1, 0, 0])[:, None]))  # type: ignore[arg-type]
    assert grown.sum() == pytest.approx(1.5**2 * float(blob.sum()), rel=1e-3)


def test_shear_keeps_areas_and_slants() -> None:
    x = torch.zeros(1, 1, 41, 41)
    x[..., 10:31, 18:23] = 1
    got = Augment(shear=30.0)(x, Fixed(np.array([0, 1, 0, 0, 0])[:, None]))  # type: ignore[arg-type]
    assert got.sum() == pytest.approx(105, rel=0.02)
    columns = torch.arange(41, dtype=torch.float32)
    middle = (got[0, 0] * columns).sum(1) / got[0, 0].sum(1).clamp(min=1e-9)
    slope = float(middle[28] - middle[12]) / 16
    assert abs(slope) == pytest.approx(np.tan(np.deg2rad(30)), rel=0.02)


def test_cutout_is_a_square_of_the_mean() -> None:
    x = pictures(50, 2, 12, 12)
    got = Augment(cutout=5)(x, np.random.default_rng(0))
    changed = (got != x).all(1)
    for picture in changed:
        rows, columns = picture.any(1).nonzero().ravel(), picture.any(0).nonzero().ravel()
        assert picture.sum() == len(rows) * len(columns)  # a rectangle
        assert 3 <= len(rows) <= 5  # of full size, but where the border cuts it
        assert 3 <= len(columns) <= 5
    mean = x.mean((0, 2, 3))
    assert torch.allclose(got[changed[:, None].expand_as(got)].reshape(-1)[:1], mean[:1], atol=1e-6)


def test_mixup_is_the_convex_sum() -> None:
    x = pictures()
    got, partner, share = mix_pairs(x, 0.4, np.random.default_rng(2))
    assert 0 <= share <= 1
    assert sorted(partner.tolist()) == list(range(len(x)))
    for i, j in enumerate(partner.tolist()):
        assert torch.allclose(got[i], share * x[i] + (1 - share) * x[j], atol=1e-6)


def test_the_same_generator_gives_the_same_images_and_the_input_is_left_alone() -> None:
    x = pictures()
    before = x.clone()
    for augment in (Augment(shift=1, flip=True), Augment(rotate=10, shear=5, scale=0.1, shift=1, cutout=3)):
        a, b = augment(x, np.random.default_rng(5)), augment(x, np.random.default_rng(5))
        assert torch.equal(a, b)
        assert not torch.equal(a, augment(x, np.random.default_rng(6)))
        assert torch.equal(x, before)
    assert Augment()(x, np.random.default_rng(0)) is x
