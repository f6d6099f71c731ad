import itertools
import math
from collections import Counter

import numpy as np
import pytest
from scipy import stats

from depthscale import zoo
from depthscale.errors import SearchError
from depthscale.graph import Graph
from depthscale.search.space import Choice, Dice, Range, Script, Space, as_space, within
from depthscale.search.spaces import space


def chain(decide):
    """One to three hidden layers, widths apart: 2 + 4 + 8 draws; the last decision is made only where it matters."""
    depth = decide("depth", [1, 2, 3])
    widths = [decide(f"width{i}", [4, 8]) for i in range(depth)]
    return zoo.mlp((5, *widths, 2), "relu")


def widths():
    """All of its networks."""
    return [w for n in (1, 2, 3) for w in itertools.product([4, 8], repeat=n)]


class TestSpace:
    def test_draws_are_graphs_with_their_decisions(self):
        found = as_space(chain).sample(np.random.default_rng(0))
        assert isinstance(found.architecture, Graph)
        assert len(found.decisions) == 1 + found.decisions["depth"]

    def test_counts_itself(self):
        assert as_space(chain).count() == 2 + 4 + 8

    def test_everything_is_listed_once(self):
        drawn = [tuple(d.decisions.items()) for d in as_space(chain).everything()]
        assert len(drawn) == len(set(drawn)) == 14

    def test_real_numbers_cannot_be_counted(self):
        assert as_space(lambda d: zoo.mlp((5, 4, 2)) if d.between("x", 0.0, 1.0) else None).count() == math.inf

    def test_whole_numbers_can(self):
        assert as_space(lambda d: zoo.mlp((5, d.between("w", 2, 9), 2))).count(distinct=True) == 8

    def test_too_many_to_count_is_said(self):
        with pytest.raises(SearchError, match="more than 10 draws"):
            as_space(chain).count(most=10)

    def test_distinct_networks_are_fewer_than_draws(self):
        """A decision without consequence."""
        idle = as_space(lambda d: (d("nothing", ["a", "b", "c"]), zoo.mlp((5, d("width", [4, 8]), 2)))[1])
        assert idle.count() == 6
        assert idle.count(distinct=True) == 2
        assert len(list(idle.distinct(np.random.default_rng(0), tries=200))) == 2

    def test_uniform_over_networks_not_over_draws(self):
        """Depth 1 has 2 of 14 networks, but a third of random draws."""
        drawn = as_space(chain).uniform(np.random.default_rng(0), 1400)
        counts = Counter(tuple(d.decisions.items()) for d in drawn)
        assert len(counts) == 14
        assert stats.chisquare(list(counts.values())).pvalue > 1e-3
        shallow = sum(as_space(chain).sample(np.random.default_rng(i)).decisions["depth"] == 1 for i in range(300))
        assert 60 < shallow < 140

    def test_script_repeats_a_draw(self):
        s = as_space(chain)
        found = s.sample(np.random.default_rng(3))
        assert s.draw(Script(found.decisions)).architecture.key == found.architecture.key


class TestBadInput:
    def test_raises(self):
        with pytest.raises(SearchError, match=r"raised ZeroDivisionError: division by zero, after the decisions"):
            as_space(lambda d: 1 / (d("x", [0]))).sample(np.random.default_rng(0))

    def test_returns_something_else(self):
        with pytest.raises(SearchError, match="to return a Graph, got str"):
            as_space(lambda d: "mlp").sample(np.random.default_rng(0))

    def test_twice_with_other_choices(self):
        def twice(decide):
            decide("op", ["a", "b"])
            decide("op", ["a", "c"])

        with pytest.raises(SearchError, match="made twice with different choices"):
            as_space(twice).sample(np.random.default_rng(0))

    def test_twice_the_same_is_the_same(self):
        def twice(decide):
            assert decide("op", list("abcdef")) == decide("op", list("abcdef"))
            return zoo.mlp((5, 4, 2))

        for seed in range(20):
            as_space(twice).sample(np.random.default_rng(seed))

    def test_a_loop_that_never_ends(self):
        def same(decide):
            while decide("more", [True, False]):  # answered once, and the same ever after
                pass
            return zoo.mlp((5, 2))

        def growing(decide):
            return zoo.mlp((5, *(decide(f"width{i}", [4, 8]) for i in itertools.count()), 2))

        for endless in (same, growing):
            with pytest.raises(SearchError, match="does not end; end its loops"):
                as_space(endless).draw(Script({"more": True}, lambda name, domain: domain.options[0]))

    def test_no_choice(self):
        with pytest.raises(SearchError, match="at least one choice"):
            Dice(np.random.default_rng(0))("x", [])

    def test_choices_that_repeat(self):
        with pytest.raises(SearchError, match="to differ"):
            Dice(np.random.default_rng(0))("x", [1, 1])

    def test_choices_that_are_objects(self):
        with pytest.raises(SearchError, match="text, numbers or booleans"):
            Dice(np.random.default_rng(0))("x", [object()])

    @pytest.mark.parametrize(("low", "high", "log"), [(2, 1, False), (0.0, 1.0, True), (0.0, math.inf, False)])
    def test_ranges(self, low, high, log):
        with pytest.raises(SearchError, match="low ≤ high"):
            Dice(np.random.default_rng(0)).between("x", low, high, log=log)

    def test_no_function(self):
        with pytest.raises(SearchError, match="a function of"):
            as_space(7)

    def test_unknown_name(self):
        with pytest.raises(SearchError, match="did you mean 'nasbench201'"):
            space("nasbench21")


class TestDomains:
    def test_whole_numbers_are_equally_likely(self):
        rng = np.random.default_rng(0)
        counts = Counter(Range(1, 6, whole=True).draw(rng) for _ in range(3000))
        assert set(counts) == set(range(1, 7))
        assert stats.chisquare(list(counts.values())).pvalue > 1e-3

    def test_logarithmic(self):
        rng = np.random.default_rng(0)
        x = np.log10([float(Range(1e-4, 1e-1, log=True).draw(rng)) for _ in range(2000)])
        assert stats.kstest(x, "uniform", (-4, 3)).pvalue > 1e-3

    def test_neighbours(self):
        assert Choice(("a", "b", "c")).others("b") == ("a", "c")
        assert Range(1, 5, whole=True).others(1) == (2,)
        assert all(0 <= float(x) <= 1 for x in Range(0, 1).others(0.95))


class TestNasBench201:
    def test_counts(self):
        """15,625 cells, 6,466 networks (Dong & Yang 2020)."""
        s = space("nasbench201")
        assert s.count() == 15_625
        assert s.count(distinct=True) == 6_466

    def test_graphs_have_the_published_size(self):
        """No convolutions 73,306 parameters, + 28,000 per 1 × 1, + 243,040 per 3 × 3 (the authors' networks)."""
        s = space("nasbench201")
        for seed in range(3):
            found = s.sample(np.random.default_rng(seed))
            ops = list(found.decisions.values())
            expected = 73_306 + 28_000 * ops.count("nor_conv_1x1") + 243_040 * ops.count("nor_conv_3x3")
            assert s.graph(found.architecture).cost().parameters == expected

    def test_what_makes_no_network_is_no_draw(self):
        s = within(as_space(chain), 60)  # 5-8-2 has 66 parameters, 5-4-4-2 has 54
        assert s.count() == sum(zoo.mlp((5, *w, 2), "relu").cost().parameters <= 60 for w in widths())
        assert len(list(s.distinct(np.random.default_rng(0), tries=300))) == s.count()
        assert {d.architecture.key for d in s.uniform(np.random.default_rng(0), 50)} <= {
            d.architecture.key for d in s.everything()
        }

    def test_identity_may_be_anything(self):
        s = Space("one", lambda d: d("x", [1, 2]), lambda a: zoo.mlp((5, a, 2)))
        assert s.count(distinct=True) == 2
