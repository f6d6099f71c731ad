"""A convolution written out as the matrix that it is."""

from typing import TYPE_CHECKING, Any

import numpy as np

from depthscale.figures.figure import Data, Figure, Say, Verdict
from depthscale.figures.style import picture
from depthscale.foundations.convolution import convolution_matrix

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture

CASES: tuple[tuple[str, tuple[int, ...], tuple[int, ...], dict[str, Any]], ...] = (
    ("1-D, kernel 3, padding 1", (1, 1, 3), (16,), {"padding": 1}),
    ("2-D, kernel 3 × 3", (1, 1, 3, 3), (6, 6), {}),
    ("stride 2", (1, 1, 3, 3), (7, 7), {"stride": 2, "padding": 1}),
    ("2 groups of 2 channels", (4, 2, 2, 2), (4, 4), {"groups": 2}),
)


def run(quick: bool, seed: int, say: Say) -> Data:
    """Writes the matrices out, and compares what they do to random images with torch's convolution."""
    import torch
    from torch.nn import functional as F

    rng = np.random.default_rng(seed)
    apply: dict[int, Any] = {1: F.conv1d, 2: F.conv2d}
    data: Data = {"name": [], "rows": [], "columns": [], "difference": [], "share_nonzero": [], "distinct": [],
                  "weights": [], "matrices": {}}  # fmt: skip
    for name, shape, size, options in CASES:
        say(name)
        weight = rng.normal(size=shape)
        matrix = convolution_matrix(weight, size, **options)
        x = rng.normal(size=(200 if quick else 2000, shape[1] * options.get("groups", 1), *size))
        y = apply[len(size)](torch.tensor(x), torch.tensor(weight), **options).numpy()
        off = np.abs(x.reshape(len(x), -1) @ matrix.T - y.reshape(len(x), -1)).max()
        data["name"].append(name)
        data["rows"].append(matrix.shape[0])
        data["columns"].append(matrix.shape[1])
        data["difference"].append(float(off))
        data["share_nonzero"].append(float((matrix != 0).mean()))
        data["distinct"].append(len(np.unique(matrix[matrix != 0])))
        data["weights"].append(int(weight.size))
        data["matrices"][name] = np.round(matrix, 3).tolist()
    return data


def judge(data: Data) -> Verdict:
    """Holds if the matrices do what torch's convolutions do and hold nothing but the kernel's weights and zeros."""
    off = max(data["difference"])
    shared = all(a <= b for a, b in zip(data["distinct"], data["weights"], strict=True))
    return Verdict(
        "holds" if off < 1e-10 and shared else "fails",
        f"matrix and torch's convolution differ by at most {off:.1g} (1e-10 allowed); matrices of "
        f"{sum(r * c for r, c in zip(data['rows'], data['columns'], strict=True)):,} entries in all hold "
        f"{sum(data['distinct'])} different numbers, and the kernels have {sum(data['weights'])} weights",
    )


def draw(data: Data) -> "Picture":
    """The matrices, zeros left blank."""
    figure, axes = picture(1, len(data["name"]), width=10.5, height=3.3)
    for a, name in zip(axes, data["name"], strict=True):
        matrix = np.array(data["matrices"][name])
        top = np.abs(matrix).max()
        a.imshow(np.where(matrix == 0, np.nan, matrix), cmap="PuOr_r", vmin=-top, vmax=top, interpolation="nearest",
                 aspect="auto")  # fmt: skip
        a.set_title(f"{name}\n{matrix.shape[0]} × {matrix.shape[1]}", fontsize=9)
        a.grid(visible=False)
        a.set_xticks([])
        a.set_yticks([])
    axes[0].set_ylabel("output")
    axes[0].set_xlabel("input")
    return figure


FIGURE = Figure(
    name="convolution-matrix",
    title="Convolution is a matrix with few numbers in it",
    claim="A convolution, with any stride, padding and groups, is the product with one sparse matrix in which the same "
    "few weights stand again and again.",
    source="LeCun et al. 1989 (weight sharing); Goodfellow, Bengio & Courville 2016, §9.2",
    order=60,
    run=run,
    judge=judge,
    draw=draw,
)
