"""Which weights a network should start from: for every layer its structure, the length of its output, and why.

Criticality keeps lengths; isometry keeps every direction. So weights are orthogonal (delta-orthogonal for
convolutions: Xiao et al. 2018), functions that are not odd start linear in mirrored pairs where the graph lets them
(``pairs``), and lengths are kept so small that all functions together bend little: with v(q) the relative variance of
a slope's square at length q, depth · v(q) is held below ``BEND`` (Pennington et al. 2017). Branches of residual sums
start at 1/√L of their trunk (Zhang et al. 2019; Hayou et al. 2021), gates half open with twice the value behind
(their weights small), layers that are used many times keep lengths by themselves, and layers that are read at every
step share the length they add up to.
"""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

from depthscale.diagnose.carried import gates_of
from depthscale.diagnose.pairs import Pairing, Segments, centre, is_odd, odd_slope, odd_spread, pairing
from depthscale.diagnose.structure import Function, Site, Structure
from depthscale.errors import TheoryError
from depthscale.graph import ops
from depthscale.theory.critical import CriticalPoint, critical_point

BEND = 1.0  # depth · v(q), for all functions on the longest path
SHORTEST, USUAL = 0.01, 1.0  # lengths of pre-activations
GATE = 0.01  # length of what goes into a gate
OUTPUT = 0.05


@dataclass(frozen=True)
class Choice:
    """What one layer's weight and bias should be.

    key: the name that its parameters go by (layers that share them have one). reads: stretches of its input; writes:
    whether its output is in mirrored pairs. q: length its output is brought to; None where it keeps lengths by itself,
    its matrix times ``gain``. cancels: a constant in its input that its bias takes away. sb2: variance of its bias.
    what, why: in words.
    """

    layer: str
    key: str
    reads: Segments
    writes: bool
    q: float | None
    gain: float
    cancels: float
    sb2: float
    what: str
    why: str
    opens: float = 0.0


def plan(s: Structure, free: Callable[[str], bool], q_input: float = 1.0) -> dict[str, Choice]:
    """A choice for every layer whose weight may be set (``free``), by the layer's name."""
    pairs = pairing(s, lambda f: not is_odd(f) and _bends(f), free)
    q = lengths(s, pairs)
    uses = Counter(s.key(name) for name in s.sites)
    chosen: dict[str, Choice] = {}
    for name, site in s.sites.items():
        key = s.key(name)
        if not free(name) or key in chosen:
            continue
        chosen[key] = _choice(s, site, pairs, q, uses[key])
    return {c.layer: c for c in chosen.values()}


def _gate(s: Structure, site: Site, base: Choice, series: bool) -> Choice:
    """A gate half open; open where it carries a state over many steps: of W x + U h, U's bias says so."""
    if not series:
        return replace(base, q=GATE, why="a gate: small weights, so that it starts half open")
    why, steps = "a gate: a tenth of an isometry, so that it hardly moves", s.carried.steps.get(base.key, 1)
    if steps == 1 or site.node.op.bias is None:  # type: ignore[attr-defined]
        return replace(base, q=None, gain=0.1, why=why)
    why += f", open by a bias of ln {steps}: it carries a state over {steps} steps"
    return replace(base, q=None, gain=0.1, opens=math.log(steps), why=why)


def _in_series(s: Structure, site: Site) -> bool:
    same = [n for n in s.sites if s.key(n) == s.key(site.name)]
    return len(same) > 1 and s.depends(same[-1], same[0])


def _bends(f: Function) -> bool:
    return odd_slope(f, 1.0) > 1e-6


def lengths(s: Structure, pairs: Pairing) -> dict[str, float]:
    """The length q of every function's argument: all of one kind have the same."""
    depth = s.graph.fold(lambda op, *d: max(d, default=0) + isinstance(op, ops.Activation | ops.PReLU))
    longest = max(depth.values(), default=1)
    longest = min(longest, max(s.depth.values(), default=1))
    found: dict[str, float] = {}
    for name, f in s.functions.items():
        paired = name in pairs.functions
        if paired or is_odd(f):
            found[name] = _length(f.act, f, paired, max(longest, 1))
        else:
            point = _point(f)
            found[name] = max(float(point.q), 0.1) if point is not None and float(point.q) > 0 else USUAL
    return found


@lru_cache(maxsize=256)
def _length(act: object, f: Function, paired: bool, depth: int) -> float:
    """The largest length at which ``depth`` such functions bend little."""
    for q in (1.0, 0.5, 0.25, 0.12, 0.06, 0.03):
        if depth * odd_spread(f, q, paired) <= BEND:
            return q
    return SHORTEST


def _point(f: Function) -> CriticalPoint | None:
    return _critical(f.act)


@lru_cache(maxsize=64)
def _critical(act: object) -> CriticalPoint | None:
    try:
        return critical_point(act)
    except TheoryError:
        return None


def _choice(s: Structure, site: Site, pairs: Pairing, q: dict[str, float], uses: int) -> Choice:
    name = site.name
    reads = pairs.reads.get(name, (("", int(site.fan_in)),))
    writes = name in pairs.writes
    cancels = 0.0
    odd = site.before is not None and site.before.node not in pairs.functions and is_odd(site.before)
    if odd and site.before is not None and abs(centre(site.before)) > 1e-6:
        cancels = centre(site.before)
    base = Choice(name, s.key(name), reads, writes, USUAL, 1.0, cancels, 0.0, _matrix(s, site, reads, writes), "")
    if site.branch:
        return _branch(s, site, base)
    if base.key in s.carried.steps or (site.gates and site.after is not None and _is_gate(site.after)):
        return _gate(s, site, base, uses > 1 and _in_series(s, site))
    if site.feeds == "product":
        if uses > 1 and _in_series(s, site):
            return replace(
                base, q=None, gain=2.0, why="an isometry, twice over for the gate that lets half of it through"
            )
        return replace(base, q=_value_length(s, site), why="what a gate lets through half of: twice as much")
    if site.feeds == "output":
        return replace(base, q=OUTPUT, why=f"the output starts small, at a mean square of {OUTPUT:g}")
    if uses > 1:
        return _shared(s, site, base, pairs, q, uses)
    if site.after is None:
        return replace(base, q=USUAL, why="keeps lengths")
    return _hidden(site, base, q)


def _hidden(site: Site, base: Choice, q: dict[str, float]) -> Choice:
    f = site.after
    assert f is not None  # the caller looked
    length = q.get(f.node, USUAL)
    if base.writes:
        why = f"in pairs (u, −u), so that {f.name} starts linear: φ(u) − φ(−u)"
        return replace(base, q=length, why=why + (f", at length {length:g} where it is" if length < 1 else ""))
    if is_odd(f):
        return replace(base, q=length, why=f"isometric, at length {length:g} where {f.name} hardly bends")
    point = _point(f)
    if point is None:
        return replace(base, q=length, why=f"keeps lengths ({f.name} has no critical point)")
    sb2 = float(point.sb2)
    return replace(base, q=length, sb2=sb2, why=f"the critical point of {f.name}: sw2 = {float(point.sw2):.4g}")


def _branch(s: Structure, site: Site, base: Choice) -> Choice:
    residual = s.residuals[site.branch]
    count = len(s.residuals)
    share = 1.0 if residual.scaled else 1.0 / count
    why = f"the end of one of {count} branches"
    return replace(base, q=share, why=why + (", which the graph scales" if residual.scaled else ": 1/√L of its trunk"))


def _is_gate(f: Function) -> bool:
    """A function that is open at 0 and bounded: σ and its kin."""
    return abs(centre(f)) > 0.1 and is_odd(f)


def _value_length(s: Structure, site: Site) -> float:
    """The length in front of a gate that leaves 1 behind it."""
    user = next((u for u in s.users_of(site.name) if u), "")
    node = s.graph[user] if user else None
    for other in node.inputs if node is not None else ():
        source = s.source_of(other)
        if source in s.functions and _is_gate(s.functions[source]):
            return USUAL / centre(s.functions[source]) ** 2
    return USUAL


def _shared(s: Structure, site: Site, base: Choice, pairs: Pairing, q: dict[str, float], uses: int) -> Choice:
    """A weight that is used in many places."""
    same = [n for n in s.sites if s.key(n) == s.key(site.name)]
    series = s.depends(same[-1], same[0])
    after = site.after or next((s.sites[n].after for n in same if s.sites[n].after is not None), None)
    length = q.get(after.node, USUAL) if after is not None else USUAL
    if not series and s.carried.steps and site.gates:
        return _candidate(s, site, base)
    if not series:
        share = length / uses if site.feeds == "function" or site.feeds == "sum" else length
        return replace(base, q=share, why=f"read at {uses} places that add up to length {length:g}")
    if s.carried.steps:
        # one matrix again and again: f + W/4 (two gates half open) must not grow in the directions where W is near 1
        steps = max(s.carried.steps.values())
        why = f"part of an isometry: the state is carried over {steps} steps beside it"
        return replace(base, q=None, gain=min(1.0, 4 / steps), why=why)
    before = next((s.sites[n].before for n in same if s.sites[n].before is not None), None)
    gain = 1.0
    if before is not None:
        paired = before.node in pairs.functions
        slope = odd_slope(before, length)
        gain = 1 / slope if paired else 2 / slope if is_odd(before) else _usual_gain(before)
    return replace(base, q=None, gain=gain, why=f"used {uses} times in a row: an isometry by itself")


def _candidate(s: Structure, site: Site, base: Choice) -> Choice:
    """What is new at every step to a state that is carried over T: 1/T of it at most, by its length or by the gate."""
    steps = max(s.carried.steps.values())
    if gates_of(s.graph, s.functions, site.gates) & s.carried.steps.keys():
        return replace(base, q=USUAL, why="keeps lengths: the gate that carries the state lets little of it in")
    return replace(base, q=min(USUAL, 4 / steps), why=f"adds up to length 1 over {steps} steps past a gate half open")


def _usual_gain(f: Function) -> float:
    point = _point(f)
    return math.sqrt(float(point.sw2)) if point is not None else 1.0


def _matrix(s: Structure, site: Site, reads: Segments, writes: bool) -> str:
    kind = "delta-orthogonal" if is_delta(site) else "orthogonal"
    if any(f for f, _ in reads) and writes:
        return f"{kind} A in [[A, −A], [−A, A]]"
    if writes:
        return f"{kind} A in [A; −A]"
    return f"{kind} A in [A, −A]" if any(f for f, _ in reads) else kind


def is_delta(site: Site) -> bool:
    """Whether a convolution's matrix stands at its kernel's centre: stride 1, an odd kernel, channels enough."""
    op = site.node.op
    if not isinstance(op, ops.Conv) or op.groups != 1:
        return False
    taps = math.prod(op.kernel)
    inputs = site.fan_in / taps
    plain = all(n == 1 for n in op.stride) and all(n % 2 for n in op.kernel)
    return taps > 1 and plain and inputs >= 4 and op.out_channels <= 4 * inputs
