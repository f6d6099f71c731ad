"""Splits: exact sizes, in proportion to the classes, decided by the seed alone."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from depthscale.data.split import choose, split_rows, subsample
from depthscale.errors import DataError

LABELS = st.lists(st.integers(0, 6), min_size=12, max_size=150).map(lambda v: np.array(v, np.int64))


@given(LABELS, st.integers(0, 1000), st.floats(0.05, 0.45))
def test_choose_takes_the_exact_number_within_one_of_each_class_quota(strata, seed, fraction):
    count = round(fraction * len(strata))
    mask = choose(strata, count, np.random.default_rng(seed), reserve=0)
    assert mask.sum() == count
    for s in np.unique(strata):
        quota = count * (strata == s).mean()
        assert abs(mask[strata == s].sum() - quota) < 1


@given(LABELS, st.integers(0, 1000))
def test_choose_leaves_the_reserve(strata, seed):
    mask = choose(strata, len(strata), np.random.default_rng(seed), reserve=1)
    assert all((~mask[strata == s]).sum() == 1 for s in np.unique(strata))


@given(LABELS, st.integers(0, 1000))
def test_splits_partition_the_rows_and_every_class_trains(strata, seed):
    if len(np.unique(strata)) > len(strata) - 2:
        return
    parts = split_rows(strata, seed=seed, val=0.15, test=0.2)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(strata)))
    assert set(strata[parts[0]]) == set(strata)


def test_sizes_are_the_fractions_and_classes_keep_their_shares():
    strata = np.repeat([0, 1, 2], [600, 300, 100])
    train, val, test = split_rows(strata, seed=3, val=0.15, test=0.2)
    assert [np.bincount(strata[p]).tolist() for p in (train, val, test)] == [
        [390, 195, 65],
        [90, 45, 15],
        [120, 60, 20],
    ]


def test_same_seed_same_split_other_seed_other_split():
    strata = np.arange(200) % 4
    one, same, other = (split_rows(strata, seed=s, val=0.2, test=0.2) for s in (5, 5, 6))
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert not np.array_equal(one[2], other[2])


def test_every_row_is_equally_likely_to_test():
    n, seeds, strata = 40, 400, np.zeros(40, np.int64)
    hits = sum(np.bincount(split_rows(strata, seed=s, val=0.2, test=0.25)[2], minlength=n) for s in range(seeds))
    error = np.sqrt(seeds * 0.25 * 0.75)  # of a binomial count
    assert np.abs(hits - seeds * 0.25).max() < 4 * error


def test_given_test_split_is_kept_and_val_is_drawn_from_train():
    part = np.repeat(np.array([0, 2], np.int8), [80, 20])
    train, val, test = split_rows(np.arange(100) % 2, seed=0, val=0.25, test=0.5, part=part)
    assert test.tolist() == list(range(80, 100))
    assert (len(train), len(val)) == (60, 20)


def test_a_single_row_of_a_class_trains():
    strata = np.array([0] * 30 + [1])
    train, _, _ = split_rows(strata, seed=0, val=0.15, test=0.2)
    assert 30 in train


def test_subsample_keeps_classes_and_splits_in_proportion():
    strata, part = np.arange(400) % 2, np.repeat(np.array([0, 2], np.int8), [300, 100])
    rows = subsample(strata, part, 40, seed=1)
    assert len(rows) == 40
    assert (part[rows] == 2).sum() == 10
    assert strata[rows].sum() == 20
    assert np.array_equal(subsample(strata, part, 400, seed=1), np.arange(400))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"val": 0.0}, "val must be a fraction"),
        ({"test": 1.0}, "test must be a fraction"),
        ({"test": "0.2"}, "test must be a fraction"),
        ({"val": 0.6, "test": 0.4}, "must leave rows for training"),
    ],
)
def test_bad_fractions_are_refused(arguments, message):
    with pytest.raises(DataError, match=message):
        split_rows(np.zeros(50, np.int64), **{"seed": 0, "val": 0.2, "test": 0.2, **arguments})


@pytest.mark.parametrize("strata", [[0, 0], [0, 1, 2, 3], [0, 1, 2, 3, 0]])
def test_too_few_rows_are_refused(strata):
    with pytest.raises(DataError, match="too few"):
        split_rows(np.array(strata), seed=0, val=0.2, test=0.2)


@pytest.mark.parametrize("limit", [0, -3, 2.5, True])
def test_bad_limits_are_refused(limit):
    with pytest.raises(DataError, match="limit must be"):
        subsample(np.zeros(5, np.int64), None, limit, seed=0)
