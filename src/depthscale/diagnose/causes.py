"""From totals to a place, a cause and a remedy.

The place is the first layer whose own factor is at least half of what the whole network does per layer: in a network
of equal layers the first of them, where one layer is to blame that one. The cause is read off the layer's role
(``structure``) and its numbers; the remedy gives the numbers that theory would put in their place.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from depthscale.diagnose.structure import Function, Site, Structure, log
from depthscale.errors import TheoryError
from depthscale.graph import ops
from depthscale.theory.critical import CriticalPoint, critical_point
from depthscale.theory.propagate import Row
from depthscale.theory.verdict import Totals


@dataclass(frozen=True)
class Finding:
    """Where, why, and what to do."""

    where: str
    cause: str
    remedy: tuple[str, ...]


def explain(kind: str, structure: Structure, rows: Sequence[Row], totals: Totals) -> Finding:
    """The place, cause and remedy for a verdict that is not "trains"."""
    by_name = {r.name: r for r in rows}
    if kind == "dead":
        return _dead(structure, rows)
    if kind == "disconnected":
        return _disconnected(structure, rows)
    site = _responsible(kind, structure, by_name, totals)
    if site is None:
        return Finding("", "", ("ds.repair(model) chooses weights from theory; see what it changes",))
    cause, remedy = _cause(kind, site, structure, by_name, totals)
    return Finding(site.name, cause, remedy)


# --- where -----------------------------------------------------------------------------------------------------------


def _responsible(kind: str, s: Structure, rows: Mapping[str, Row], totals: Totals) -> Site | None:
    sites = [site for site in s.sites.values() if site.feeds != "output"] or list(s.sites.values())
    if not sites:
        return None
    broken = next((x for x in sites if not math.isfinite(rows[x.name].q) or rows[x.name].q > 1e100), None)
    if broken is not None:
        return _first_growing(sites, rows, broken)
    factors = _factors(kind, s, sites, rows)
    if not factors:
        return sites[0]
    total = sum(factors.values())
    half = total / len(factors) / 2
    for site in sites:
        factor = factors.get(site.name)
        if factor is not None and total != 0 and factor / half >= 1:
            return site
    return max(sites, key=lambda x: abs(factors.get(x.name, 0.0)))


def _first_growing(sites: Sequence[Site], rows: Mapping[str, Row], broken: Site) -> Site:
    """The first layer, up to the one that overflows, behind which the signal is more than ten times as strong."""
    before = 1.0
    for site in sites:
        q = rows[site.name].q
        if q > 10 * max(before, 1e-300) or site is broken:
            return site
        before = q
    return broken


def _factors(kind: str, s: Structure, sites: Sequence[Site], rows: Mapping[str, Row]) -> dict[str, float]:
    """By layer, the logarithm of what changes there: gradient energy, length or angle between two inputs."""
    levels: dict[int, list[Site]] = {}
    for site in sites:
        levels.setdefault(site.depth, []).append(site)
    found: dict[str, float] = {}
    last: float | None = None
    for level in sorted(levels):
        group = levels[level]
        value = _level(kind, group, rows)
        if value is None:
            continue
        if last is not None:
            for site in group:
                found[site.name] = value - last
        last = value
    return found


def _level(kind: str, group: Sequence[Site], rows: Mapping[str, Row]) -> float | None:
    if kind == "collapse":
        apart = [1 - rows[x.name].c for x in group if not math.isnan(rows[x.name].c)]
        return log(sum(apart) / len(apart)) if apart else None
    if kind == "length":
        return log(sum(rows[x.name].q for x in group) / len(group))
    energy = [rows[x.name].energy for x in group if rows[x.name].g > 0]
    return log(sum(energy) / len(energy)) if energy else None


# --- why -------------------------------------------------------------------------------------------------------------


def _cause(kind: str, site: Site, s: Structure, rows: Mapping[str, Row], totals: Totals) -> tuple[str, tuple[str, ...]]:
    for look in (_spectrum, _dropout, _residual, _gate, _normalised, _saturating, _off_critical, _angles):
        found = look(kind, site, s, rows, totals)
        if found is not None:
            return found
    cause = f"layer by layer the gradient's energy changes {totals.growth_backward:.3g}-fold on its way back"
    return cause, ("ds.repair(model) sets the weights from theory",)


@lru_cache(maxsize=64)
def _point(act: Any) -> CriticalPoint | None:
    try:
        return critical_point(act)
    except TheoryError:
        return None


def _ahead(site: Site, s: Structure) -> Function | None:
    """The function that a layer's output, or else its input, goes through."""
    return site.after or site.before


Found = tuple[str, tuple[str, ...]] | None


def _spectrum(kind: str, site: Site, s: Structure, rows: Mapping[str, Row], totals: Totals) -> Found:
    function = _ahead(site, s)
    if kind != "spectrum":
        return None
    name = function.name if function is not None else "linear"
    cause = (
        f"{totals.depth} {name} layers in a row with random weights: lengths are kept on average, directions are not "
        "(every layer stretches some and loses others)"
    )
    return cause, ("orthogonal weights that start linear, W = [[A, −A], [−A, A]]: ds.repair(model)", "or shortcuts")


def _dropout(kind: str, site: Site, s: Structure, rows: Mapping[str, Row], totals: Totals) -> Found:
    drops = [n.op.p for n in s.graph.nodes if isinstance(n.op, ops.Dropout) and n.op.p > 0]
    if len(drops) < 5 or s.residuals or kind not in ("ordered", "collapse", "noise"):
        return None
    p = max(drops)
    cause = f"dropout of {p:g} in {len(drops)} layers: two passes of one input differ, so no critical point exists"
    return cause, (f"dropout of at most {min(p, 1 / max(totals.depth, 1)):.2g} a layer, or only in the last ones",)


def _residual(kind: str, site: Site, s: Structure, rows: Mapping[str, Row], totals: Totals) -> Found:
    sums = [r for r in s.residuals.values() if r.ends]
    if not sums or totals.depth < len(sums):
        return None
    first = sums[0]
    before, after = rows[s.source_of(first.trunk)], rows[first.name]
    normalised = any(isinstance(s.graph[u].op, ops.NORMS) for u in s.users_of(first.name) if u)
    scale = 1 / math.sqrt(len(sums))
    remedy = (
        f"scale the last layer of every branch by 1/√{len(sums)} = {scale:.3f}, or start it at zero",
        "or normalise the input of every branch",
    )
    if normalised and kind in ("vanishing", "gradient", "ordered"):
        cause = f"{len(sums)} sums are normalised behind (post-norm): each keeps only a part of its trunk's gradient"
        return cause, (*remedy[:1], "or normalise in front of the branches instead (pre-norm)")
    grown = after.q / before.q if before.q > 0 else math.inf
    if kind in ("exploding", "chaotic", "length") and grown > 1.2 and not normalised:
        cause = (
            f"{len(sums)} residual branches are added unscaled: the first sum makes E[x²] {grown:.3g} times as large, "
            f"and all of them {rows[sums[-1].name].q / max(before.q, 1e-300):.3g} times"
        )
        return cause, remedy
    return None


def _gate(kind: str, site: Site, s: Structure, rows: Mapping[str, Row], totals: Totals) -> Found:
    products = [n for n in s.graph.nodes if isinstance(n.op, ops.Multiply) and n.name not in s.functions]
    gates = [x for x in s.sites.values() if x.gates]
    if len(products) < 3 or len(gates) < 3 or kind in ("exploding", "chaotic"):
        return None
    loss = rows[products[0].name].q / max((rows[i].q for i in products[0].inputs), default=1.0)
    cause = f"{len(products)} gates: the first product keeps {loss:.3g} of the signal's length"
    return cause, ("small gate weights (so that σ stays near 1/2) and a gain of 2 on the weights of the values",)


def _normalised(kind: str, site: Site, s: Structure, rows: Mapping[str, Row], totals: Totals) -> Found:
    norms = sum(isinstance(n.op, ops.NORMS) for n in s.graph.nodes)
    if norms < totals.depth / 3 or kind not in ("exploding", "chaotic", "gradient"):
        return None
    cause = (
        f"{norms} normalisations without enough shortcuts: the gradient's energy grows {totals.growth_backward:.3g} "
        "times a layer behind them (π/(π−1) = 1.47 for batch norm and ReLU)"
    )
    return cause, ("shortcuts around every two or three layers: normalisation undoes the scale of weights",)


def _saturating(kind: str, site: Site, s: Structure, rows: Mapping[str, Row], totals: Totals) -> Found:
    function = site.after
    if function is None or _point(function.act) is not None:
        return None
    q = max(rows[function.root].variance, 1e-6)
    slope = float(function.act.derivative_second_moment(min(q, 100.0)))
    if slope <= 0:
        return f"{function.name} has no slope, so no gradient passes it", (f"another function than {function.name}",)
    cause = (
        f"{function.name} has no critical point: at E[x²] = {q:.3g} it passes {slope:.3g} of the gradient's energy, "
        f"and the layers' weights have sw2 = {site.sw2:.3g}"
    )
    return cause, (
        f"orthogonal weights of sw2 = {1 / slope:.3g} with biases that cancel the mean, as ds.repair does",
        "or tanh, ReLU or GELU instead",
    )


def _off_critical(kind: str, site: Site, s: Structure, rows: Mapping[str, Row], totals: Totals) -> Found:
    function = _ahead(site, s)
    if function is None:
        return None
    point = _point(function.act)
    if point is None:
        return None
    inner = next((x for x in s.sites.values() if x.before is not None and x.feeds != "output"), site)
    sw2, wanted, sb2 = inner.sw2, float(point.sw2), float(point.sb2)
    if abs(math.log(max(sw2, 1e-300) / wanted)) < 0.05:
        return None
    side = "small" if sw2 < wanted else "large"
    cause = (
        f"weights are too {side} for {function.name}: sw2 = Var W · fan_in = {sw2:.3g}, where it is critical at "
        f"sw2 = {wanted:.4g}, sb2 = {sb2:.3g}"
    )
    std = math.sqrt(wanted / inner.fan_in)
    remedy = f"weights of standard deviation {std:.3g} (= √({wanted:.4g}/{inner.fan_in:g}) at {inner.name}), "
    remedy += f"biases of {math.sqrt(sb2):.2g}" if sb2 > 0 else "biases of zero"
    return cause, (remedy, *_deep(totals))


def _deep(totals: Totals) -> tuple[str, ...]:
    if totals.depth <= 25:
        return ()
    return (f"at {totals.depth} layers orthogonal weights that start linear do better still: ds.repair(model)",)


def _angles(kind: str, site: Site, s: Structure, rows: Mapping[str, Row], totals: Totals) -> Found:
    function = _ahead(site, s)
    if function is None or kind not in ("ordered", "collapse", "noise"):
        return None
    cause = (
        f"weights are critical for {function.name}, but {totals.depth} layers in a row bring all inputs together: "
        f"of what told two inputs apart {(1 - totals.c_end):.2g} is left"
    )
    return cause, ("orthogonal weights that start linear, W = [[A, −A], [−A, A]]: ds.repair(model)", "or shortcuts")


def _dead(s: Structure, rows: Sequence[Row]) -> Finding:
    by_name = {r.name: r for r in rows}
    worst = next((r for r in rows if r.dead > 0.5), max(rows, key=lambda r: -1.0 if math.isnan(r.dead) else r.dead))
    pre = by_name[s.graph[worst.name].inputs[0]]
    site = next((x for x in s.sites.values() if x.after is not None and x.after.node == worst.name), None)
    cause = (
        f"{worst.dead:.0%} of the units in front of {worst.kind} are negative for every input: mean {pre.mean:.3g} "
        f"against a deviation of {math.sqrt(pre.variance):.3g}"
    )
    return Finding(site.name if site else worst.name, cause, ("biases of zero", "or a leaky ReLU"))


def _disconnected(s: Structure, rows: Sequence[Row]) -> Finding:
    by_name = {r.name: r for r in rows}
    for name in reversed(list(s.sites)):
        site = s.sites[name]
        if site.sw2 == 0 and site.mean == 0 and by_name[name].g > 0:
            return Finding(name, "its weights are all zero, and no gradient passes them", ("random weights",))
    dead = next((r for r in rows if r.g == 0 and isinstance(r.op, ops.LAYERS)), None)
    return Finding(dead.name if dead else "", "no gradient reaches the first layer", ("check what detaches it",))
