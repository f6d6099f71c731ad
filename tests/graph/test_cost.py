"""Cost against published figures and counts by hand; parameters against shapes written out."""

import pytest

from depthscale import zoo
from depthscale.errors import GraphError
from depthscale.graph import Graph, Node, all_parameters, laws, ops


def test_multiply_adds_and_parameters_of_published_networks():
    # Canziani et al. 2016 and torchvision's model page (GFLOPS column): ResNet-18 1.81, ResNet-50 4.09, VGG-16 15.47
    for graph, parameters, giga in (
        (zoo.resnet(18), 11_689_512, 1.81),
        (zoo.resnet(50), 25_557_032, 4.09),
        (zoo.vgg(16), 138_357_544, 15.47),
    ):
        cost = graph.cost()
        assert cost.parameters == parameters
        assert cost.multiply_adds / 1e9 == pytest.approx(giga, abs=0.005)


def test_lenet_by_hand():
    cost = zoo.lenet5().cost()
    assert cost.parameters == (25 + 1) * 6 + (25 * 6 + 1) * 16 + 401 * 120 + 121 * 84 + 85 * 10
    assert cost.multiply_adds == 28 * 28 * 6 * 25 + 100 * 16 * 150 + 400 * 120 + 120 * 84 + 84 * 10
    assert cost.depth == 5


def test_work_grows_with_the_batch_and_parameters_do_not():
    one, many = zoo.lenet5().cost(), zoo.lenet5().cost(batch=32)
    assert many.multiply_adds == 32 * one.multiply_adds
    assert many.activation_bytes == 32 * one.activation_bytes
    assert many.parameters == one.parameters
    assert one.peak_bytes < one.activation_bytes


def test_peak_memory_of_a_skip_connection_counts_what_waits():
    x, a = Node("x", ops.Input((10,))), Node("a", ops.Linear(100), ("x",))
    b, c = Node("b", ops.Linear(10), ("a",)), Node("c", ops.Add(), ("x", "b"))
    plain = Graph((x, a, b)).cost().peak_bytes
    assert plain == 4 * (100 + 10)
    assert Graph((x, a, b, c)).cost().peak_bytes == 4 * (10 + 100 + 10)


def test_a_billion_units_cost_nothing_to_cost():
    graph = Graph((Node("x", ops.Input((10**9,))), Node("y", ops.Linear(10**9), ("x",))))
    assert graph.cost().parameters == 10**18 + 10**9


def test_shared_parameters_count_once_and_must_agree():
    x = Node("x", ops.Input((4,)))
    a, b = Node("a", ops.Linear(4, shared="w"), ("x",)), Node("b", ops.Linear(4, shared="w"), ("a",))
    assert set(all_parameters(Graph((x, a, b)))) == {"w.weight", "w.bias"}
    assert Graph((x, a, b)).cost().parameters == 20
    clash = Node("b", ops.Linear(5, shared="w"), ("a",))
    with pytest.raises(GraphError, match=r"'b'.*'w.weight'.*\(4, 4\) and \(5, 4\)"):
        Graph((x, a, clash)).cost()


def test_fans_follow_the_weight():
    spec = all_parameters(Graph((Node("x", ops.Input((8, 5, 5))), Node("c", ops.Conv(12, 3, groups=4), ("x",)))))
    assert spec["c.weight"].shape == (12, 2, 3, 3)
    assert spec["c.weight"].fans == (18, 108)
    assert spec["c.bias"].fans == (18, 108)
    assert spec["c.weight"].moments.mean_square == pytest.approx(1 / (3 * 18))


@pytest.mark.parametrize(
    ("law", "shape", "expected"),
    [
        (laws.HE, (50, 100), 2 / 100),
        (laws.HE_OUT, (50, 100), 2 / 50),
        (laws.XAVIER, (50, 100), 2 / 150),
        (laws.TORCH_DEFAULT, (50, 100), 1 / 300),
        (laws.Orthogonal(1.5), (50, 100), 2.25 / 100),
        (laws.Orthogonal(1.5), (100, 50), 2.25 / 100),
        (laws.Constant(3.0), (50, 100), 9.0),
        (laws.Measured(1.0, 4.0), (50, 100), 4.0),
    ],
)
def test_mean_squares(law, shape, expected):
    assert law.moments(shape, laws.Fans(shape[1], shape[0])).mean_square == pytest.approx(expected)


def test_truncated_normal_against_quadrature():
    from scipy.integrate import quad

    def density(z):
        return 2.718281828459045 ** (-z * z / 2)

    square = quad(lambda z: z * z * density(z), -1.5, 1.5)[0] / quad(density, -1.5, 1.5)[0]
    law = laws.TruncatedNormal(0.02, cut=1.5)
    assert law.moments((3,), laws.Fans(1, 1)).mean_square == pytest.approx(0.02**2 * square, rel=1e-10)
