"""Parameter laws without parameters: what a constructor writes, recorded while the model is built on the meta device.

Every initialiser of PyTorch ends in a few ATen operations (``normal_``, ``uniform_``, ``fill_``, ``erfinv_``,
``mul_``, ``copy_`` …). A dispatch mode sees them all, so the law of every tensor can be followed by algebra: the last
write counts; an affine map of a law is a law; ``erfinv_`` of a uniform is a truncated Gaussian; a QR decomposition
makes a matrix orthogonal. Small tensors are computed along on the CPU as well (their *shadow*), so that buffers such as
positions and masks keep their values.
"""

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

from depthscale.build.sampling import draw, generator
from depthscale.capture.algebra import Truncated, Written, affine, elementwise, mixed, plain
from depthscale.capture.laws import read_law
from depthscale.capture.uncompiled import uncompiled
from depthscale.errors import CaptureError
from depthscale.graph import Law, ParameterSpec, laws
from depthscale.graph.laws import Fans

SHADOW = 2**20  # elements up to which tensors that are not random are computed along
RANDOM_SHADOW = 2**12  # the same for random ones

_RANDOM = frozenset({"normal", "uniform", "randn", "rand", "randn_like", "rand_like", "bernoulli", "exponential"})
_RANDOM |= frozenset(
    {"randint", "randperm", "random", "trunc_normal", "log_normal", "cauchy", "geometric", "multinomial"}
)
_SAME = frozenset({"copy", "clone", "detach", "_to_copy", "contiguous", "lift_fresh", "alias"})


@dataclass
class _Storage:
    """What is known of one piece of memory: the law of all of it, of parts written later, and its values if small."""

    keep: Any  # the storage itself: its address must not be used again
    law: Written | None = None
    patches: dict[tuple[Any, ...], Written | None] = field(default_factory=dict)
    values: Tensor | None = None


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows the laws of tensors on the meta device; ``law`` and ``value`` answer for any of them."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._storages: dict[int, _Storage] = {}
        self._random = generator(0, "recorder")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = args[0] if _only_writes(func, args) else func(*args, **kwargs)
        made = [t for t in tree_leaves(out) if isinstance(t, Tensor) and t.device.type == "meta"]
        if made:
            name = str(func._schema.name).rpartition("::")[2]
            self._follow(name.rstrip("_"), func, args, kwargs, out, made)
        return out

    # --- answers --------------------------------------------------------------------------------------------------

    def law(self, t: Tensor) -> Law | None:
        """The law of a tensor's elements; None where nothing was written or it cannot be followed."""
        known = self._storages.get(_key(t))
        if known is None:
            return None
        values = self.value(t)
        if known.law is None and not known.patches:
            return _read(values) if values is not None else None
        parts = [(g, w) for g, w in known.patches.items()]
        if not parts:
            return _named(plain(known.law), t) if known.law is not None else None
        if values is not None:
            return _read(values)
        covered = sum(math.prod(g[1]) for g, _ in parts)
        rest = max(t.numel() - covered, 0)
        laws_of = [(math.prod(g[1]), w) for g, w in parts]
        if rest:
            laws_of.append((rest, known.law))
        return None if any(w is None for _, w in laws_of) else mixed([(n, plain(w)) for n, w in laws_of if w])

    def value(self, t: Tensor) -> Tensor | None:
        """The values of a small tensor, where they could be followed."""
        known = self._storages.get(_key(t))
        if known is None or known.values is None or known.values.dtype != t.dtype:
            return None
        span = t.storage_offset() + sum((n - 1) * s for n, s in zip(t.shape, t.stride(), strict=True))
        return _look(known.values, t) if span < known.values.numel() else None

    def wrote(self, t: Tensor, law: Written) -> None:
        """Notes that a tensor was drawn from a law by something that no operation shows."""
        values = None
        with torch._C.DisableTorchFunction(), _disable_current_modes():
            if t.numel() <= RANDOM_SHADOW:
                values = draw(ParameterSpec(tuple(t.shape), plain(law), Fans(1, 1)), 0, str(len(self._storages)))
            self._write(t, law, values)

    def knows(self, t: Tensor, values: Tensor) -> None:
        """Notes what a tensor holds."""
        if t.numel() <= SHADOW:
            self._write(t, _read(values), values)

    # --- following ------------------------------------------------------------------------------------------------

    def _storage(self, t: Tensor) -> _Storage:
        key = _key(t)
        if key not in self._storages:
            self._storages[key] = _Storage(t.untyped_storage())
        return self._storages[key]

    def _follow(self, name: str, func: Any, args: Any, kwargs: Any, out: Any, made: list[Tensor]) -> None:
        inputs = [a for a in tree_leaves((args, kwargs)) if isinstance(a, Tensor)]
        mutable = func._schema.is_mutable
        if not mutable and inputs and all(_key(t) in {_key(i) for i in inputs if _is_meta(i)} for t in made):
            return  # a view
        values = self._values(name, func, args, kwargs)
        law = self._law(name, args, kwargs, inputs)
        for i, t in enumerate(made):
            new = values[i] if values is not None and i < len(values) else None
            self._write(t, law if i == 0 else None, new)

    def _write(self, t: Tensor, law: Written | None, values: Tensor | None) -> None:
        known = self._storage(t)
        whole = t.numel() * t.element_size() >= known.keep.nbytes()
        if whole:
            known.law, known.patches = law, {}
        else:
            known.patches[(t.storage_offset(), tuple(t.shape), tuple(t.stride()))] = law
        if values is None:
            known.values = None
            return
        if known.values is None:
            if not whole:
                return
            known.values = torch.zeros(known.keep.nbytes() // t.element_size(), dtype=t.dtype)
        _look(known.values, t).copy_(values)

    def _values(self, name: str, func: Any, args: Any, kwargs: Any) -> list[Tensor] | None:
        """The operation on the values of its inputs, where these are known and small."""
        tensors = [a for a in tree_leaves((args, kwargs)) if isinstance(a, Tensor)]
        random = name in _RANDOM
        limit = RANDOM_SHADOW if random else SHADOW
        if any(t.numel() > limit for t in tensors):
            return None

        def real(a: Any) -> Any:
            if isinstance(a, torch.device):
                return torch.device("cpu")
            if not isinstance(a, Tensor):
                return a
            if not _is_meta(a):
                return a
            value = self.value(a)
            if value is None:
                if a is args[0] and (random or name in ("fill", "zero", "copy")):
                    return torch.zeros(a.shape, dtype=a.dtype)
                raise LookupError
            return value.clone()

        try:
            given, named = tree_map(real, args), tree_map(real, kwargs)
        except LookupError:
            return None
        if not tensors:
            size = args[0] if args and isinstance(args[0], list | tuple) else [1]
            if math.prod(int(n) for n in size) > limit:
                return None
            named["device"] = torch.device("cpu")
            if name in ("empty", "empty_strided", "new_empty"):
                return None
        if random and "generator" in {a.name for a in func._schema.arguments}:
            named["generator"] = self._random
        try:
            made = func(*given, **named)
        except Exception:  # an operation that has no CPU form: its values stay unknown
            return None
        return [t for t in tree_leaves(made) if isinstance(t, Tensor)]

    def _law(self, name: str, args: Any, kwargs: Any, inputs: list[Tensor]) -> Written | None:
        numbers = [a for a in tree_leaves(args) if isinstance(a, int | float) and not isinstance(a, bool)]
        if name == "normal":
            mean, std = (*numbers, 0.0, 1.0)[:2] if len(numbers) != 1 else (numbers[0], 1.0)
            return laws.Normal(abs(float(kwargs.get("std", std))), mean=float(kwargs.get("mean", mean)))
        if name in ("randn", "randn_like"):
            return laws.Normal(1.0)
        if name == "uniform":
            low, high = (*numbers, 1.0)[:2] if numbers else (0.0, 1.0)
            low, high = float(kwargs.get("from", low)), float(kwargs.get("to", high))
            return laws.Uniform((high - low) / 2, mean=(high + low) / 2)
        if name in ("rand", "rand_like"):
            return laws.Uniform(0.5, mean=0.5)
        if name in ("zero", "zeros", "zeros_like", "new_zeros"):
            return laws.ZERO
        if name in ("ones", "ones_like", "new_ones"):
            return laws.ONE
        if name in ("fill", "full", "full_like", "new_full"):
            value = kwargs.get("fill_value", numbers[-1] if numbers else None)
            if value is None and len(inputs) > 1:
                return self._of(inputs[1])
            return laws.Constant(float(value)) if isinstance(value, int | float) and math.isfinite(value) else None
        if name == "eye":
            rows, columns = inputs[0].shape if inputs else (numbers * 2)[:2]
            return laws.Measured(min(rows, columns) / (rows * columns), 1 / max(rows, columns))
        return self._derived(name, args, inputs, numbers)

    def _of(self, t: Tensor) -> Written | None:
        if not _is_meta(t):
            return _read(t)
        known = self._storages.get(_key(t))
        if known is not None and known.law is not None and not known.patches:
            return known.law
        return self.law(t)

    def _derived(self, name: str, args: Any, inputs: list[Tensor], numbers: list[float]) -> Written | None:
        if not inputs:
            return None
        if name in _SAME:
            return self._of(inputs[-1])
        if name in ("qr", "linalg_qr"):
            rows, columns = inputs[0].shape[-2:]
            return laws.Measured(0.0, 1 / max(rows, columns), orthogonal=True)
        if name in ("cat", "stack"):
            parts = [(t.numel(), self._of(t)) for t in inputs]
            return None if any(w is None for _, w in parts) else mixed([(n, plain(w)) for n, w in parts if w])
        first = self._of(inputs[0])
        if first is None:
            return None
        if len(inputs) == 1 and name in ("mul", "div", "add", "sub", "neg"):
            return affine(first, name, numbers)
        if name == "mul" and isinstance(first, laws.Measured) and first.orthogonal and len(inputs) == 2:
            return first  # by the signs of R's diagonal
        return elementwise(first, name, numbers) if len(inputs) == 1 else None


def _read(values: Tensor) -> Law | None:
    """The law of values that are numbers; None for indices and for what is not finite."""
    if not values.is_floating_point() or not bool(torch.isfinite(values).all()):
        return None
    return read_law(values)


def _named(law: Law, t: Tensor) -> Law:
    """Orthogonal by its name where that is what it is."""
    if not (isinstance(law, laws.Measured) and law.orthogonal and t.ndim >= 2):
        return law
    longer = max(t.shape[0], t.numel() // t.shape[0])
    return laws.Orthogonal(math.sqrt(law.mean_square * longer))


_WRITES = frozenset({"normal_", "uniform_", "fill_", "zero_", "add_", "sub_", "mul_", "div_", "erfinv_", "clamp_"})


def _only_writes(func: Any, args: Any) -> bool:
    """Whether an operation writes numbers into a tensor without memory: nothing happens, and its kernel need not run.

    Some of these kernels load a computer algebra system, for shapes that are symbolic.
    """
    writes = bool(args) and str(func._schema.name).rpartition("::")[2] in _WRITES
    return writes and isinstance(args[0], Tensor) and _is_meta(args[0]) and not any(map(torch.is_tensor, args[1:]))


def _is_meta(t: Tensor) -> bool:
    return t.device.type == "meta"


def _key(t: Tensor) -> int:
    return int(t.untyped_storage()._cdata)


def _look(values: Tensor, t: Tensor) -> Tensor:
    """The part of a storage's values that a tensor on meta shows."""
    return values.as_strided(t.shape, t.stride(), t.storage_offset())


class NotFollowed(CaptureError):
    """A law or a value is needed that the recorder could not follow: the model has to be built for real."""


@dataclass(frozen=True, eq=False)
class Blueprint:
    """A module on the meta device, with the laws of its parameters and the values of its small tensors."""

    module: nn.Module
    laws: Callable[[str], Law]
    values: Callable[[str, str], Tensor]


@contextmanager
def recording() -> Iterator[Recorder]:
    """What is built inside has no memory, only laws: ``blueprint(model, recorder)`` has them."""
    recorder = Recorder()
    with uncompiled(), torch.device("meta"), _initialisers(recorder), recorder:
        yield recorder


class _NotSkipped(TorchFunctionMode):
    """What a dispatch mode cannot see. Tensors on meta do not say so to ``torch.nn.init``, of which some functions
    then do nothing; tensors made of Python's numbers are remembered, and numbers read off small ones (rates of
    stochastic depth, widths of layers) are those they would have.
    """

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") == "__get__" and func == _IS_META:
            frame: Any = sys._getframe(1)
            if str(frame.f_code.co_filename).replace("\\", "/").endswith("torch/nn/init.py"):
                return False
        if func in _READS and isinstance(args[0], Tensor) and _is_meta(args[0]):
            with torch._C.DisableTorchFunction(), _disable_current_modes():
                if (values := self.recorder.value(args[0])) is not None:
                    return func(values, *args[1:], **(kwargs or {}))
        out = func(*args, **(kwargs or {}))
        if func in (torch.tensor, torch.as_tensor) and isinstance(out, Tensor) and _is_meta(out):
            with torch._C.DisableTorchFunction(), _disable_current_modes():
                self.recorder.knows(out, func(*args, **{**(kwargs or {}), "device": "cpu"}))
        return out


_READS: Any = (Tensor.tolist, Tensor.item, Tensor.__bool__, Tensor.__int__, Tensor.__float__, Tensor.__index__)
_IS_META: Any = vars(torch._C.TensorBase)["is_meta"].__get__


@contextmanager
def _initialisers(recorder: Recorder) -> Iterator[None]:
    """torch's truncated normal draws until all is inside, which memory is needed for: its law is noted instead."""
    name = "_no_grad_trunc_normal_"
    before = getattr(nn.init, name)

    def truncated(t: Tensor, mean: float, std: float, a: float, b: float, generator: Any = None) -> Tensor:
        if not _is_meta(t):
            drawn: Tensor = before(t, mean, std, a, b, generator=generator)
            return drawn
        recorder.wrote(t, Truncated((a - mean) / std, (b - mean) / std, std, mean) if std else laws.Constant(mean))
        return t

    setattr(nn.init, name, truncated)
    try:
        with _NotSkipped(recorder):
            yield
    finally:
        setattr(nn.init, name, before)


def blueprint(module: nn.Module, recorder: Recorder, seed: int = 0) -> Blueprint:
    """The module with its recorded laws; tensors that were made on another device are moved to meta, values kept."""
    kept: dict[str, Tensor] = {}
    own = dict(module.named_parameters(remove_duplicate=False)) | dict(module.named_buffers(remove_duplicate=False))
    read: dict[str, Law | None] = {}
    for name, t in own.items():
        if _is_meta(t):
            read[name] = recorder.law(t)
            if (small := recorder.value(t)) is not None:
                kept[name] = small
        else:
            kept[name] = t.detach()
            read[name] = _read(kept[name])
    shapes = {name: tuple(t.shape) for name, t in own.items()}
    dtypes = {name: t.dtype for name, t in own.items()}

    def law(name: str) -> Law:
        found = read[name]
        if found is None:
            raise NotFollowed(
                f"expected {name!r} to be initialised by operations that can be followed, but its law is unknown; "
                "build the model on a real device"
            )
        return found

    def value(kind: str, name: str) -> Tensor:
        if kind in ("parameter", "buffer") and name in kept:
            return kept[name]
        if kind == "parameter":
            return draw(ParameterSpec(shapes[name], law(name), Fans(1, 1)), seed, name).to(dtypes[name]).float()
        if kind == "buffer" and read.get(name) is not None:
            return draw(ParameterSpec(shapes[name], law(name), Fans(1, 1)), seed, name)
        raise NotFollowed(f"the value of {kind} {name!r} is needed, but only its shape is known")

    if any(not _is_meta(t) for t in own.values()):
        module.to("meta")
    return Blueprint(module, law, value)


__all__ = ["Blueprint", "NotFollowed", "Recorder", "Truncated", "blueprint", "recording"]
