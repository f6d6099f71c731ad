"""The dense oracle: the whole matrix E[x_i x_j] that a state stands for, and linear ops applied to it."""

import numpy as np
import torch

from depthscale.build import build
from depthscale.graph import Builder
from depthscale.graph.op import Op
from depthscale.theory.axes import Axis, class_map, describe
from depthscale.theory.moments import State, state


def matrix_of(x: State) -> np.ndarray:
    """E[x_i x_j] of all pairs of elements, (N, N), elements in C order."""
    maps = [class_map(a) for a in x.axes]
    shape = x.shape
    index = []
    for k, m in enumerate(maps):
        lead = [1] * (2 * len(shape))
        lead[k], lead[k + len(shape)] = shape[k], shape[k]
        index.append(m.reshape(lead))
    n = int(np.prod(shape))
    return x.q[tuple(np.broadcast_arrays(*index))].reshape(n, n)


def classes_of(matrix: np.ndarray, axes: tuple[Axis, ...]) -> np.ndarray:
    """The average of a matrix over each class of pairs; nan for classes without pairs."""
    shape = tuple(a.n for a in axes)
    full = matrix.reshape(*shape, *shape)
    flat = np.zeros(full.shape, dtype=np.int64)
    sizes = tuple(a.classes for a in axes)
    for k, a in enumerate(axes):
        lead = [1] * full.ndim
        lead[k], lead[k + len(shape)] = a.n, a.n
        flat = flat * sizes[k] + class_map(a).reshape(lead)
    total = np.bincount(flat.ravel(), weights=full.ravel(), minlength=int(np.prod(sizes)))
    count = np.bincount(flat.ravel(), minlength=int(np.prod(sizes)))
    with np.errstate(invalid="ignore"):
        return (total / count).reshape(sizes)


def random_state(axes: tuple[Axis, ...], rng: np.random.Generator) -> State:
    """A state with positive, decreasing classes: same entries largest."""
    q = np.ones((1,) * len(axes))
    for k, a in enumerate(axes):
        row = np.array([1.0 + 0.3 * rng.random() if d == 0 else rng.uniform(0.1, 0.6) for (_, _, d), _ in describe(a)])
        q = q * row.reshape([-1 if i == k else 1 for i in range(len(axes))])
    q = q * (1 + 0.1 * rng.random(q.shape))
    mean = np.full(len(next((a.parts for a in axes if a.parts), ())) or (), 0.0)
    return state(axes, q, mean if any(a.parts for a in axes) else 0.0)


def linear_matrix(op: Op, shape: tuple[int, ...]) -> np.ndarray:
    """The matrix of a linear op without parameters, by putting every unit vector through the built module."""
    b = Builder()
    graph = b.graph(b.input(*shape[1:]).then(op))
    module = build(graph, 0, dtype=torch.float64)
    n = int(np.prod(shape))
    columns = [module(torch.eye(n, dtype=torch.float64)[i].reshape(shape)).reshape(-1) for i in range(n)]
    return torch.stack(columns, dim=1).detach().numpy()
