"""What every op has in common: it is frozen data, it checks itself, and it prints as a call."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import ClassVar

from depthscale.errors import GraphError

Ints = tuple[int, ...]


@dataclass(frozen=True)
class Op:
    """One tensor operation; every subclass is final."""

    arity: ClassVar[tuple[int, int | None]] = (1, 1)  # fewest and most inputs; None: any number
    commutative: ClassVar[bool] = False  # the order of inputs does not matter

    def __init_subclass__(cls) -> None:
        # ops are what caches are keyed by, and hashing one is a walk through all that it holds: once is enough
        super().__init_subclass__()
        cls.__hash__ = Op._kept_hash  # type: ignore[assignment,method-assign]

    def _kept_hash(self) -> int:
        known: int | None = self.__dict__.get("_hash")
        if known is None:
            known = hash((type(self), *[getattr(self, f.name) for f in fields(self)]))
            object.__setattr__(self, "_hash", known)
        return known

    def __getstate__(self) -> dict[str, object]:
        """The fields alone: text has another hash in another process."""
        return {k: v for k, v in self.__dict__.items() if k != "_hash"}

    @property
    def inputs_wanted(self) -> tuple[int, int | None]:
        """Fewest and most inputs that this op takes (None: no limit)."""
        return self.arity

    def _need(self, ok: bool, expected: str, got: object) -> None:
        if not ok:
            raise GraphError(f"{type(self).__name__}: expected {expected}, got {got!r}")

    def _positive(self, **values: int) -> None:
        for name, value in values.items():
            self._need(_is_int(value) and value >= 1, f"{name} to be a whole number of at least 1", value)

    def _ints(self, name: str, count: int | None = None, least: int = 1) -> None:
        """Make a field a tuple of ints, repeating a single one ``count`` times, each at least ``least``."""
        value = getattr(self, name)
        values: tuple[int, ...]
        if isinstance(value, Sequence) and not isinstance(value, str):
            values = tuple(value)
        else:
            values = (value,) * (count or 1)
        whole = all(_is_int(v) and v >= least for v in values)
        self._need(whole, f"{name} to be whole numbers of at least {least}", value)
        self._need(count is None or len(values) == count, f"{count} values of {name}", value)
        object.__setattr__(self, name, values)

    def __str__(self) -> str:
        """The op as a call, fields at their default left out."""
        shown = [f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if getattr(self, f.name) != f.default]
        return f"{type(self).__name__}({', '.join(shown)})"


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def window(op: Op) -> None:
    """Make kernel, stride and padding tuples with one entry per spatial axis (a single number means two axes)."""
    kernel = op.kernel  # type: ignore[attr-defined]
    op._ints("kernel", None if isinstance(kernel, Sequence) else 2)
    axes = len(op.kernel)  # type: ignore[attr-defined]
    op._need(1 <= axes <= 3, "a kernel of 1 to 3 axes", kernel)
    op._ints("stride", axes)
    op._ints("padding", axes, 0)
