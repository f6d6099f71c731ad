"""The one shape that all data take: preprocessed arrays in three splits, with the test split sealed.

The test split answers one question once: how good is the network that was chosen? So it is neither an attribute nor
preprocessed in advance; ``dataset.test()`` reveals it, and ``dataset.test_opened`` says how often that happened.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from depthscale.data.preprocess import Preprocessing

Task = Literal["classification", "regression"]
Kind = Literal["image", "table"]


class Split(NamedTuple):
    """Rows ready for a network: ``x`` float32 (N, C, H, W) or (N, F); ``y`` int64 (N,) or float32 (N, T)."""

    x: NDArray[np.float32]
    y: NDArray[Any]


class Sizes(NamedTuple):
    """Number of rows in each split, known without opening the test split."""

    train: int
    val: int
    test: int


class Sealed:
    """Raw test rows, preprocessed when they are revealed, and the count of how often that was."""

    def __init__(self, x: Any, y: NDArray[Any], preprocessing: Preprocessing):
        self._x, self._y, self._preprocessing = x, y, preprocessing
        self.opened = 0

    def __len__(self) -> int:
        return len(self._y)

    def reveal(self) -> Split:
        """The test split, preprocessed with the training split's statistics; counted."""
        self.opened += 1
        return Split(self._preprocessing.apply(self._x), self._y)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Data ready to train on.

    Classification targets are class indices into ``classes``; regression targets are standardised with the training
    split's mean and scale (``preprocessing.decode`` undoes it). ``notes`` tells every decision that was taken.
    """

    name: str
    task: Task
    kind: Kind
    train: Split
    val: Split
    sealed: Sealed = field(repr=False)
    classes: tuple[str, ...]  # () for regression
    input_shape: tuple[int, ...]  # (C, H, W) or (F,)
    outputs: int  # number of classes, or of targets
    preprocessing: Preprocessing = field(repr=False)
    fingerprint: str  # sha256 of content and split
    raw_columns: tuple[str, ...]  # the table's own columns, () for images
    target_names: tuple[str, ...]
    seed: int
    notes: tuple[str, ...]

    def test(self) -> Split:
        """The test split; for the one evaluation at the very end, and counted in ``test_opened``."""
        return self.sealed.reveal()

    @property
    def test_opened(self) -> int:
        """How often the test split has been revealed."""
        return self.sealed.opened

    @property
    def sizes(self) -> Sizes:
        """Rows in train, val and test, without opening the test split."""
        return Sizes(len(self.train.y), len(self.val.y), len(self.sealed))

    def __repr__(self) -> str:
        what = f"{len(self.classes)} classes" if self.task == "classification" else f"{self.outputs} target(s)"
        return (
            f"Dataset({self.name!r}, {self.task} of {self.kind}s, input {self.input_shape}, {what}, "
            f"rows {self.sizes.train}/{self.sizes.val}/{self.sizes.test}, {self.fingerprint[:12]})"
        )
