"""A module's forward as a program, by running it once on the meta device under a recorder of ATen operations.

The operations are those that ``torch.export`` records (before autograd takes them apart: linear, conv2d, …), in a
hundredth of its time: no shapes are symbolic, nothing is copied, no guards are collected. What this cannot take
(functorch inside a forward, kernels that meta lacks) raises, and ``torch.export`` is asked instead.
"""

import operator
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._dispatch.python import enable_python_dispatcher
from torch.fx import Graph as FxGraph, Node as FxNode
from torch.fx.experimental.proxy_tensor import ProxyTorchDispatchMode
from torch.nn.modules import module as hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from depthscale.capture.program import Program, training, words
from depthscale.capture.uncompiled import uncompiled
from depthscale.capture.unrolled import UNROLLED

# Functions whose result is in all but its values like their first argument. Their kernels need not run without memory:
# those of normalisation and of some activations are slow, and load a computer algebra system for symbolic shapes.
_ALIKE = words(
    "batch_norm layer_norm group_norm instance_norm dropout feature_dropout relu relu6 gelu silu mish elu selu celu "
    "leaky_relu sigmoid tanh hardswish hardsigmoid hardtanh softplus softsign"
)
_ZEROS = ("aten.zeros.", "aten.zeros_like.", "aten.new_zeros.")
_SAME = ("aten.detach.", "aten.alias.", "aten.select.", "aten.expand.", "aten.unsqueeze.", "aten.view.")
_alias = torch.ops.aten.alias.default


def _alike(func: Any, args: Any, kwargs: Any) -> Tensor | None:
    """What one of these makes of a tensor without memory; None where its kernel has to be asked."""
    if not args or str(func._schema.name).rpartition("::")[2] not in _ALIKE:
        return None
    x = args[0]
    plain = isinstance(x, Tensor) and x.device.type == "meta" and x.is_floating_point() and x.is_contiguous()
    if not plain or any(isinstance(t, Tensor) and t.dtype != x.dtype for t in tree_leaves((args, kwargs))):
        return None
    out: Tensor = _alias(x)
    return out


class Tape(ProxyTorchDispatchMode):
    """Records every operation above autograd. Only torch's own proxy mode is let in there, hence the base class."""

    def __init__(self) -> None:
        TorchDispatchMode.__init__(self, torch._C.DispatchKey.PreDispatch)  # type: ignore[no-untyped-call]
        self.pre_dispatch = True
        self.graph = FxGraph()
        self.placeholders: list[FxNode] = []
        self.calls: list[FxNode] = []
        self.known: dict[int, FxNode] = {}  # by identity of the tensor
        self.alive: list[Tensor] = []  # identities must not be used again
        self.thin: dict[int, Tensor] = {}
        self.constants: dict[str, Tensor] = {}
        self.paths: list[str] = []
        self.depth = 0  # operations that are being run: what they are made of is not recorded

    def __enter__(self) -> "Tape":
        TorchDispatchMode.__enter__(self)  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        TorchDispatchMode.__exit__(self, *error)  # type: ignore[no-untyped-call]

    def placeholder(self, name: str, value: Tensor) -> FxNode:
        """A tensor that comes from outside."""
        node = self.graph.create_node("placeholder", name, name=name)
        node.meta["val"] = value
        self.placeholders.append(node)
        self._keep(value, node)
        return node

    def _keep(self, value: Tensor, node: FxNode) -> None:
        self.known[id(value)] = node
        self.alive.append(value)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        for t in tensors:
            if id(t) not in self.known:
                node = self.placeholder(f"constant_{len(self.constants)}", t)
                self.constants[node.name] = t
        if any(t.device.type == "meta" for t in tensors):
            args, kwargs = tree_map(self._thin, (args, kwargs))
        if func in UNROLLED:  # recorded as the operations it is made of
            with self:
                return UNROLLED[func](self._is_zero, *args, **kwargs)
        self.depth += 1
        try:
            out = _alike(func, args, kwargs)
            out = func(*args, **kwargs) if out is None else out
        finally:
            self.depth -= 1
        if any(isinstance(t, Tensor) for t in tree_leaves(out)):
            self._record(func, args, kwargs, out)
        return out

    def _thin(self, value: Any) -> Any:
        """The same tensor without memory, for operations with tensors that have none."""
        if not isinstance(value, Tensor) or value.device.type == "meta":
            return value
        if id(value) not in self.thin:
            self.thin[id(value)] = thin = torch.empty_like(value, device="meta")
            self._keep(thin, self.known[id(value)])
        return self.thin[id(value)]

    def _is_zero(self, value: Tensor) -> bool:
        """Whether a tensor was made as zeros while recording."""
        node = self.known[id(value)]
        while str(node.target).startswith(_SAME):
            node = node.all_input_nodes[0]
        return str(node.target).startswith(_ZEROS)

    def _record(self, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        def node_of(value: Any) -> Any:
            return self.known[id(value)] if isinstance(value, Tensor) else value

        given, named = tree_map(node_of, args), tree_map(node_of, kwargs)
        node = self._call(func, tuple(given), named, out)
        if isinstance(out, Tensor):
            self._keep(out, node)
            return
        for i, value in enumerate(out):
            if isinstance(value, Tensor):
                self._keep(value, self._call(operator.getitem, (node, i), {}, value))

    def _call(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> FxNode:
        node = self.graph.create_node("call_function", func, args, kwargs)
        node.meta["val"] = out
        if self.paths:
            node.meta["nn_module_stack"] = {"here": (self.paths[-1], None)}
        self.calls.append(node)
        return node


class Below(TorchDispatchMode):
    """Sees what passes the tape by: operations that make tensors out of nothing."""

    def __init__(self, tape: Tape) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tape = tape

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.tape.depth:
            return func(*args, **(kwargs or {}))
        return self.tape.__torch_dispatch__(func, types, args, kwargs)


@contextmanager
def _following(tape: Tape, module: nn.Module) -> Iterator[None]:
    """The tape knows which module is running."""
    names = {id(m): name for name, m in module.named_modules()}

    def enter(part: nn.Module, _: Any) -> None:
        tape.paths.append(names.get(id(part), tape.paths[-1] if tape.paths else ""))

    def leave(part: nn.Module, _: Any, __: Any) -> None:
        tape.paths.pop()

    handles = [
        hooks.register_module_forward_pre_hook(enter),
        hooks.register_module_forward_hook(leave, always_call=True),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@uncompiled()
def record(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, train: bool = True) -> Program:
    """The program of a module on an example; raises whatever running it without memory raises."""
    tape = Tape()
    own: dict[str, Tensor] = {}
    named: tuple[dict[str, str], dict[str, str]] = ({}, {})
    for kind, tensors, table in (
        ("p", module.named_parameters(), named[0]),
        ("b", module.named_buffers(), named[1]),
    ):
        for name, t in tensors:
            own[name] = thin = torch.empty_like(t, device="meta").requires_grad_(t.requires_grad)
            table[tape.placeholder(f"{kind}_{name.replace('.', '_')}", thin).name] = name
    inputs: dict[str, Tensor] = {}

    def feed(path: str, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        thin = torch.empty_like(value, device="meta")
        inputs[tape.placeholder(path, thin).name] = value
        return thin

    names = _argument_names(module, len(args))
    given = tuple(tree_map(lambda v, n=n: feed(n, v), a) for n, a in zip(names, args, strict=True))
    keyed = {k: tree_map(lambda v, k=k: feed(k, v), a) for k, a in kwargs.items()}
    with (
        training(module, train),
        torch.random.fork_rng(devices=[]),
        _following(tape, module),
        enable_python_dispatcher(),
        Below(tape),
        tape,
    ):
        out = torch.func.functional_call(module, own, given, keyed)
    leaves = [t for t in tree_leaves(_plain(out)) if isinstance(t, Tensor)]
    outputs = tuple(tape.known[id(t)] for t in leaves if id(t) in tape.known)
    return Program((*tape.placeholders, *tape.calls), outputs, named[0], named[1], tape.constants, inputs, module)


def _plain(out: Any) -> Any:
    """Outputs that are mappings or data classes as their values."""
    if hasattr(out, "to_tuple"):
        return out.to_tuple()
    return vars(out) if hasattr(out, "__dataclass_fields__") else out


def _argument_names(module: nn.Module, count: int) -> list[str]:
    """What the forward calls its first arguments."""
    import inspect

    try:
        known = [p.name for p in inspect.signature(module.forward).parameters.values() if p.kind < p.KEYWORD_ONLY]
    except (TypeError, ValueError):
        known = []
    named = [n for n in known if n not in ("args", "self")]
    return [named[i] if i < len(named) else f"input{i}" for i in range(count)]


__all__ = ["Tape", "record"]
