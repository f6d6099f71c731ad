import contextlib
from collections import Counter

import networkx
import numpy as np
import pytest

from depthscale.errors import GraphError, SearchError
from depthscale.graph import Builder, ops
from depthscale.search.features import cell_features, graph_features, of_decisions
from depthscale.search.space import TRAINING, Script, as_space, jointly, within
from depthscale.search.spaces import names, space
from depthscale.search.spaces.parts import Step, add_steps, batch_normed


def draws(s, n, start=0):
    """n valid draws."""
    found, seed = [], start
    while len(found) < n:
        with contextlib.suppress(GraphError):
            found.append(s.sample(np.random.default_rng(seed)))
        seed += 1
        assert seed < start + 40 * n
    return found


@pytest.mark.parametrize("name", names())
class TestEvery:
    def test_networks_fit_the_data(self, name):
        shape = (5,) if name == "mlp" else (1, 12, 12)
        s = space(name, input_shape=shape, outputs=3)
        for found in draws(s, 3):
            g = s.graph(found.architecture)
            shapes = g.shapes()
            assert shapes[g.inputs[0]] == (1, *shape)
            assert shapes[g.outputs[0]] == (1, 3)

    def test_a_script_of_the_decisions_gives_the_network_again(self, name):
        s = space(name)
        for found in draws(s, 2, 7):
            again = s.draw(Script(found.decisions)).architecture
            assert s.graph(again).key == s.graph(found.architecture).key

    def test_tables_where_images_are_needed(self, name):
        if name == "mlp":
            assert draws(space(name, input_shape=(1, 4, 4), outputs=2), 1)
        else:
            with pytest.raises(SearchError, match="needs images"):
                space(name, input_shape=(5,))


class TestLayerwise:
    def test_never_larger_than_asked(self):
        for most in (5_000, 60_000):
            s = space("layerwise", parameters=most)
            assert all(d.architecture.cost().parameters <= most for d in draws(s, 10))

    def test_nothing_but_hidden_layers_behind_a_hidden_layer(self):
        for found in draws(space("layerwise", parameters=None), 40):
            kinds = [type(n.op) for n in found.architecture.nodes if isinstance(n.op, ops.Conv | ops.Linear)]
            assert kinds == sorted(kinds, key=lambda k: k is ops.Linear)
            assert kinds.count(ops.Linear) <= 3

    def test_depth_is_not_fixed(self):
        depths = {d.architecture.cost().depth for d in draws(space("layerwise"), 40)}
        assert len(depths) >= 4


class TestSteps:
    def sums(self, *steps):
        net = Builder()
        x = net.input(2, 8, 8)
        return net.graph(add_steps(x, [Step(*s) for s in steps], batch_normed("relu")))

    def test_what_feeds_nothing_is_summed(self):
        g = self.sums(((0,), "max pool"), ((0,), "conv1x1"), ((1,), "conv3x3"))
        assert isinstance(g[g.outputs[0]].op, ops.Add)
        assert len(g[g.outputs[0]].inputs) == 2

    def test_one_value_twice_is_one_value(self):
        """Two skips of the input are the input, not twice the input."""
        g = self.sums(((0,), "skip"), ((0,), "skip"), ((1, 2), "max pool"))
        assert not [n for n in g.nodes if isinstance(n.op, ops.Add)]

    def test_blocks_repeat_and_whole_networks_do_not(self):
        block = draws(space("blockwise", nodes=2, repeats=3), 1)[0]
        assert len(block.decisions) == 6
        assert len(draws(space("whole", nodes=7), 1)[0].decisions) == 21


class TestNasBench101:
    def test_at_most_nine_edges_and_always_connected(self):
        """As the paper counts them; what has more, or no path, is refused."""
        s = space("nasbench101", stacks=1, cells=1, width=8)
        valid = invalid = 0
        for seed in range(60):
            rng = np.random.default_rng(seed)
            decisions = {f"edge{i}{j}": bool(rng.integers(2)) for j in range(1, 7) for i in range(j)}
            decisions |= {f"op{v}": "conv1x1" for v in range(1, 6)}
            net = networkx.DiGraph([(int(k[4]), int(k[5])) for k, v in decisions.items() if v is True])
            connected = 0 in net and 6 in net and networkx.has_path(net, 0, 6)
            used = {v for p in networkx.all_simple_paths(net, 0, 6) for v in p} if connected else set()
            if connected and net.subgraph(used).number_of_edges() <= 9:
                s.draw(Script(decisions))
                valid += 1
            else:
                with pytest.raises(GraphError):
                    s.draw(Script(decisions))
                invalid += 1
        assert valid > 5
        assert invalid > 5

    def test_counts_itself(self):
        """Up to four vertices there are 91 different cells (Ying et al. 2019)."""
        assert space("nasbench101", vertices=4).count(distinct=True) == 91


class TestWithinAndJointly:
    def test_within(self):
        s = within(space("mlp", input_shape=(4,)), 1_000)
        assert all(d.architecture.cost().parameters <= 1_000 for d in draws(s, 5))
        with pytest.raises(GraphError, match="at most 10 parameters"):
            within(space("mlp", input_shape=(4,)), 10).sample(np.random.default_rng(0))

    def test_within_leaves_it_to_the_space_to_say_what_is_no_network(self):
        with pytest.raises(SearchError, match="to return a Graph"):
            within(as_space(lambda d: 3), 10).sample(np.random.default_rng(0))

    def test_jointly(self):
        s = jointly(space("mlp"))
        counts = Counter()
        for found in draws(s, 20):
            own = {k.removeprefix(TRAINING) for k in found.decisions if k.startswith(TRAINING)}
            counts[found.decisions[f"{TRAINING}optimiser"]] += 1
            assert own == {
                "optimiser",
                "batch",
                "weight_decay",
                f"learning_rate_{found.decisions[f'{TRAINING}optimiser']}",
            }
        assert set(counts) == {"adamw", "sgd"}


class TestFeatures:
    def test_of_a_chain(self):
        """conv 3 × 3, conv 5 × 5, pool 2 × 2, beside nothing: one path, windows 2 + 4 + 1."""
        net = Builder()
        x = net.input(1, 8, 8).then(ops.Conv(2, (3, 3), padding=1)).then(ops.Conv(2, (5, 5), padding=2))
        g = net.graph(x.then(ops.MaxPool(2, 2)))
        f = graph_features(g)
        assert f[-1] == 0
        assert f[4] == f[5] == pytest.approx(np.log(8))
        assert f[0] == pytest.approx(np.log(g.cost().parameters))

    def test_paths_against_listing_them(self):
        g = draws(space("blockwise", nodes=5, repeats=1), 1, 3)[0].architecture
        net = networkx.DiGraph([(s, n.name) for n in g.nodes for s in n.inputs])
        paths = list(networkx.all_simple_paths(net, g.inputs[0], g.outputs[0]))

        def side(name):
            op = g[name].op
            return max(op.kernel) - 1 if isinstance(op, ops.Conv | ops.MaxPool | ops.AvgPool) else 0

        lengths = [sum(map(side, p)) for p in paths]
        f = graph_features(g)
        assert f[-1] == pytest.approx(np.log(len(paths)))
        assert np.exp(f[4:6]) == pytest.approx([max(lengths) + 1, min(lengths) + 1])

    def test_of_a_cell(self):
        """333133: paths 1; 3-3; 3-3; 3-3-3 are open, of 0, 2, 2 and 3 large convolutions."""
        f = cell_features("333133")
        assert f[:3].tolist() == [4, 3, 7]
        assert cell_features("000000")[0] == 0

    def test_by_decisions(self):
        s = space("nasbench201")
        found = s.sample(np.random.default_rng(0))
        features = of_decisions(s)
        assert features(found.decisions) == pytest.approx(cell_features(found.architecture))
        assert features(dict(list(found.decisions.items())[:3])) is not None

    def test_none_where_the_decisions_make_no_network(self):
        s = within(space("mlp"), 1)
        assert of_decisions(s)({"width": 16}) is None
