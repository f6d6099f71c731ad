"""Batches: every row once an epoch, even sizes, shards that make up the batch, orders that depend on seed and epoch."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from depthscale.errors import TrainingError
from depthscale.train.batches import Batches, fingerprint, tensors
from depthscale.train.seeds import mix
from tests.train.toys import Split, images


def made(rows: int, batch: int, **options: int) -> Batches:
    x = torch.arange(rows, dtype=torch.float32)[:, None]
    return Batches(x, torch.arange(rows), batch, options.pop("seed", 0), **options)


@given(st.integers(1, 300), st.integers(1, 64), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_an_epoch_shows_every_row_once(rows: int, batch: int, epoch: int) -> None:
    batches = made(rows, batch)
    assert batches.steps == -(-rows // batch)
    steps = range(epoch * batches.steps, (epoch + 1) * batches.steps)
    got = [batches(s) for s in steps]
    assert sorted(torch.cat([y for _, y in got]).tolist()) == list(range(rows))
    assert all(torch.equal(x[:, 0].long(), y) for x, y in got)
    sizes = [len(y) for _, y in got]
    assert sizes == [batches.size(s) for s in steps]
    assert max(sizes) <= batch
    assert max(sizes) - min(sizes) <= 1


@given(st.integers(20, 200), st.integers(8, 64), st.integers(2, 4))
@settings(max_examples=30, deadline=None)
def test_shards_make_up_the_batch(rows: int, batch: int, world: int) -> None:
    whole = made(rows, batch)
    shards = [made(rows, batch, rank=r, world=world) for r in range(world)]
    for step in range(whole.steps):
        parts = torch.cat([s(step)[1] for s in shards])
        assert sorted(parts.tolist()) == sorted(whole(step)[1].tolist())


def test_orders_depend_on_seed_and_epoch_and_nothing_else() -> None:
    orders = {
        (seed, epoch): tuple(made(50, 50, seed=seed)(epoch)[1].tolist()) for seed in range(3) for epoch in range(3)
    }
    assert len(set(orders.values())) == 9
    batches = made(50, 10)
    backwards = [tuple(batches(s)[1].tolist()) for s in reversed(range(15))]
    assert [tuple(made(50, 10)(s)[1].tolist()) for s in range(15)] == backwards[::-1]


def test_orders_are_uniform() -> None:
    """Where a row lands is uniform over epochs: mean position within 4 standard errors."""
    rows, epochs = 20, 2000
    batches = made(rows, rows, seed=3)
    places = np.array([np.argsort(batches(e)[1].numpy()) for e in range(epochs)])
    error = np.sqrt((rows**2 - 1) / 12 / epochs)
    assert np.abs(places.mean(0) - (rows - 1) / 2).max() < 4 * error


def test_seeds_do_not_collide() -> None:
    seeds = {mix(s, stream, p, r) for s in range(5) for stream in (1, 2, 3) for p in range(500) for r in range(3)}
    assert len(seeds) == 5 * 3 * 500 * 3
    # half of all bits change when one input bit does
    flips = [bin(mix(0, 1, p) ^ mix(0, 1, p ^ 1)).count("1") for p in range(2000)]
    assert abs(np.mean(flips) - 31.5) < 4 * np.sqrt(63 / 4 / 1000)


def test_too_many_processes() -> None:
    with pytest.raises(TrainingError, match="raise batch"):
        made(10, 2, rank=0, world=4)


@pytest.mark.parametrize(
    ("x", "y", "task", "words"),
    [
        (np.ones((3, 2)), np.zeros(2, int), "classification", "as many rows"),
        (np.ones((0, 2)), np.zeros(0, int), "classification", "at least one"),
        (np.ones((3, 2)), np.zeros(3), "classification", "classes 0, 1"),
        (np.ones((3, 2)), np.array([0, -1, 1]), "classification", "classes 0, 1"),
        (np.array([[1.0], [np.nan]]), np.zeros(2, int), "classification", "finite numbers in x"),
        (np.ones((2, 2)), np.array([1.0, np.inf]), "regression", "finite numbers in y"),
        (np.ones((2, 2)), np.ones(2), "ranking", "classification or regression"),
    ],
)
def test_bad_rows(x: np.ndarray, y: np.ndarray, task: str, words: str) -> None:
    with pytest.raises(TrainingError, match=words):
        tensors(Split(x, y), task)


def test_rows_are_shared_not_copied_and_cast_to_the_networks_type() -> None:
    x = torch.ones(3, 2).numpy()  # memory that begins where torch's does: NumPy's own may be copied
    x.flags.writeable = False
    got, y = tensors(Split(x, np.arange(3)), "classification")
    assert got.data_ptr() == x.ctypes.data
    assert y.dtype == torch.int64
    wide, target = tensors(Split(x, np.ones(3)), "regression", torch.zeros(1, dtype=torch.float64))
    assert wide.dtype == target.dtype == torch.float64
    assert target.shape == (3, 1)
    tokens, _ = tensors(Split(np.ones((3, 4), np.int64), np.arange(3)), "classification")
    assert tokens.dtype == torch.int64


def test_fingerprints_tell_data_apart() -> None:
    a, b = images(), images()
    assert fingerprint(a) == fingerprint(b)
    b.train.x[7, 0, 3, 3] += 1
    assert fingerprint(a) != fingerprint(b)
