"""The small data sets that come with scikit-learn: always there, offline, the same for everybody."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from depthscale.data.raw import Raw

if TYPE_CHECKING:
    import pandas as pd

TABLES = ("iris", "wine", "breast_cancer", "diabetes")


def read_digits() -> Raw:
    """1,797 handwritten digits of 8 x 8 pixels in 0..16 (Alpaydin & Kaynak 1998), as (1797, 1, 8, 8) images."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = bunch.images.astype(np.uint8)[:, None]  # (1797, 1, 8, 8)
    return Raw("digits", images, bunch.target.astype(np.int64), ("digit",), tuple(map(str, range(10))))


def read_bundled_table(name: str) -> Raw:
    """One of ``TABLES``, with its own column and class names; diabetes in its natural units."""
    from sklearn import datasets

    options = {"scaled": False} if name == "diabetes" else {}
    bunch = getattr(datasets, f"load_{name}")(as_frame=True, **options)
    frame: pd.DataFrame = bunch.data
    if name == "diabetes":
        return Raw(name, frame, bunch.target.to_numpy(dtype=np.float64), ("progression",))
    labels = tuple(str(label) for label in bunch.target_names)
    return Raw(name, frame, bunch.target.to_numpy(dtype=np.int64), ("class",), labels)
