"""Captures without torch's compiler: nothing of it is loaded, answers are torch's own, and all is put back."""

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn
from torch.fx.experimental import symbolic_shapes
from torch.nn import functional as F

from depthscale.capture import tape, uncompiled

HEAVY = ("torch._dynamo", "torch._inductor", "sympy", "torch.fx.experimental.symbolic_shapes")


def _python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_capture_loads_neither_the_compiler_nor_algebra() -> None:
    code = f"""
import sys
from torch import nn
from depthscale.capture.recorder import recording, blueprint
from depthscale.capture.trace import trace
import torch
with recording() as recorder:
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.GELU(), nn.MaxPool2d(2),
                        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(8), nn.Hardswish(), nn.Linear(8, 2))
plan = blueprint(net, recorder)
found = trace(plan.module, torch.randn(4, 3, 8, 8), laws=plan.laws, values=plan.values)
print(len(found.graph.nodes), [m for m in {HEAVY!r} if m in sys.modules])
import torch._dynamo, sympy.core, torch.fx.experimental.symbolic_shapes as shapes
print(sympy.Symbol("x") + 1, isinstance(sympy.core, type(sys)), shapes.guard_or_false.__module__)
print(torch.compile(lambda x: x + 1, backend="eager")(torch.ones(1)).item())
"""
    assert _python(code).splitlines() == ["10 []", "x + 1 True torch.fx.experimental.symbolic_shapes", "2.0"]


def test_what_is_not_known_of_numbers_is_asked_of_the_modules_themselves() -> None:
    code = """
import sys
import torch
from depthscale.capture.uncompiled import StandIn, uncompiled
with uncompiled():
    import sympy
    held = sympy
    assert isinstance(sympy, StandIn) and not isinstance(1, sympy.Basic) and len(sys.modules["sympy"].__path__) == 0
    from sympy.core import expr
    import sympy
    assert not isinstance(sympy, StandIn) and sys.modules["sympy.core"] is sympy.core and expr is sympy.core.expr
    assert sympy.core.__spec__.origin and held.Basic is sympy.Basic and isinstance(sympy.Symbol("x"), held.Basic)
    from torch.fx.experimental.symbolic_shapes import ShapeEnv
print(ShapeEnv.__name__, [m for m in sys.meta_path if type(m).__module__.startswith("depthscale")])
"""
    assert _python(code) == "ShapeEnv []"


VALUES: dict[str, list[tuple[Any, ...]]] = {
    "sym_and": [(True,), (True, False), (True, True, True), (False, True)],
    "sym_or": [(False,), (True, False), (False, False), (False, False, True)],
    "sym_eq": [(3, 3), (3, 4), ((1, 2), [1, 2]), ([1, 2], (1, 3)), ((1,), (1, 2)), ((), ())],
    "guard_int": [(4,)],
    "guarding_hint_or_throw": [(4,)],
    "is_nested_int": [(4,)],
    "has_guarding_hint": [(4,)],
    **{name: [(True,), (False,)] for name in uncompiled._GUARDS},
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", sorted(VALUES))
def test_answers_are_those_of_torch(name: str) -> None:
    answer, own = uncompiled._ANSWERS[uncompiled._SHAPES][name], getattr(symbolic_shapes, name, None)
    if own is None:
        pytest.skip(f"this torch has no {name}")
    for values in VALUES[name]:
        assert answer(*values) == own(*values)
        assert type(answer(*values)) is type(own(*values))


def test_every_answer_is_tested_and_symbols_are_left_to_torch() -> None:
    known = uncompiled._ANSWERS[uncompiled._SHAPES]
    assert set(known) == {*VALUES, "free_unbacked_symbols"}
    assert not known["free_unbacked_symbols"](torch.ones(2, 3))
    assert not symbolic_shapes.free_unbacked_symbols(torch.ones(2, 3))
    with pytest.raises(AssertionError):  # torch's own complaint about what is no truth value
        known["guard_or_false"]("text")


def test_wrappers_are_as_they_were() -> None:
    code = """
import torch
from depthscale.capture.uncompiled import _ANSWER, _waiting, uncompiled
before = _waiting()
with uncompiled():
    assert before and all(getattr(f, _ANSWER) is f for f in before)
    inside = _waiting()
print(len(inside), sum(hasattr(f, _ANSWER) for f in before))
"""
    assert _python(code) == "0 0"


CALLS: dict[str, Any] = {
    "batch_norm": lambda x: F.batch_norm(x, torch.zeros(3), torch.ones(3), training=True),
    "layer_norm": lambda x: F.layer_norm(x, x.shape[2:]),
    "group_norm": lambda x: F.group_norm(x, 3),
    "instance_norm": lambda x: F.instance_norm(x),
    "dropout": lambda x: F.dropout(x, 0.5),
    "feature_dropout": lambda x: F.dropout2d(x, 0.5),
}


@pytest.mark.parametrize("name", sorted(tape._ALIKE))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_results_are_like_the_first_argument(name: str, dtype: torch.dtype) -> None:
    call = CALLS.get(name) or getattr(F, name, None) or getattr(torch, name)
    x = torch.randn(2, 3, 4, 5, dtype=dtype)
    if name in ("batch_norm",):
        y = F.batch_norm(x, torch.zeros(3, dtype=dtype), torch.ones(3, dtype=dtype), training=True)
    else:
        y = call(x)
    assert (y.shape, y.dtype, y.stride()) == (x.shape, x.dtype, x.stride())


def test_a_result_that_is_like_the_first_argument_is_a_tensor_of_its_own() -> None:
    class Net(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = F.gelu(x)
            y += 1  # in place: x is not written
            return torch.cat([x, y.relu_()], 1)

    program = tape.record(Net(), (torch.randn(2, 3),), {})
    names = [str(n.target) for n in program.nodes if n.op == "call_function"]
    assert names == ["aten.gelu.default", "aten.add_.Tensor", "aten.relu_.default", "aten.cat.default"]
    assert program.nodes[-1].args[0][0] is program.nodes[0]
