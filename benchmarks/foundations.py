"""Convolution by hand against torch's conv2d, and the polynomial classifier against the clock.

    python benchmarks/foundations.py [--repeats N]

1. im2col convolution of 64 × 32 × 28 × 28 images with 3 × 3 kernels (32 outputs, padding 1, float32) against torch's
   conv2d, both on one thread: the median of interleaved pairs' ratios of CPU time. Bound: 5.
2. PolynomialClassifier(2) on 10,000 × 10 points: separable ones, ones whose classes noise mixes along the surface,
   and random labels. CPU seconds of one fit. Bound: 5.
"""

import argparse
import platform
import statistics
import time

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch.nn import functional as F

from depthscale.foundations import PolynomialClassifier
from depthscale.foundations.convolution import convolve


def seconds(job):
    began = time.process_time()
    job()
    return time.process_time() - began


def convolution(repeats):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 32, 28, 28)).astype(np.float32)
    weight = rng.normal(size=(32, 32, 3, 3)).astype(np.float32)
    tx, tw = torch.from_numpy(x), torch.from_numpy(weight)
    off = np.abs(convolve(x, weight, padding=1) - F.conv2d(tx, tw, padding=1).numpy()).max()
    ours, theirs = [], []
    for _ in range(repeats):
        ours.append(seconds(lambda: convolve(x, weight, padding=1)))
        theirs.append(seconds(lambda: F.conv2d(tx, tw, padding=1)))
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    print(
        f"convolution 64 x 32 x 28 x 28, 3 x 3: {1e3 * statistics.median(ours):.1f} ms by hand, "
        f"{1e3 * statistics.median(theirs):.1f} ms by torch, ratio {ratio:.2f} (median of {repeats} pairs; bound 5); "
        f"largest difference {off:.1e}"
    )


def classifier():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (10_000, 10))
    i, j = np.triu_indices(10)
    surface = x[:, i] * x[:, j] @ rng.normal(size=len(i)) + x @ rng.normal(size=10)
    cases = {
        "separable": surface > 0,
        "noisy": surface + 0.1 * surface.std() * rng.normal(size=len(x)) > 0,
        "random labels": rng.integers(0, 2, len(x)) > 0,
    }
    for name, y in cases.items():
        model = PolynomialClassifier(2)
        took = seconds(lambda m=model, t=y: m.fit(x, t))
        proof = model.certificates_[0]
        said = f"margin {model.margins_[0]:.2g}" if proof is None else str(proof)
        print(f"polynomial classifier, {name}: {took:.2f} s (bound 5), accuracy {model.score(x, y):.4f}; {said}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=21)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    print(f"{platform.machine()}, torch {torch.__version__}, NumPy {np.__version__}, one thread, CPU time")
    with threadpool_limits(1):
        convolution(repeats)
        classifier()


if __name__ == "__main__":
    main()
