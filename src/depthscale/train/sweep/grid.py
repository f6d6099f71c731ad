"""The grid of a sweep: axes, cells, and groups of cells that are one graph and so train as one ensemble."""

import difflib
import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from depthscale.errors import TheoryError, TrainingError
from depthscale.graph import Graph, laws

MOST_CELLS = 1_000_000
_LOGARITHMIC = ("depth", "width", "lr")
_WHOLE = ("depth", "width", "seed")
_LOWEST = {"depth": 1, "width": 1, "seed": 0, "sw2": 0.0, "sb2": 0.0}


@dataclass(frozen=True)
class Cell:
    """One network of a sweep. ``residual`` is the scale of its residual branches, None for a plain network."""

    activation: str
    width: int
    depth: int
    residual: float | None
    sw2: float
    sb2: float
    lr: float
    seed: int

    @property
    def group(self) -> tuple[Any, ...]:
        """What cells must have in common to be trained together."""
        return (self.activation, self.width, self.depth, self.residual)


@dataclass(frozen=True)
class Grid:
    """The values of every axis; the sweep trains each combination.

    depth: hidden layers. width: their units. sw2, sb2: variances of weights (times fan-in) and biases. lr: learning
    rates. residual: scales of the branches of residual networks, None for plain ones. Raises TrainingError for an
    empty axis, values out of range, and more than a million cells.
    """

    activation: tuple[str, ...] = ("tanh",)
    width: tuple[int, ...] = (64,)
    depth: tuple[int, ...] = (5, 8, 11, 17, 26, 39, 58, 88, 133, 200)
    residual: tuple[float | None, ...] = (None,)
    sw2: tuple[float, ...] = (1.0, 2.0, 3.0, 4.0)
    sb2: tuple[float, ...] = (0.05,)
    lr: tuple[float, ...] = (0.01,)
    seed: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        for f in fields(self):
            values = getattr(self, f.name)
            if isinstance(values, str | int | float) or values is None:
                values = (values,)
            values = tuple(dict.fromkeys(values))
            if not values:
                raise TrainingError(f"expected at least one value of {f.name} to sweep over, got none")
            object.__setattr__(self, f.name, tuple(_checked(f.name, v) for v in values))
        if len(self) > MOST_CELLS:
            raise TrainingError(
                f"expected a grid of at most {MOST_CELLS:,} networks, got {len(self):,}; make it coarser"
            )

    @staticmethod
    def of(axes: Mapping[str, Any]) -> "Grid":
        """The grid of axes by name: values, or text such as "10:300:12" (see ``values``)."""
        known = [f.name for f in fields(Grid)]
        found: dict[str, Any] = {}
        for name, given in axes.items():
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"; did you mean {near[0]!r}?" if near else f"; the axes are {', '.join(known)}"
                raise TrainingError(f"there is no axis {name!r} to sweep over{hint}")
            found[name] = values(name, given) if isinstance(given, str) else given
        return Grid(**found)

    def __len__(self) -> int:
        return math.prod(len(getattr(self, f.name)) for f in fields(self))

    def cells(self) -> Iterator[Cell]:
        """Every combination; the seed changes fastest."""
        names = [f.name for f in fields(self)]
        for combination in itertools.product(*[getattr(self, name) for name in names]):
            given = dict(zip(names, combination, strict=True))
            yield Cell(**given)

    def groups(self) -> list[tuple[Cell, ...]]:
        """Cells that train together, the deepest first (the last to start should be the quickest)."""
        found: dict[tuple[Any, ...], list[Cell]] = {}
        for cell in self.cells():
            found.setdefault(cell.group, []).append(cell)
        return sorted((tuple(g) for g in found.values()), key=lambda g: -g[0].depth * g[0].width ** 2 * len(g))

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {f.name: list(getattr(self, f.name)) for f in fields(self)}


def _checked(name: str, value: Any) -> Any:
    if name == "activation":
        return _checked_activation(str(value))
    if name == "residual" and value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TrainingError(f"expected {name} to be finite numbers, got {value!r}")
    if name in _WHOLE:
        if value != int(value):
            raise TrainingError(f"expected {name} to be whole numbers, got {value!r}")
        value = int(value)
    elif not isinstance(value, float):
        value = float(value)
    low = _LOWEST.get(name)
    if low is not None and value < low:
        raise TrainingError(f"expected {name} of at least {low:g}, got {value:g}")
    if name == "lr" and value <= 0:
        raise TrainingError(f"expected lr above 0, got {value:g}")
    return value


def _checked_activation(name: str) -> str:
    from depthscale.graph.functions import canonical
    from depthscale.theory.resolve import activation, activation_names

    canonical(name, ())
    try:
        activation(name)
    except TheoryError:  # log, sqrt, neg, …: parts of networks, but nothing that theory could be laid over
        raise TrainingError(
            f"expected an activation that is a finite number for every input and known to theory "
            f"({', '.join(activation_names())}), got {name}"
        ) from None
    return name


_RANGE = re.compile(r"\s*([^:]+):([^:]+):(\d+)\s*\Z")


def values(name: str, text: str) -> tuple[Any, ...]:
    """The values that a text names: "1,2,4", or "low:high:n" (evenly in the logarithm for depth, width and lr).

    Raises TrainingError for anything else.
    """
    if name == "activation":
        return tuple(word.strip() for word in text.split(",") if word.strip())
    if name == "residual":
        words = [w.strip() for w in text.split(",") if w.strip()]
        return tuple(None if w.lower() in ("none", "plain") else _number(name, w) for w in words)
    if (match := _RANGE.match(text)) is None:
        found: Sequence[float] = [_number(name, w) for w in text.split(",") if w.strip()]
    else:
        low, high, count = _number(name, match[1]), _number(name, match[2]), int(match[3])
        if count < 1 or (count == 1 and low != high) or high < low:
            raise TrainingError(f"expected {name} as low:high:number with a rising range, got {text!r}")
        if name in _LOGARITHMIC and low <= 0:
            raise TrainingError(f"expected {name} above 0, got {low:g}")
        found = _spaced(low, high, count, logarithmic=name in _LOGARITHMIC)
        if name in _WHOLE:
            return tuple(dict.fromkeys(round(v) for v in found))
    return tuple(found)


def _spaced(low: float, high: float, count: int, *, logarithmic: bool) -> list[float]:
    if count == 1:
        return [low]
    share = [k / (count - 1) for k in range(count)]
    if logarithmic:
        return [low * (high / low) ** s for s in share]
    # as one would write them: ends exact, no 2.3000000000000003
    return [float(f"{low + (high - low) * s:.10g}") for s in share]


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise TrainingError(
            f"expected {name} as numbers with commas between, or low:high:number, got {text.strip()!r}"
        ) from None
    return int(value) if name in _WHOLE and value == int(value) else value


def network(cell: Cell, input_shape: Sequence[int], outputs: int) -> Graph:
    """The fully connected network of a cell: every layer's weights and biases drawn with its sw2 and sb2."""
    from depthscale import zoo

    weight = laws.variance(cell.sw2)
    return zoo.mlp(
        (math.prod(input_shape), *[cell.width] * cell.depth, outputs),
        cell.activation,
        input_shape=tuple(input_shape),
        residual=cell.residual is not None,
        branch_scale=cell.residual,
        weight=weight,
        first=weight,
        bias=laws.Normal(math.sqrt(cell.sb2)),
    )
