"""Units of a layer seen from outside: what each costs, and tensors over weights summed up unit by unit."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from depthscale.graph import Graph, all_parameters
from depthscale.graph.cost import multiply_adds
from depthscale.grow.spaces import Spaces

Array = NDArray[np.float64]


@dataclass(frozen=True)
class UnitCost:
    """What one unit of a layer's space is: parameters, and multiply-adds of a forward pass of one example."""

    parameters: float
    multiply_adds: float


class Units:
    """The free layers of a graph with their spaces; one object serves all questions about one graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.spaces = graph, Spaces(graph)
        self.layers = self.spaces.free()
        self.specs = all_parameters(graph)
        self._shapes = graph.shapes()

    def size(self, layer: str) -> int:
        """Units of the layer."""
        return self.spaces.space(self.spaces.of(layer)).size

    def groups(self, layer: str) -> int:
        """Groups that the layer's units come in."""
        return self.spaces.space(self.spaces.of(layer)).groups

    def grows(self, layer: str) -> bool:
        """Whether units can be added that leave the function as it is."""
        return not self.spaces.space(self.spaces.of(layer)).even

    def cost(self, layer: str) -> UnitCost:
        """What one unit costs, at the widths of now."""
        at = self.spaces.of(layer)
        space = self.spaces.space(at)
        parameters = adds = 0.0
        for name in dict.fromkeys([*space.makers, *space.keepers, *space.readers]):
            whole = sum(s.count for n, s in self.specs.items() if n.rpartition(".")[0] == name)
            work = self._adds(name)
            share = 1.0
            if name in space.readers:
                read = self._share(self.spaces.read[name], at)
                weight = self.specs[f"{name}.weight"].count
                parameters += weight * read / space.size
                adds += work * read / space.size
            elif name in space.keepers:
                share = self._share(self.spaces.kept[name], at)
            if name in space.makers or name in space.keepers:
                parameters += whole * share / space.size
                adds += work * share / space.size
        return UnitCost(parameters, adds)

    def _share(self, label: tuple[tuple[int, int], ...], at: int) -> float:
        sizes = [self.spaces.space(s).size * r for s, r in label]
        return sum(n for n, (s, _) in zip(sizes, label, strict=True) if s == at) / sum(sizes)

    def _adds(self, name: str) -> float:
        node = self.graph[name]
        return multiply_adds(node.op, self._shapes[name], *[self._shapes[i] for i in node.inputs])

    def heard(self, layer: str, tensors: dict[str, Tensor]) -> Array:
        """Sums of tensors shaped like the readers' weights (by full name), for every unit of the layer."""
        at = self.spaces.of(layer)
        space = self.spaces.space(at)
        total = np.zeros(space.size)
        for reader in space.readers:
            value = tensors[f"{reader}.weight"]
            groups = getattr(self.graph[reader].op, "groups", 1)
            # (out, in/groups, …) → (in,)
            by_entry = value.reshape(groups, -1, value.shape[1], *value.shape[2:]).transpose(1, 2)
            by_entry = by_entry.reshape(groups * value.shape[1], -1) if groups > 1 else value.transpose(0, 1).flatten(1)
            total += self._by_unit(self.spaces.read[reader], at, by_entry.sum(1))
        return total

    def made(self, layer: str, tensors: dict[str, Tensor]) -> Array:
        """Sums of tensors shaped like the makers' weights, for every unit of the layer."""
        space = self.spaces.space(self.spaces.of(layer))
        total = np.zeros(space.size)
        for maker in space.makers:
            total += tensors[f"{maker}.weight"].flatten(1).sum(1).double().cpu().numpy()
        return total

    def entries(self, layer: str, reader: str, values: Tensor) -> Array:
        """Values along the axis that a reader reads, summed up for every unit of the layer."""
        return self._by_unit(self.spaces.read[reader], self.spaces.of(layer), values)

    def readers(self, layer: str) -> list[str]:
        """The layers that read the units."""
        return self.spaces.space(self.spaces.of(layer)).readers

    def makers(self, layer: str) -> list[str]:
        """The layers that make the units."""
        return self.spaces.space(self.spaces.of(layer)).makers

    def _by_unit(self, label: tuple[tuple[int, int], ...], at: int, values: Tensor) -> Array:
        size = self.spaces.space(at).size
        _, unit = self.spaces.entries(label, at, np.arange(size))
        own = unit >= 0
        summed = np.bincount(unit[own], weights=values.double().cpu().numpy()[own], minlength=size)
        return np.asarray(summed, dtype=np.float64)

    def together(self, layer: str, scores: Array) -> Array:
        """Scores of units that go together (one of each group), for every such set."""
        return np.asarray(scores.reshape(self.groups(layer), -1).sum(0), dtype=np.float64)


def scores_of(value: Tensor) -> Tensor:
    """Squares in double precision."""
    return value.detach().double().square()
