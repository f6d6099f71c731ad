"""A search space: an ordinary function that makes decisions and returns a network.

    def space(decide):
        width = decide("width", [16, 32, 64])
        depth = decide.between("depth", 1, 8)
        return zoo.mlp((64, *[width] * depth, 10), decide("activation", ["relu", "tanh"]))

Which decisions are made may depend on earlier ones. Whoever answers them (a random generator, an Optuna trial, a
strategy, a list of answers written down earlier) is a ``Decider``; the function is the same for all.
"""

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from depthscale.errors import DepthscaleError, GraphError, SearchError
from depthscale.graph import Graph

T = TypeVar("T", str, int, float, bool)
Value = str | int | float | bool
Decisions = Mapping[str, Value]


@dataclass(frozen=True)
class Choice:
    """One of several options."""

    options: tuple[Value, ...]

    def draw(self, rng: np.random.Generator) -> Value:
        """Any option, each as likely."""
        return self.options[int(rng.integers(len(self.options)))]

    def others(self, value: Value) -> tuple[Value, ...]:
        """The options that are not ``value``."""
        return tuple(o for o in self.options if o != value)


@dataclass(frozen=True)
class Range:
    """A number from ``low`` to ``high``, both included; ``whole`` numbers only, or uniform in the logarithm."""

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def draw(self, rng: np.random.Generator) -> Value:
        """A number of the range, uniform (in the logarithm where asked)."""
        return self.at(float(rng.random()))

    def at(self, share: float) -> Value:
        """The number that ``share`` (0 to 1) of the range lies below."""
        margin = 0.5 if self.whole else 0.0  # whole numbers are as likely at the ends as inside
        low, high = self.low - margin, self.high + margin
        if self.log:
            x = math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
        else:
            x = low + share * (high - low)
        return int(min(max(round(x), self.low), self.high)) if self.whole else min(max(x, self.low), self.high)

    def share(self, value: float) -> float:
        """Where in the range a number lies, 0 to 1."""
        if self.high == self.low:
            return 0.5
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def others(self, value: Value) -> tuple[Value, ...]:
        """Neighbours of ``value``: the numbers beside it, or a tenth of the range to either side."""
        if self.whole and not self.log:
            near: list[Value] = [int(value) - 1, int(value) + 1]
            return tuple(x for x in near if self.low <= float(x) <= self.high)
        at = self.share(float(value))
        found = {self.at(min(max(at + d, 0.0), 1.0)) for d in (-0.1, 0.1)}
        return tuple(sorted(x for x in found if x != value))


Domain = Choice | Range
MOST_ASKED = 20_000  # decisions of one network


class Decider:
    """Answers a space's questions and remembers them: ``made`` and ``domains``, in the order they were asked."""

    def __init__(self) -> None:
        self.made: dict[str, Value] = {}
        self.domains: dict[str, Domain] = {}
        self.asked = 0

    def answer(self, name: str, domain: Domain) -> Value:
        """The decision called ``name``; to be given by the kinds of decider."""
        raise NotImplementedError

    def __call__(self, name: str, choices: Sequence[T]) -> T:
        """One of ``choices`` (text, numbers, booleans).

        Asked again by the same name it is the same; with other choices it is a SearchError.
        """
        options = tuple(choices)
        if not options:
            raise SearchError(f"expected decision {name!r} to offer at least one choice, got none")
        if not all(isinstance(o, str | int | float | bool) for o in options):
            raise SearchError(
                f"expected the choices of decision {name!r} to be text, numbers or booleans, got {options!r}; "
                "decide on a name and look the object up"
            )
        if len(set(options)) < len(options):
            raise SearchError(f"expected the choices of decision {name!r} to differ, got {options!r}")
        value: Any = self._once(name, Choice(options))
        return value  # type: ignore[no-any-return]

    def between(self, name: str, low: T, high: T, *, log: bool = False) -> T:
        """A number from ``low`` to ``high``, whole if both are; ``log``: uniform in the logarithm."""
        whole = isinstance(low, int) and isinstance(high, int)
        a, b = float(low), float(high)
        if not (math.isfinite(a) and math.isfinite(b) and a <= b and (not log or a > 0)):
            words = " and low > 0, since it is logarithmic" if log else ""
            raise SearchError(
                f"expected decision {name!r} to lie between finite low ≤ high{words}, got {low} and {high}"
            )
        value: Any = self._once(name, Range(a, b, log, whole))
        return value  # type: ignore[no-any-return]

    def _once(self, name: str, domain: Domain) -> Value:
        self.asked += 1
        if self.asked > MOST_ASKED:
            raise SearchError(
                f"the space has asked for {MOST_ASKED:,} decisions, the last {name!r}, and does not end; end its loops "
                'and give the decisions in them names of their own, such as f"more{i}"'
            )
        if name in self.domains:
            if self.domains[name] != domain:
                raise SearchError(
                    f"decision {name!r} is made twice with different choices: {self.domains[name]} and {domain}; "
                    "give the second a name of its own"
                )
            return self.made[name]
        value = self.answer(name, domain)
        self.domains[name], self.made[name] = domain, value
        return value


class Dice(Decider):
    """Random answers."""

    def __init__(self, rng: np.random.Generator) -> None:
        super().__init__()
        self.rng = rng

    def answer(self, name: str, domain: Domain) -> Value:
        """Any value, each as likely."""
        return domain.draw(self.rng)


class Script(Decider):
    """Answers written down beforehand; what is not among them is asked of ``rest``, or is an error."""

    def __init__(self, decisions: Decisions, rest: Callable[[str, Domain], Value] | None = None) -> None:
        super().__init__()
        self.decisions, self.rest = decisions, rest

    def answer(self, name: str, domain: Domain) -> Value:
        """The written value if the domain has it."""
        value = self.decisions.get(name)
        if value is not None and fits(domain, value):
            return value
        if self.rest is not None:
            return self.rest(name, domain)
        raise SearchError(f"expected a value of {domain} for decision {name!r}, got {value!r}")


def fits(domain: Domain, value: Value) -> bool:
    """Whether a decision over this domain can have this value."""
    if isinstance(domain, Choice):
        return value in domain.options
    return not isinstance(value, str) and domain.low <= value <= domain.high


@dataclass(frozen=True)
class Draw:
    """One architecture of a space, with the decisions that led to it."""

    architecture: Any
    decisions: dict[str, Value]
    domains: dict[str, Domain]


@dataclass(frozen=True)
class Space:
    """A space with its name.

    describe: makes the decisions and returns the network: a Graph, or something short and hashable that stands for
    it (a cell's string) and that ``to_graph`` turns into one when a Graph is needed. identity: what tells networks
    apart (the graph's canonical key unless given); architectures of equal identity are one network. features: a row of
    numbers about an architecture, for predictors (those of the graph unless given).
    """

    name: str
    describe: Callable[[Decider], Any]
    to_graph: Callable[[Any], Graph] | None = None
    identity: Callable[[Any], Hashable] | None = None
    features: Callable[[Any], np.ndarray] | None = None
    _keys: dict[Any, Hashable] = field(default_factory=dict, repr=False, compare=False)

    def draw(self, decider: Decider) -> Draw:
        """Run the function with these answers.

        Raises SearchError where the function raises something that is no DepthscaleError, or makes no network.
        GraphError (decisions that make no valid network) passes through.
        """
        try:
            made = self.describe(decider)
        except DepthscaleError:
            raise
        except Exception as error:
            raise SearchError(
                f"space {self.name} raised {type(error).__name__}: {error}, after the decisions {dict(decider.made)}"
            ) from error
        if self.to_graph is None and not isinstance(made, Graph):
            raise SearchError(f"expected space {self.name} to return a Graph, got {type(made).__name__}")
        return Draw(made, dict(decider.made), dict(decider.domains))

    def graph(self, architecture: Any) -> Graph:
        """The network of an architecture."""
        return self.to_graph(architecture) if self.to_graph is not None else architecture

    def key(self, architecture: Any) -> Hashable:
        """What tells this network from others; remembered where the architecture is hashable and short."""
        if self.identity is None and self.to_graph is None:
            return str(architecture.key)
        known = self._keys.get(architecture)
        if known is None:
            known = self.identity(architecture) if self.identity is not None else self.graph(architecture).key
            self._keys[architecture] = known
        return known

    def sample(self, rng: np.random.Generator) -> Draw:
        """Random decisions; networks that more decisions lead to are likelier."""
        return self.draw(Dice(rng))

    def everything(self, most: int = 1_000_000) -> Iterator[Draw]:
        """Every draw there is, in the order of the choices; decisions that make no valid network are left out.

        Raises SearchError where a decision is over real numbers, or when there are more than ``most``.
        """
        path: list[tuple[int, tuple[Value, ...]]] = []  # the index taken and the options, decision by decision
        for _ in range(most + 1):
            decider = _Enumerator(self.name, path)
            with suppress(GraphError):  # decisions that make no network are no draw
                yield self.draw(decider)
            path = decider.path
            while path and path[-1][0] + 1 == len(path[-1][1]):
                path.pop()
            if not path:
                return
            path[-1] = (path[-1][0] + 1, path[-1][1])
        raise SearchError(f"space {self.name} has more than {most:,} draws; raise the limit or sample it")

    def count(self, most: int = 1_000_000, *, distinct: bool = False) -> float:
        """How many draws, or ``distinct`` networks, the space has; infinity if a decision is over real numbers.

        Raises SearchError when there are more than ``most``.
        """
        try:
            if distinct:
                return len({self.key(d.architecture) for d in self.everything(most)})
            return sum(1 for _ in self.everything(most))
        except _Uncountable:
            return math.inf

    def distinct(self, rng: np.random.Generator, *, tries: int = 10_000) -> Iterator[Draw]:
        """Networks drawn at random without repeating one; ends when ``tries`` draws in a row were all known."""
        seen: set[Hashable] = set()
        while True:
            for _ in range(tries):
                try:
                    found = self.sample(rng)
                except GraphError:
                    continue
                key = self.key(found.architecture)
                if key not in seen:
                    seen.add(key)
                    yield found
                    break
            else:
                return

    def uniform(self, rng: np.random.Generator, n: int, *, most: int = 1_000_000) -> list[Draw]:
        """``n`` draws (with replacement), every distinct network as likely, however many decisions lead to it.

        The space is counted first. Raises SearchError where that cannot be done.
        """
        classes: dict[Hashable, Draw] = {}
        for found in self.everything(most):
            classes.setdefault(self.key(found.architecture), found)
        each = list(classes.values())
        return [each[int(i)] for i in rng.integers(len(each), size=n)]


class _Uncountable(SearchError):
    """A decision over real numbers cannot be listed."""


class _Enumerator(Decider):
    """Takes a path of indices, then the first option of everything; ``path`` becomes the whole path taken."""

    def __init__(self, space: str, path: Sequence[tuple[int, tuple[Value, ...]]]) -> None:
        super().__init__()
        self.space, self.given, self.path = space, path, [*path[:0]]

    def answer(self, name: str, domain: Domain) -> Value:
        """The value at this place of the path."""
        at = len(self.path)
        step = self.given[at] if at < len(self.given) else (0, self._options(name, domain))
        self.path.append(step)
        return step[1][step[0]]

    def _options(self, name: str, domain: Domain) -> tuple[Value, ...]:
        if isinstance(domain, Choice):
            return domain.options
        if not domain.whole:
            raise _Uncountable(f"space {self.space} cannot be listed: decision {name!r} is over real numbers")
        return tuple(range(int(domain.low), int(domain.high) + 1))


def within(space: Space, parameters: int | None = None, multiply_adds: int | None = None) -> Space:
    """The space without its networks of more parameters, or more multiply-adds for one input: drawn, a GraphError."""

    def describe(decide: Decider) -> Any:
        made = space.describe(decide)
        if not isinstance(made, Graph) and space.to_graph is None:
            return made  # no network: ``draw`` says so
        cost = space.graph(made).cost()
        if parameters is not None and cost.parameters > parameters:
            raise GraphError(f"expected a network of at most {parameters:,} parameters, got {cost.parameters:,}")
        if multiply_adds is not None and cost.multiply_adds > multiply_adds:
            raise GraphError(
                f"expected a network of at most {multiply_adds:,} multiply-adds, got {cost.multiply_adds:,}"
            )
        return made

    return replace(space, describe=describe, _keys={})


TRAINING = "train/"  # what names of decisions about training begin with


def jointly(space: Space) -> Space:
    """The space with decisions about training beside those about the network.

    They are called train/learning_rate, train/batch, train/optimiser, train/weight_decay; any space may make them (or
    some of them) itself, and a search by training follows them.
    """

    def describe(decide: Decider) -> Any:
        optimiser = decide(f"{TRAINING}optimiser", ["adamw", "sgd"])
        low, high = (3e-4, 1e-2) if optimiser == "adamw" else (1e-2, 3e-1)
        decide.between(f"{TRAINING}learning_rate_{optimiser}", low, high, log=True)
        decide(f"{TRAINING}batch", [32, 64, 128, 256])
        decide.between(f"{TRAINING}weight_decay", 1e-5, 1e-1, log=True)
        return space.describe(decide)

    return replace(space, name=f"{space.name} and training", describe=describe, _keys={})


def as_space(space: "Space | Callable[[Decider], Graph]", name: str | None = None) -> Space:
    """A space from a plain function, named after it."""
    if isinstance(space, Space):
        return space
    if not callable(space):
        raise SearchError(f"expected a search space (a function of ``decide`` that returns a Graph), got {space!r}")
    return Space(name or str(getattr(space, "__name__", "space")), space)
