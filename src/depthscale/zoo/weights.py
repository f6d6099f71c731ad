"""Weights of torchvision and timm for our graphs: which of their tensors is which of ours.

Both sides list their tensors in the order in which layers were made. Tensors of one role (weight, bias, running
mean, running variance) and one shape therefore correspond in order, and that is the whole mapping: no table of names.
The one exception is a layer that is made before its neighbours and used behind them (``LATE``). Shapes are compared
without axes of size one behind the second, so that a 1 × 1 convolution may stand for a linear layer.

Pure renaming: tensors pass through as they are (anything with ``shape`` and ``reshape``), nothing is copied or drawn.
"""

import re
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from typing import Any

from depthscale.errors import GraphError
from depthscale.graph import Graph, all_parameters, ops
from depthscale.zoo.registry import get

# a shortcut's projection, which timm makes first in some blocks but we, like torchvision, last
LATE = re.compile(r"^(.*\.)downsample\.")

_ROLES = ("weight", "bias", "running_mean", "running_var")
_Kind = tuple[str, tuple[int, ...]]


def load_torchvision(network: str | Graph, state: Mapping[str, Any], **arguments: Any) -> dict[str, Any]:
    """The state dict of our network's module, made of torchvision's for the same network.

    ``network`` is a name of the zoo (with ``arguments`` as for ``get``) or a graph. Raises GraphError that names the
    tensors for which there is no counterpart, on either side.
    """
    return _load(network, state, arguments)


def load_timm(network: str | Graph, state: Mapping[str, Any], **arguments: Any) -> dict[str, Any]:
    """The state dict of our network's module, made of timm's for the same network; as ``load_torchvision``."""
    return _load(network, state, arguments)


def _load(network: str | Graph, state: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    graph = get(network, **arguments) if isinstance(network, str) else network
    given: dict[_Kind, deque[str]] = defaultdict(deque)
    for name in _in_order(state):
        if not name.endswith("num_batches_tracked"):
            given[_kind(name, tuple(state[name].shape))].append(name)
    out: dict[str, Any] = {}
    for name, shape in _tensors(graph).items():
        waiting = given[_kind(name, shape)]
        if not waiting:
            raise GraphError(f"expected a tensor for {name!r} of shape {shape}, got none left of that kind and shape")
        out[name] = state[waiting.popleft()].reshape(shape)
    if left := [name for names in given.values() for name in names]:
        raise GraphError(
            f"expected a place for every tensor, got none for {left[0]!r} of {tuple(state[left[0]].shape)}"
        )
    return out


def _tensors(graph: Graph) -> dict[str, tuple[int, ...]]:
    """Shapes of a graph's parameters and running statistics, in order."""
    shapes = graph.shapes()
    out = {name: spec.shape for name, spec in all_parameters(graph).items()}
    for node in graph.nodes:
        if isinstance(node.op, ops.BatchNorm):
            for statistic in ("running_mean", "running_var"):
                out[f"{node.name}.{statistic}"] = (shapes[node.name][1],)
    return out


def _kind(name: str, shape: tuple[int, ...]) -> _Kind:
    leaf = name.rpartition(".")[2]
    role = next((r for r in _ROLES if leaf.endswith(r)), "weight")  # class_token, pos_embed: weights by another name
    while len(shape) > 2 and shape[-1] == 1:
        shape = shape[:-1]
    return role, shape


def _in_order(names: Iterable[str]) -> list[str]:
    """The names with those of late modules moved behind the rest of their block."""
    out: list[str] = []
    held: list[str] = []
    block = ""
    for name in names:
        if held and not name.startswith(block):
            out += held
            held = []
        late = LATE.match(name)
        if late:
            block = late[1]
            held.append(name)
        else:
            out.append(name)
    return out + held
