"""Tensors for choices: orthogonal matrices over what a layer's input holds, spread over pairs and kernels.

Every weight has a generator of its own, by seed and name. While a batch of data passes, each weight in turn is
divided by what its output is longer than was chosen, as in LSUV (Mishkin & Matas 2016), so that what data, pools and
concatenations do to lengths is accounted for.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from depthscale.build.sampling import draw
from depthscale.diagnose.pairs import Segments, centre, centred, is_odd, linearised, pairing
from depthscale.diagnose.plan import Choice, is_delta
from depthscale.diagnose.structure import Function, Site, Structure
from depthscale.graph import Graph, Op, ParameterSpec, laws, ops
from depthscale.graph.laws import Fans

if TYPE_CHECKING:
    from depthscale.capture import Capture


def weight(site: Site, choice: Choice, shape: Sequence[int], seed: int) -> Tensor:
    """The weight of a choice, of PyTorch's shape for the layer, in single precision."""
    op = site.node.op
    if getattr(op, "groups", 1) != 1:
        return _grouped(tuple(shape), seed, site.name)
    turned = isinstance(op, ops.ConvTranspose)
    rows, columns = (shape[1], shape[0]) if turned else (shape[0], shape[1])
    kernel = tuple(shape[2:])
    taps = math.prod(kernel)
    outs = rows // 2 if choice.writes else rows
    ins = sum(n // 2 if f else n for f, n in choice.reads)
    if is_delta(site) or turned or taps == 1:
        matrix = _orthogonal(outs, ins, seed, site.name)  # (outs, ins)
        spread = _spread(matrix, choice.reads, choice.writes)
        if taps == 1:
            full = spread.reshape(rows, columns, *kernel)
        elif turned:
            full = spread.reshape(rows, columns, *[1] * len(kernel)).expand(rows, columns, *kernel)
        else:
            full = torch.zeros(rows, columns, *kernel)
            home = full
            for k in kernel:
                home = home.select(2, k // 2)
            home.copy_(spread)
    else:
        matrix = _orthogonal(outs, ins * taps, seed, site.name).reshape(outs, ins, taps)
        by_tap = [_spread(matrix[:, :, t], choice.reads, choice.writes) for t in range(taps)]
        full = torch.stack(by_tap, -1).reshape(rows, columns, *kernel)
    return (full.transpose(0, 1) if turned else full) * choice.gain


def _orthogonal(rows: int, columns: int, seed: int, name: str) -> Tensor:
    """A semi-orthogonal matrix that keeps an entry's variance: rows of norm 1, or columns of norm √(rows/columns)."""
    spec = ParameterSpec((rows, columns), laws.Orthogonal(math.sqrt(max(rows / columns, 1.0))), Fans(columns, rows))
    return draw(spec, seed, f"{name}.weight").float()


def _spread(matrix: Tensor, reads: Segments, writes: bool) -> Tensor:
    """A over the contents of the input, as a matrix over its entries: [A, −A] where these are mirrored pairs."""
    parts, at = [], 0
    for f, n in reads:
        k = n // 2 if f else n
        part = matrix[:, at : at + k]
        parts += [part, -part] if f else [part]
        at += k
    wide = torch.cat(parts, 1)
    return torch.cat((wide, -wide), 0) if writes else wide


def _grouped(shape: tuple[int, ...], seed: int, name: str) -> Tensor:
    fan = math.prod(shape[1:])
    return draw(ParameterSpec(shape, laws.LECUN, Fans(fan, shape[0])), seed, f"{name}.weight")


def bias(site: Site, choice: Choice, w: Tensor, seed: int) -> Tensor:
    """The bias: zero, or what takes a constant away, or normal where the critical point has one."""
    rows = w.shape[1] if isinstance(site.node.op, ops.ConvTranspose) else w.shape[0]
    if choice.opens:
        return torch.full((rows,), choice.opens)
    if choice.cancels:
        axes = tuple(i for i in range(w.ndim) if i != (1 if isinstance(site.node.op, ops.ConvTranspose) else 0))
        return -w.sum(axes) * choice.cancels
    if choice.sb2 > 0:
        spec = ParameterSpec((rows,), laws.Normal(math.sqrt(choice.sb2)), Fans(1, 1))
        return draw(spec, seed, f"{site.name}.bias")
    return torch.zeros(rows)


Seen = Callable[[Any, Any], Any]


def run(captured: "Capture", arguments: Sequence[Any], seen: Seen) -> None:
    """Runs a captured program on the module's own parameters, node by node; ``seen(fx node, value)`` may replace it.

    Buffers are copies, so that running statistics stay as they are; torch's generator is as it was afterwards.
    """
    program = captured.program
    module = program.module
    flat = [t for t in torch.utils._pytree.tree_leaves(arguments) if isinstance(t, Tensor)]
    data = dict(zip(program.inputs, flat, strict=False))
    where = next((t.device for t in (*flat, *module.parameters())), torch.device("cpu"))
    values: dict[Any, Any] = {}
    left = {node: len(node.users) for node in program.nodes}
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        for node in program.nodes:
            if node.op == "placeholder":
                values[node] = _placeholder(program, module, node.name, data)
            elif node.op == "call_function":
                args, kwargs = torch.fx.node.map_arg((node.args, dict(node.kwargs)), values.__getitem__)
                target: Any = node.target
                if getattr(kwargs.get("device"), "type", None) == "meta":  # made where the data was while recording
                    kwargs = {**kwargs, "device": where}
                out = target(*args, **kwargs)
                values[node] = seen(node, out)
                for used in node.all_input_nodes:
                    left[used] -= 1
                    if left[used] == 0:
                        values.pop(used, None)


def _placeholder(program: Any, module: Any, name: str, data: Mapping[str, Tensor]) -> Any:
    if name in program.parameters:
        return module.get_parameter(program.parameters[name]).detach()
    if name in program.buffers:
        return module.get_buffer(program.buffers[name]).detach().clone()
    if name in program.constants:
        return program.constants[name].clone()
    return data.get(name)


def calibrate(
    captured: "Capture", sites: Mapping[str, Site], choices: Mapping[str, Choice], arguments: Sequence[Any]
) -> dict[str, float]:
    """Scales each chosen weight, in order, so that its output has the chosen length; the factors by layer."""
    layers = {captured.exact[n]: n for n, c in choices.items() if c.q is not None and n in captured.exact}
    factors: dict[str, float] = {}

    def seen(node: Any, value: Any) -> Any:
        name = layers.get(node)
        if name is None or not isinstance(value, Tensor):
            return value
        choice, site = choices[name], sites[name]
        assert choice.q is not None  # those without were left out
        b = _bias_of(captured, choice, site, value)
        length = (
            float((value - b).double().square().mean()) if choice.sb2 > 0 else float(value.double().square().mean())
        )
        wanted = choice.q - choice.sb2 if choice.q > choice.sb2 else choice.q
        if not (math.isfinite(length) and length > 1e-30):
            return value
        factor = math.sqrt(wanted / length)
        factors[name] = factor
        captured.tensor(f"{choice.key}.weight").mul_(factor)
        if choice.sb2 > 0:
            return (value - b) * factor + b
        if choice.cancels and f"{choice.key}.bias" in captured.parameters:
            captured.tensor(f"{choice.key}.bias").mul_(factor)
        return value * factor

    run(captured, arguments, seen)
    return factors


def _bias_of(captured: "Capture", choice: Choice, site: Site, value: Tensor) -> Any:
    """A layer's bias in a shape that broadcasts against its output; 0 where there is none."""
    if f"{choice.key}.bias" not in captured.parameters:
        return 0.0
    b = captured.tensor(f"{choice.key}.bias")
    return b if isinstance(site.node.op, ops.Linear) else b.reshape(1, -1, *[1] * (value.ndim - 2))


# --- reading structure off a module ---------------------------------------------------------------------------------


def as_seen(captured: "Capture", arguments: Sequence[Any]) -> Graph:
    """The captured graph with what laws of elements cannot say written into it.

    Functions whose units lie in mirrored pairs become the linear maps that they are, at the lengths that ``arguments``
    give them; constants that biases take away are taken away (``pairs``).
    """
    graph = captured.graph
    s = Structure(graph)
    good = _in_pairs(captured, s)
    taken, readers = _taken_away(captured, s)
    if not good and not taken:
        return graph
    if good:
        graph = linearised(graph, good, _lengths(captured, good, arguments))
    return centred(graph, taken, readers) if taken else graph


def _lengths(captured: "Capture", functions: Mapping[str, Function], arguments: Sequence[Any]) -> dict[str, float]:
    """E[x²] of functions' arguments as the data give them."""
    wanted = {captured.exact[f.root]: f.root for f in functions.values() if f.root in captured.exact}
    found: dict[str, float] = {}

    def seen(node: Any, value: Any) -> Any:
        if node in wanted and isinstance(value, Tensor):
            found[wanted[node]] = float(value.double().square().mean())
        return value

    if arguments:
        run(captured, arguments, seen)
    return {name: min(max(q, 1e-8), 1e4) for name, q in found.items() if math.isfinite(q)}


def _in_pairs(captured: "Capture", s: Structure) -> dict[str, Function]:
    """Functions between layers of mirrored rows and mirrored columns."""
    graph = captured.graph
    names = [n for n, p in captured.parameters.items() if p.steps is not None and n.endswith(".weight")]
    if not any(_mirrored_rows(captured.tensor(n)) or _mirrored_rows(captured.tensor(n), True) for n in names):
        return {}

    def has(name: str) -> bool:
        source = captured.parameters.get(f"{s.key(name)}.weight")
        return source is not None and source.steps is not None

    found = pairing(s, lambda f: not is_odd(f), has)
    good = dict(found.functions)
    for name in s.sites:
        if not has(name):
            continue
        w, turned = captured.tensor(f"{s.key(name)}.weight"), isinstance(graph[name].op, ops.ConvTranspose)
        out = found.writes.get(name)
        if out is not None and not _mirrored_rows(w, turned):
            good.pop(out, None)
        for f in _unmirrored_columns(w, found.reads.get(name, ()), turned):
            good.pop(f, None)
    return good


def _taken_away(captured: "Capture", s: Structure) -> tuple[dict[str, Function], dict[str, Op]]:
    """Odd functions about a constant that the biases of all their readers take away; and those readers without bias."""
    functions: dict[str, Function] = {}
    readers: dict[str, Op] = {}
    for name, f in s.functions.items():
        if not is_odd(f) or abs(centre(f)) < 1e-6:
            continue
        users = list(s.users_of(name))
        if users and all(_takes(captured, s, u, centre(f)) for u in users):
            functions[name] = f
            readers |= {u: replace(s.graph[u].op, bias=laws.ZERO) for u in users}  # type: ignore[call-arg]
    return functions, readers


def _takes(captured: "Capture", s: Structure, name: str, constant: float) -> bool:
    key = s.key(name) if name in s.sites else ""
    b, w = (captured.parameters.get(f"{key}.{label}") for label in ("bias", "weight"))
    if b is None or w is None or b.steps is None or w.steps is None:
        return False
    weights, biases = captured.tensor(f"{key}.weight").detach(), captured.tensor(f"{key}.bias").detach()
    if weights.ndim < 2 or isinstance(s.graph[name].op, ops.ConvTranspose):
        return False
    wanted = -weights.flatten(1).sum(1) * constant
    return bool((biases - wanted).abs().max() <= 1e-4 * (1e-12 + wanted.abs().max()))


def _mirrored_rows(w: Tensor, turned: bool = False) -> bool:
    if w.ndim < 2:
        return False
    w = w.detach().transpose(0, 1) if turned else w.detach()
    half = w.shape[0] // 2
    return w.shape[0] % 2 == 0 and half > 0 and bool(torch.equal(w[:half], -w[half:]))


def _unmirrored_columns(w: Tensor, reads: Segments, turned: bool) -> list[str]:
    """Functions whose stretch of a layer's input does not meet mirrored columns."""
    w = w.detach() if turned else w.detach().transpose(0, 1)
    at, bad = 0, []
    for f, n in reads:
        part, k = w[at : at + n], n // 2
        if f and not torch.equal(part[:k], -part[k:]):
            bad.append(f)
        at += n
    return bad
