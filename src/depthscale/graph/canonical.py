"""A content key that does not depend on names or on the order of nodes, and changes under any other change.

Colours start from what a node is (its op, its place among inputs and outputs, whom it shares parameters with) and
are refined by what feeds it and what it feeds until they stop splitting (Weisfeiler & Leman 1968). Most networks
then have a colour per node and are done. Parts that are tied as a whole and may be swapped with nothing else moved
(the equal branches of a block) are told apart in one go, since every order of them gives the same graph. What is then
left of ties is broken exactly: every member of a tied class is singled out in
turn, the refinement repeated, and the least certificate kept; members that a symmetry found on the way maps onto one
another are tried once (McKay 1981), so that a hundred equal branches cost a hundred refinements, not 100!.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from depthscale.graph.graph import Graph
from depthscale.graph.laws import ZERO, Law
from depthscale.graph.op import Op

Colours = list[bytes]


def _digest(*parts: bytes) -> bytes:
    h = blake2b(digest_size=16)
    for part in parts:
        h.update(len(part).to_bytes(4, "little"))
        h.update(part)
    return h.digest()


@lru_cache(maxsize=4096)
def _label(op: Op, laws: bool) -> bytes:
    changes: dict[str, Any] = {}
    if getattr(op, "shared", None) is not None:
        changes["shared"] = None  # who shares with whom is structure; the name they share under is not
    if not laws:
        # which parameters exist is architecture, what they are drawn from is not
        changes.update({k: ZERO for k, v in vars(op).items() if isinstance(v, Law)})
    return repr(replace(op, **changes) if changes else op).encode()


class _Refiner:
    """A graph as index lists, and the refinement of colours over it."""

    def __init__(self, graph: Graph, laws: bool) -> None:
        index = {node.name: i for i, node in enumerate(graph.nodes)}
        self.sources = [[index[s] for s in node.inputs] for node in graph.nodes]
        self.commutes = [node.op.commutative for node in graph.nodes]
        self.users: list[list[tuple[int, int]]] = [[] for _ in graph.nodes]
        for user, sources in enumerate(self.sources):
            for place, source in enumerate(sources):
                self.users[source].append((0 if self.commutes[user] else place, user))
        groups: Mapping[str, list[int]] = defaultdict(list)
        for i, node in enumerate(graph.nodes):
            if (shared := getattr(node.op, "shared", None)) is not None:
                groups[shared].append(i)
        self.partners = {i: members for members in groups.values() if len(members) > 1 for i in members}
        self.start = [_label(node.op, laws) for node in graph.nodes]
        for place, name in enumerate(graph.inputs):
            self.start[index[name]] += b"|input %d" % place
        for place, name in enumerate(graph.outputs):
            self.start[index[name]] += b"|output %d" % place

    def refine(self, colours: Colours) -> Colours:
        """Colours split until what is around the nodes splits them no further."""
        classes = len(set(colours))
        while True:
            colours = self._pass(colours)
            now = len(set(colours))
            if now in (classes, len(colours)):
                # one more pass after the last split, so that every colour has seen the final ones
                return self._pass(colours)
            classes = now

    def _pass(self, colours: Colours) -> Colours:
        """One sweep with the data and one against it."""
        if self.partners:
            colours = [
                _digest(c, *sorted(colours[j] for j in self.partners[i])) if i in self.partners else c
                for i, c in enumerate(colours)
            ]
        down: Colours = []
        for colour, sources, commutes in zip(colours, self.sources, self.commutes, strict=True):
            fed = [down[s] for s in sources]
            down.append(_digest(colour, *(sorted(fed) if commutes else fed)))
        up: Colours = list(down)
        for i in range(len(up) - 1, -1, -1):
            up[i] = _digest(down[i], *sorted(b"%d" % place + up[user] for place, user in self.users[i]))
        return up

    def tell_parts_apart(self, colours: Colours) -> Colours:
        """Colours with all parts that may be swapped freely marked by a running number, until there are none.

        Swaps of disjoint parts generate every order of them, so the numbers given are as good as any others.
        """
        while True:
            marked = list(colours)
            for group in self._interchangeable(colours):
                for place, part in enumerate(group):
                    for i in part:
                        marked[i] = _digest(colours[i], b"part %d" % place)
            if marked == colours:
                return colours
            colours = self.refine(marked)

    def _interchangeable(self, colours: Colours) -> list[list[list[int]]]:
        """Groups of two or more parts (in the order of their colours) that may be swapped in pairs."""
        counts = Counter(colours)
        tied = {i for i, colour in enumerate(colours) if counts[colour] > 1}
        alike: dict[tuple[bytes, ...], list[list[list[int]]]] = defaultdict(list)
        for part in self._parts(tied):
            part.sort(key=colours.__getitem__)
            signature = tuple(colours[i] for i in part)
            if len(set(signature)) < len(signature):
                continue  # tied within itself: no one way to lay it over another
            for group in alike[signature]:
                if self._swap(group[0], part):
                    group.append(part)
                    break
            else:
                alike[signature].append([part])
        return [group for groups in alike.values() for group in groups if len(group) > 1]

    def _parts(self, members: set[int]) -> list[list[int]]:
        """The members in connected pieces."""
        parts, left = [], set(members)
        while left:
            front = [left.pop()]
            part: list[int] = []
            while front:
                i = front.pop()
                part.append(i)
                around = {*self.sources[i], *(user for _, user in self.users[i])} & left
                left -= around
                front.extend(around)
            parts.append(part)
        return parts

    def _swap(self, a: list[int], b: list[int]) -> bool:
        """Whether exchanging a[i] with b[i] for all i and nothing else leaves the graph as it is."""
        image = dict(zip((*a, *b), (*b, *a), strict=True))
        for i, j in zip(a, b, strict=True):
            if i in self.partners or j in self.partners:
                return False
            fed = [image.get(s, s) for s in self.sources[i]]
            if (sorted(fed) != sorted(self.sources[j])) if self.commutes[i] else (fed != self.sources[j]):
                return False
            if sorted((p, image.get(u, u)) for p, u in self.users[i]) != sorted(self.users[j]):
                return False
        return True


Leaf = tuple[bytes, list[int]]  # certificate, nodes in the order of their colours


class _Search:
    """The least certificate over all ways of singling out tied nodes, symmetric ones tried once."""

    def __init__(self, refiner: _Refiner) -> None:
        self.refiner = refiner

    def best(self, colours: Colours, symmetries: list[list[int]]) -> Leaf:
        cell = _first_tie(colours)
        if cell is None:
            order = sorted(range(len(colours)), key=colours.__getitem__)
            return _digest(*(colours[i] for i in order)), order
        least: Leaf | None = None
        found: list[list[int]] = []
        tried: list[int] = []
        for member in cell:
            if _reached(tried, found, member):
                continue
            tried.append(member)
            single = self._single_out(colours, member)
            if least is None:
                least = self.best(single, found)
                continue
            quick = self._greedy(single)
            if quick[0] != least[0]:
                quick = self.best(single, found)
            if quick[0] == least[0]:
                found.append(_symmetry(least[1], quick[1]))
            least = min(least, quick)
        symmetries.extend(found)
        assert least is not None  # a tie has at least two members
        return least

    def _greedy(self, colours: Colours) -> Leaf:
        """One leaf, the first choice taken at every tie."""
        while (cell := _first_tie(colours)) is not None:
            colours = self._single_out(colours, cell[0])
        order = sorted(range(len(colours)), key=colours.__getitem__)
        return _digest(*(colours[i] for i in order)), order

    def _single_out(self, colours: Colours, member: int) -> Colours:
        marked = list(colours)
        marked[member] = _digest(marked[member], b"singled out")
        return self.refiner.refine(marked)


def _first_tie(colours: Colours) -> list[int] | None:
    """The members of the smallest tied class (by size, then colour), or None."""
    counts = Counter(colours)
    tied = [(n, colour) for colour, n in counts.items() if n > 1]
    if not tied:
        return None
    _, chosen = min(tied)
    return [i for i, colour in enumerate(colours) if colour == chosen]


def _symmetry(a: list[int], b: list[int]) -> list[int]:
    """The map of nodes that takes one leaf's order to another's."""
    image = [0] * len(a)
    for i, j in zip(a, b, strict=True):
        image[i] = j
    return image


def _reached(tried: list[int], symmetries: list[list[int]], member: int) -> bool:
    """Whether the symmetries map a member already tried onto this one."""
    seen, front = set(tried), list(tried)
    while front:
        i = front.pop()
        for image in symmetries:
            if image[i] not in seen:
                seen.add(image[i])
                front.append(image[i])
    return member in seen


def canonical_key(graph: Graph, *, laws: bool = True) -> str:
    """32 hexadecimal digits that are equal exactly for graphs equal up to names and order.

    With ``laws=False`` the laws of the parameters are left out: the key of the architecture alone.
    """
    refiner = _Refiner(graph, laws)
    colours = refiner.tell_parts_apart(refiner.refine(refiner.start))
    certificate, _ = _Search(refiner).best(colours, [])
    return certificate.hex()
