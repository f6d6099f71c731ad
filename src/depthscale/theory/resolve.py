"""From whatever the user calls an activation (a name, a NumPy callable, a torch function or module) to an Activation.

torch is never imported: if the user holds a torch object, torch is already loaded, and ``sys.modules`` has it. Such
objects are evaluated on float64 copies, and differentiated by torch itself.
"""

import copy
import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from depthscale.errors import TheoryError
from depthscale.numerics.estimate import Array
from depthscale.theory.activations import Activation
from depthscale.theory.named import NAMED, Elementwise

# torch.nn class -> (our name, {our parameter: its attribute}); anything else of torch's is evaluated as it is
_MODULES: dict[str, tuple[str, dict[str, str]]] = {
    "Identity": ("identity", {}),
    "ReLU": ("relu", {}),
    "LeakyReLU": ("leaky_relu", {"negative_slope": "negative_slope"}),
    "RReLU": ("rrelu", {"lower": "lower", "upper": "upper"}),
    "ReLU6": ("relu6", {}),
    "ELU": ("elu", {"alpha": "alpha"}),
    "CELU": ("celu", {"alpha": "alpha"}),
    "SELU": ("selu", {}),
    "GELU": ("gelu", {"approximate": "approximate"}),
    "SiLU": ("silu", {}),
    "Mish": ("mish", {}),
    "Softplus": ("softplus", {"beta": "beta"}),
    "Sigmoid": ("sigmoid", {}),
    "LogSigmoid": ("logsigmoid", {}),
    "Tanh": ("tanh", {}),
    "Hardtanh": ("hardtanh", {"min_val": "min_val", "max_val": "max_val"}),
    "Hardsigmoid": ("hardsigmoid", {}),
    "Hardswish": ("hardswish", {}),
    "Softsign": ("softsign", {}),
    "Tanhshrink": ("tanhshrink", {}),
    "Softshrink": ("softshrink", {"lambd": "lambd"}),
    "Hardshrink": ("hardshrink", {"lambd": "lambd"}),
    "Threshold": ("threshold", {"threshold": "threshold", "value": "value"}),
}
_FUNCTIONS = ("relu", "tanh", "sigmoid", "sin", "cos", "exp", "square", "abs", "sign", "erf", "selu")
_ALIASES = {"softshrinkage": "softshrink", "arctan": "atan", "none": "identity", "swish_1": "silu"}


def activation(what: Any, **params: Any) -> Activation:
    """The activation of that name, or of that callable.

    what: a name ("relu", "gelu", "silu" … torch.nn's classes in snake case, or as torch spells them), an Activation, a
    function of NumPy arrays, or a torch function or module. params: the activation's own, by torch's names
    (``activation("gelu", approximate="tanh")``); for a callable, ``derivative`` (a callable too) and ``name``.
    Raises TheoryError for an unknown name or parameter, and for callables that are not real, elementwise, finite and
    deterministic functions.
    """
    if isinstance(what, Activation):
        if params:
            raise TheoryError(f"{what!r} is already made; parameters {sorted(params)} must be given with a name.")
        return what
    if isinstance(what, str):
        return _by_name(what, params)
    known = _known_torch(what)
    if known is not None and not params:
        return _by_name(*known)
    if callable(what):
        return _by_callable(what, params)
    raise TheoryError(f"Expected an activation's name or a callable, but got {type(what).__name__}.")


def activation_names() -> tuple[str, ...]:
    """All names that ``activation`` knows, in alphabetical order."""
    return tuple(sorted(NAMED))


def _by_name(name: str, params: dict[str, Any]) -> Activation:
    key = _normalised(name)
    for k, v in params.items():
        if not isinstance(v, str) and not np.isfinite(np.asarray(v, dtype=np.float64)).all():
            raise TheoryError(f"Parameter {k} of {name} must be finite, but got {v}.")
    clean = tuple(sorted((k, v if isinstance(v, str) else float(v)) for k, v in params.items()))
    return _named(key, clean)


def _normalised(name: str) -> str:
    """A name in our spelling: LeakyReLU, leaky-relu and leaky_relu are one."""
    lower = name.strip().lower().replace("-", "_").replace(" ", "_")
    lower = _ALIASES.get(lower, lower)
    if lower in NAMED:
        return lower
    squeezed = lower.replace("_", "")
    for key in NAMED:
        if key.replace("_", "") == squeezed:
            return key
    import difflib

    close = difflib.get_close_matches(lower, NAMED, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(activation_names())}."
    raise TheoryError(f"There is no activation named {name!r}; {hint}")


@lru_cache(maxsize=256)
def _named(key: str, params: tuple[tuple[str, float | str], ...]) -> Activation:
    try:
        formula = NAMED[key](**dict(params))
    except TypeError as error:
        raise TheoryError(f"Activation {key!r} does not take the parameters {dict(params)} ({error}).") from None
    return Activation(key, params, formula.f, formula.df, formula.kinks, formula.closed)


def _known_torch(what: Any) -> tuple[str, dict[str, Any]] | None:
    """The name and parameters of one of torch's own activations, or None."""
    torch = sys.modules.get("torch")
    if torch is None or what is None:  # torch lacks some of the names below, and None is what it then gives
        return None
    for cls, (name, attributes) in _MODULES.items():
        if type(what) is getattr(torch.nn, cls, None):
            return name, {ours: getattr(what, theirs) for ours, theirs in attributes.items()}
    if type(what) is torch.nn.PReLU and what.weight.numel() == 1:
        return "prelu", {"weight": float(what.weight.detach().item())}
    functional = torch.nn.functional
    for name in _FUNCTIONS:
        if what is getattr(torch, name, None) or what is getattr(functional, name, None):
            return name, {}
    for name in ("silu", "mish", "gelu", "hardswish", "relu6", "softsign", "logsigmoid", "hardsigmoid", "tanhshrink"):
        if what is getattr(functional, name, None):
            return name, {}
    return None


def _by_callable(what: Callable[..., Any], params: dict[str, Any]) -> Activation:
    unknown = set(params) - {"derivative", "name"}
    if unknown:
        raise TheoryError(
            f"A callable takes only derivative= and name=, but got {sorted(unknown)}; bind its own first."
        )
    name = str(params.get("name") or getattr(what, "__name__", type(what).__name__))
    f, df = _adapted(what, name)
    given = params.get("derivative")
    if given is not None:
        df, _ = _adapted(given, f"derivative of {name}")
    _check(f, name)
    if df is not None:
        _check(df, f"derivative of {name}")
    return Activation(name, (), f, df)


def _adapted(what: Callable[..., Any], name: str) -> tuple[Elementwise, Elementwise | None]:
    """The callable on float64 arrays, and its derivative if torch can tell."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(what, torch.nn.Module):
        if any(p.is_meta for p in what.parameters()):
            raise TheoryError(f"Module {name} has no values on the meta device; give one with real parameters.")
        return _through_torch(torch, copy.deepcopy(what).cpu().double().eval())
    probe = np.array([-0.5, 0.25, 1.5])
    try:
        with np.errstate(all="ignore"):
            result = what(probe)
    except Exception as error:
        if torch is not None and _takes_tensors(torch, what, probe):
            return _through_torch(torch, what)
        raise TheoryError(
            f"Activation {name} could not be called on a float64 array ({type(error).__name__}: {error}); write it "
            "with NumPy functions, or wrap a scalar function in numpy.vectorize."
        ) from error
    if torch is not None and torch.is_tensor(result):
        return _through_torch(torch, what)
    if np.iscomplexobj(np.asarray(result)):
        raise TheoryError(f"Activation {name} returned complex numbers; it must be a real function.")
    try:
        if result is None:
            raise TypeError("nothing was returned")
        np.asarray(result, dtype=np.float64)
    except (TypeError, ValueError):
        raise TheoryError(f"Activation {name} returned {type(result).__name__}, not an array of numbers.") from None
    return _plain(what), None


def _takes_tensors(torch: Any, what: Callable[..., Any], probe: Array) -> bool:
    try:
        return bool(torch.is_tensor(what(torch.from_numpy(probe.copy()))))
    except Exception:
        return False


def _plain(what: Callable[..., Any]) -> Elementwise:
    def f(x: Array) -> Array:
        return np.asarray(what(x.copy()), dtype=np.float64)

    return f


def _through_torch(torch: Any, what: Callable[..., Any]) -> tuple[Elementwise, Elementwise | None]:
    def f(x: Array) -> Array:
        with torch.no_grad():
            return np.asarray(what(torch.from_numpy(np.array(x))).to(torch.float64).numpy())

    def df(x: Array) -> Array:
        t = torch.from_numpy(np.array(x)).requires_grad_()
        with torch.enable_grad():
            y = what(t)
            if not y.requires_grad:
                return np.zeros_like(x)
            (gradient,) = torch.autograd.grad(y.sum(), t, allow_unused=True)
        return np.zeros_like(x) if gradient is None else np.asarray(gradient.numpy())

    return f, df


def _check(f: Elementwise, name: str) -> None:
    """Refuses what is not a real, elementwise, finite, deterministic function on [−8, 8]."""
    x = np.concatenate([np.linspace(-8.0, 8.0, 161), np.linspace(-0.03, 0.03, 31)])
    with np.errstate(all="ignore"):
        try:
            y = f(x)
        except Exception as error:
            raise TheoryError(
                f"Activation {name} failed on {len(x)} numbers at once ({type(error).__name__}: {error}); it "
                "must act on each number alone."
            ) from error
        if y.shape != x.shape:
            raise TheoryError(f"Activation {name} turned shape {x.shape} into {y.shape}; it must act on each number.")
        bad = ~np.isfinite(y)
        if bad.any():
            raise TheoryError(
                f"Activation {name} returned {y[bad][0]} at x = {x[bad][0]:.3g}; it must be finite on all of [-8, 8]."
            )
        again = f(x)
        if not np.array_equal(y, again):
            raise TheoryError(f"Activation {name} gave two answers for one input; it must not be random.")
        scale = 1e-12 * (1 + np.abs(y))
        if not np.all(np.abs(f(x[::-1])[::-1] - y) <= scale) or not np.all(
            np.abs(f(x[75:82]) - y[75:82]) <= scale[75:82]
        ):
            raise TheoryError(
                f"Activation {name} answers one number differently in other company; it must act on each number alone "
                "(softmax and normalisations are layers of a graph)."
            )
