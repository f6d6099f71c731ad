"""Data kept as tensors on the device and cut into batches by index; no workers, no copies but the batch itself.

An epoch sees every row once, in ⌈n / batch⌉ batches whose sizes differ by one at most, so there is no tiny last
batch to upset batch norm. With several processes each takes every k-th row of the same batch.
"""

import warnings
import zlib
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from depthscale.errors import TrainingError
from depthscale.train.seeds import ORDER, mix

ALIGNED = 64  # bytes: where torch's own memory begins on CPUs


class SplitLike(Protocol):
    """Rows: ``x`` (N, …) and ``y`` (N,) class indices or (N, T) numbers."""

    @property
    def x(self) -> NDArray[Any]: ...  # noqa: D102
    @property
    def y(self) -> NDArray[Any]: ...  # noqa: D102


class DatasetLike(Protocol):
    """What training needs of a data set: ``depthscale.data.Dataset`` or anything that looks like it."""

    @property
    def task(self) -> str: ...  # noqa: D102
    @property
    def train(self) -> SplitLike: ...  # noqa: D102
    @property
    def val(self) -> SplitLike: ...  # noqa: D102


def tensors(split: SplitLike, task: str, like: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """``x`` in the floating type of ``like`` and ``y`` as int64 (N,) or that type (N, T), without copying if possible.

    Raises TrainingError for rows that do not match, no rows, non-finite values or negative classes.
    """
    if task not in ("classification", "regression"):
        raise TrainingError(f"expected the task to be classification or regression, got {task!r}")
    real = like.dtype if like is not None and like.is_floating_point() else torch.float32
    x, y = _tensor(split.x), _tensor(split.y)
    if len(x) != len(y) or len(x) == 0:
        raise TrainingError(f"expected as many rows in x as in y and at least one, got {len(x)} and {len(y)}")
    x = x.to(real) if x.is_floating_point() else x
    if task == "classification":
        if y.is_floating_point() or y.dim() != 1 or int(y.min()) < 0:
            raise TrainingError(f"expected y of shape (N,) with classes 0, 1, …, got {tuple(y.shape)} of {y.dtype}")
        y = y.long()
    else:
        y = y.to(real)
        y = y[:, None] if y.dim() == 1 else y
    for name, values in (("x", x), ("y", y)):
        if values.is_floating_point() and not bool(torch.isfinite(values).all()):
            raise TrainingError(f"expected finite numbers in {name}, got NaN or infinity; fill or drop those rows")
    return x, y


def _tensor(values: Any) -> Tensor:
    if isinstance(values, Tensor):
        return values.detach()
    array = np.ascontiguousarray(values)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # nothing here writes to it
        tensor = torch.from_numpy(array)
    # products of matrices round by where their memory begins: what torch allocates begins at the same place every time
    return tensor if array.ctypes.data % ALIGNED == 0 else tensor.clone()


def fingerprint(dataset: DatasetLike) -> str:
    """What tells data sets apart: their own fingerprint, else checksums of the training and validation rows."""
    given = getattr(dataset, "fingerprint", None)
    if given is not None:
        return str(given)
    parts = [np.ascontiguousarray(a) for s in (dataset.train, dataset.val) for a in (s.x, s.y)]
    return "-".join(f"{zlib.crc32(a.reshape(-1).view(np.uint8).data):08x}" for a in parts)


class Batches:
    """The training rows on the device, and which of them make up each step."""

    def __init__(
        self, x: Tensor, y: Tensor, batch: int, seed: int, *, channels_last: bool = False, rank: int = 0, world: int = 1
    ) -> None:
        if channels_last and x.dim() == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        self.x, self.y, self.seed, self.rank, self.world = x, y, seed, rank, world
        self._format = torch.channels_last if channels_last and x.dim() == 4 else None
        rows = len(x)
        self.steps = -(-rows // batch)  # per epoch
        # the first `rows % steps` batches have one row more
        base, more = divmod(rows, self.steps)
        self._ends = [i * base + min(i, more) for i in range(self.steps + 1)]
        if base < world:
            raise TrainingError(f"expected batches of at least one row a process ({world}), got {base}; raise batch")
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.long)

    @property
    def rows(self) -> int:
        """Training rows in an epoch."""
        return len(self.x)

    def size(self, step: int) -> int:
        """Rows in the batch of this step, over all processes."""
        i = step % self.steps
        return self._ends[i + 1] - self._ends[i]

    def rows_of(self, step: int) -> Tensor:
        """Indices of this process's rows in the batch of this step (counted from the start of training)."""
        epoch, i = divmod(step, self.steps)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(mix(self.seed, ORDER, epoch))
            self._order = torch.randperm(self.rows, generator=generator).to(self.x.device)
            self._epoch = epoch
        rows = self._order[self._ends[i] : self._ends[i + 1]]
        return rows if self.world == 1 else rows[self.rank :: self.world]

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """``x`` and ``y`` of the batch of this step."""
        rows = self.rows_of(step)
        x = self.x.index_select(0, rows)
        if self._format is not None:
            x = x.contiguous(memory_format=self._format)
        return x, self.y.index_select(0, rows)
