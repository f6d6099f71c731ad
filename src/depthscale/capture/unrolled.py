"""Recurrent layers step by step: torch has one operation for all of an ``nn.RNN``, ``nn.GRU`` or ``nn.LSTM`` (or cell).

Recorded as what they compute (Elman 1990; Cho et al. 2014; Hochreiter & Schmidhuber 1997, with the gates in torch's
order), they are linear maps, gates and sums, for which there are rules, and the weights of every step are one.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

State = tuple[Tensor | None, ...]  # None: zeros, as torch starts with


class Gate(NamedTuple):
    """What one gate (or the candidate) of a layer reads the step's input and the last output with."""

    inner: Tensor  # (hidden, features)
    again: Tensor  # (hidden, outputs)
    inner_bias: Tensor | None = None
    again_bias: Tensor | None = None


class Weights(NamedTuple):
    """One direction of one layer. ``onto``: a projection of an LSTM's output (proj_size), if there is one."""

    gates: tuple[Gate, ...]
    onto: Tensor | None


Step = Callable[[Weights, Tensor, State], State]
Unrolled = Callable[..., Any]


def _split(params: Sequence[Tensor], biases: bool, directions: int, gates: int) -> list[Weights]:
    """The weights of every direction of every layer, gate by gate: each gate's are a layer with laws of their own."""
    each, found = len(params) // directions, []
    for start in range(0, len(params), each):
        own = list(params[start : start + each])
        stacked, onto = own[: 4 if biases else 2], own[4 if biases else 2 :]
        rows = zip(*(t.chunk(gates) if gates > 1 else (t,) for t in stacked), strict=True)
        found.append(Weights(tuple(Gate(*r) for r in rows), onto[0] if onto else None))
    return found


def _again(gate: Gate, h: Tensor | None) -> Tensor | None:
    return gate.again_bias if h is None else F.linear(h, gate.again, gate.again_bias)


def _plus(x: Tensor, y: Tensor | None) -> Tensor:
    return x if y is None else x + y


def _sum(gate: Gate, x: Tensor, h: Tensor | None) -> Tensor:
    return _plus(F.linear(x, gate.inner, gate.inner_bias), _again(gate, h))


def _elman(function: Callable[[Tensor], Tensor]) -> Step:
    def step(w: Weights, x: Tensor, state: State) -> State:
        return (function(_sum(w.gates[0], x, state[0])),)

    return step


def _gru(w: Weights, x: Tensor, state: State) -> State:
    (h,), (reset, update, new) = state, w.gates
    z, again = torch.sigmoid(_sum(update, x, h)), _again(new, h)
    again = None if again is None else torch.sigmoid(_sum(reset, x, h)) * again
    n = torch.tanh(_plus(F.linear(x, new.inner, new.inner_bias), again))
    # torch computes n + z (h − n), where n cancels in part: two ways for its gradient
    return (_plus((1 - z) * n, None if h is None else z * h),)


def _lstm(w: Weights, x: Tensor, state: State) -> State:
    (h, c), (into, forget, new, out) = state, w.gates
    fresh = torch.sigmoid(_sum(into, x, h)) * torch.tanh(_sum(new, x, h))
    c = fresh if c is None else torch.sigmoid(_sum(forget, x, h)) * c + fresh
    h = torch.sigmoid(_sum(out, x, h)) * torch.tanh(c)
    return (h if w.onto is None else F.linear(h, w.onto)), c


def _along(step: Step, w: Weights, x: Sequence[Tensor], state: State, backwards: bool) -> tuple[list[Tensor], State]:
    """One direction of one layer over steps x, each (B, features): its outputs (B, outputs), and its last state."""
    out: list[Tensor] = []
    for at in reversed(x) if backwards else x:
        state = step(w, at, state)
        assert state[0] is not None
        out.append(state[0])
    return out[::-1] if backwards else out, state


def _layers(
    step: Step,
    gates: int,
    x: Tensor,
    start: State,
    params: Sequence[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> Iterator[Tensor]:
    """The outputs of the last layer, and the last states of all, as torch's operations return them."""
    ways = 2 if bidirectional else 1
    weights = _split(params, has_biases, ways * num_layers, gates)
    along = 1 if batch_first else 0
    xs = [x.select(along, t) for t in range(x.shape[along])]  # steps stay apart: each depends on what came before alone
    ends: list[State] = []
    for layer in range(num_layers):
        outs = []
        for way in range(ways):
            k = layer * ways + way
            out, end = _along(
                step, weights[k], xs, tuple(None if s is None else s[k] for s in start), backwards=way == 1
            )
            outs.append(out)
            ends.append(end)
        xs = outs[0] if ways == 1 else [torch.cat(both, -1) for both in zip(*outs, strict=True)]
        if dropout and train and layer < num_layers - 1:
            xs = [F.dropout(t, dropout) for t in xs]
    yield torch.stack(xs, along)
    for states in zip(*ends, strict=True):
        yield torch.stack([s for s in states if s is not None])


def _start(given: Any, zero: Callable[[Tensor], bool]) -> State:
    several = (given,) if isinstance(given, Tensor) else tuple(given)
    return tuple(None if zero(s) else s for s in several)


def _layer(step: Step, gates: int) -> Unrolled:
    def run(zero: Callable[[Tensor], bool], x: Tensor, start: Any, *rest: Any) -> tuple[Tensor, ...]:
        return tuple(_layers(step, gates, x, _start(start, zero), *rest))

    return run


def _cell(step: Step, gates: int) -> Unrolled:
    def run(zero: Callable[[Tensor], bool], x: Tensor, start: Any, *params: Tensor | None) -> Any:
        own = [p for p in params if p is not None]
        (w,) = _split(own, len(own) == 4, 1, gates)
        state = step(w, x, _start(start, zero))
        return state[0] if isinstance(start, Tensor) else state

    return run


aten = torch.ops.aten
# What torch's operations compute, by them. The first argument: whether a tensor is zeros, for those are left out.
UNROLLED: dict[Any, Unrolled] = {
    aten.rnn_tanh.input: _layer(_elman(torch.tanh), 1),
    aten.rnn_relu.input: _layer(_elman(torch.relu), 1),
    aten.gru.input: _layer(_gru, 3),
    aten.lstm.input: _layer(_lstm, 4),
    aten.rnn_tanh_cell.default: _cell(_elman(torch.tanh), 1),
    aten.rnn_relu_cell.default: _cell(_elman(torch.relu), 1),
    aten.gru_cell.default: _cell(_gru, 3),
    aten.lstm_cell.default: _cell(_lstm, 4),
}
