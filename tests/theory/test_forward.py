"""Forward rules against closed forms and sampled Gaussians."""

import math

import numpy as np
import pytest
import torch

import depthscale as ds
from depthscale import zoo
from depthscale.build import build
from depthscale.errors import TheoryError
from depthscale.graph import Builder, Graph, laws, ops
from depthscale.theory import copula, maxima
from depthscale.theory.axes import Axis
from depthscale.theory.forward import Setting, forward
from depthscale.theory.forward_attention import concentration
from depthscale.theory.forward_norm import tilted
from depthscale.theory.moments import State, independent, state
from tests.theory.dense import classes_of, matrix_of, random_state


def _graph(*operations: ops.Input, shape: tuple[int, ...] = (64,)) -> Graph:
    b = Builder()
    x = b.input(*shape)
    for op in operations:
        x = x.then(op)  # type: ignore[arg-type]
    return b.graph(x)


def test_residual_block_doubles_and_scaled_ones_do_not() -> None:
    plain = zoo.mlp([64, *[64] * 11, 10], residual=True, branch_scale=1.0)
    q = [r.q for r in ds.propagate(plain).rows if r.kind == "Add"]
    np.testing.assert_allclose(np.array(q[1:]) / q[:-1], 2.0, rtol=1e-3)
    scaled = zoo.mlp([64, *[64] * 11, 10], residual=True)
    q = [r.q for r in ds.propagate(scaled).rows if r.kind == "Add"]
    assert q[-1] == pytest.approx((1 + 1 / 10) ** 10, rel=1e-2)


def test_dropout_takes_two_copies_of_one_input_apart() -> None:
    """With dropout c = 1 is no fixed point of the correlation map (Schoenholz et al. 2017)."""
    kept = ds.propagate(_graph(ops.Linear(64, laws.HE), ops.Dropout(0.2), ops.Linear(64)), c_input=1.0)
    assert kept.rows[1].c == pytest.approx(1.0)
    assert kept.rows[-1].c == pytest.approx(0.8)
    evaluated = ds.propagate(
        _graph(ops.Linear(64, laws.HE), ops.Dropout(0.2), ops.Linear(64)), c_input=1.0, training=False
    )
    assert evaluated.rows[-1].c == pytest.approx(1.0)


def test_truncated_and_uniform_laws_have_their_own_variance() -> None:
    for law, variance in ((laws.Uniform(1.0, fan="in"), 1 / 3), (laws.TruncatedNormal(1.0, fan="in"), 0.7737413)):
        assert ds.propagate(_graph(ops.Linear(32, law))).rows[-1].q == pytest.approx(variance, rel=1e-6)


def test_orthogonal_laws_are_gaussian_ones_on_average() -> None:
    gaussian = ds.propagate(zoo.mlp([64, *[64] * 5, 64]))
    orthogonal = ds.propagate(
        zoo.mlp(
            [64, *[64] * 5, 64], weight=laws.Orthogonal(math.sqrt(2)), first=laws.Orthogonal(), last=laws.Orthogonal()
        )
    )
    assert [r.q for r in orthogonal.rows] == pytest.approx([r.q for r in gaussian.rows], rel=1e-9)
    assert [r.g for r in orthogonal.rows] == pytest.approx([r.g for r in gaussian.rows], rel=1e-9)


def test_delta_orthogonal_kernels_keep_the_covariance_of_positions() -> None:
    """All weight at the centre: every distance keeps its covariance, padding costs nothing (Xiao et al. 2018)."""
    b = Builder()
    x = b.input(32, 9, 9)
    law = laws.Orthogonal(delta=True)
    for _ in range(3):
        x = x.then(ops.Conv(32, (3, 3), padding=(1, 1), weight=law, bias=None))
    graph = b.graph(x)
    p = ds.propagate(graph, inputs=ds.InputStats(1.0, c=0.3, spatial=(0.9, 0.7, 0.2)), batch=4)
    start, end = p.states[graph.nodes[0].name], p.states[graph.outputs[0]]
    assert end.q == pytest.approx(start.q, rel=1e-9, abs=1e-12)
    assert p.rows[0].g == pytest.approx(1.0, rel=1e-9)
    # the gradient of the kernel is spread over all taps
    module = build(graph, 0)
    images = torch.randn(4, 32, 9, 9, generator=torch.Generator().manual_seed(0), requires_grad=True)
    y = module(images)
    assert float(y.detach().square().mean()) == pytest.approx(float(images.detach().square().mean()), rel=1e-5)
    y.backward(torch.randn(y.shape, generator=torch.Generator().manual_seed(1)))
    white = ds.propagate(graph, batch=4)
    for name, parameter in module.named_parameters():
        assert float(parameter.grad.square().mean()) == pytest.approx(white.gradients[name], rel=0.05)


def test_standardised_weights_do_not_see_what_their_inputs_have_in_common() -> None:
    """Rows that sum to zero have negative products; fed as a tensor or owned, after ReLU they lose the mean."""
    n, q = 64, 1 / 64
    law = laws.Measured(0.0, q, row=-q / (n - 1))  # w − w̄ over n entries
    b = Builder()
    x = b.input(n).then(ops.Activation("relu"))
    owned = x.then(ops.Linear(128, weight=law, bias=None))
    fed = b.graph(x.then(ops.Linear(128, weight=None, bias=None), b.add(ops.Parameter((128, n), law))))
    variance = 0.5 - 1 / (2 * math.pi)  # of relu(z)
    for graph in (b.graph(owned), fed):
        p = ds.propagate(graph, c_input=0.0)
        assert p.rows[-1].q == pytest.approx(variance * n * q * n / (n - 1), rel=2e-2)
        y = build(graph, 0)(torch.randn(4096, n, generator=torch.Generator().manual_seed(0)))
        assert float(y.detach().square().mean()) == pytest.approx(p.rows[-1].q, rel=0.05)


def test_a_branch_of_gain_zero_leaves_the_law_of_the_shortcut() -> None:
    """relu(relu(x) + 0) is relu(x), forward and backward: half of the units, not three quarters."""
    b = Builder()
    x = b.input(64).then(ops.BatchNorm(weight=laws.ONE, bias=laws.ZERO)).then(ops.Activation("relu"))
    branch = x.then(ops.Linear(64, weight=laws.HE, bias=None)).then(ops.BatchNorm(weight=laws.ZERO, bias=laws.ZERO))
    p = ds.propagate(b.graph((x + branch).then(ops.Activation("relu"))))
    assert p.rows[-1].q == pytest.approx(0.5, rel=1e-4)  # a batch of 32, with ε
    ends = p.states[p.rows[-2].name].law
    assert ends is not None
    assert np.all(ends[copula.nodes() < 0] == 0.0)  # exactly: ReLU bends there
    assert p.rows[-2].g == pytest.approx(0.5, rel=1e-3)


def test_weights_with_a_mean_move_everything_together() -> None:
    """E y² = Var w Σ E x² + w̄² (Σ E x_i x_j): the mean of ReLU outputs adds up."""
    graph = _graph(ops.Activation("relu"), ops.Linear(16, laws.Normal(0.1, mean=0.05)), shape=(64,))
    q, m = 0.5, 1 / math.sqrt(2 * math.pi)
    row = ds.propagate(graph).rows[-1]
    assert row.q == pytest.approx(64 * 0.01 * q + 0.0025 * (64 * q + 64 * 63 * m * m))
    assert row.mean == pytest.approx(64 * 0.05 * m)


def test_batch_norm_of_a_small_batch() -> None:
    """Two different examples of a batch of B correlate at −1/(B − 1): their mean is zero."""
    row = ds.propagate(_graph(ops.Linear(32), ops.BatchNorm(eps=0.0)), batch=5).rows[-1]
    assert row.q == pytest.approx(1.0)
    assert row.c == pytest.approx(-1 / 4)


def test_units_of_fluctuating_length_share_less() -> None:
    """E[x_i x_j / V] of one Gaussian unit with a common pattern, sampled."""
    rng = np.random.default_rng(0)
    n = 16
    x = state((Axis(n),), np.array([1.0, 0.4]))
    samples = rng.multivariate_normal(np.zeros(n), matrix_of(x), size=400_000)
    v = (samples**2).mean(axis=1, keepdims=True)
    other = ((samples.sum(axis=1, keepdims=True) ** 2 - (samples**2).sum(axis=1, keepdims=True)) / v).mean() / (
        n * (n - 1)
    )
    found = tilted(x.q, x.axes, (0,))
    assert found[0] == pytest.approx(1.0)
    assert found[1] == pytest.approx(other, abs=0.02)
    assert abs(found[1] - other) < abs(0.4 - other) / 3  # far nearer than the ratio of averages


def test_concat_in_front_of_batch_norm_normalises_every_part() -> None:
    b = Builder()
    x = b.input(64)
    y = x.then(ops.Linear(64, laws.Normal(3.0, fan="in")))
    z = x.then(ops.Linear(32, laws.Normal(0.1, fan="in")))
    p = ds.propagate(b.graph(y.then(ops.Concat(), z).then(ops.BatchNorm(eps=0.0))), batch=8)
    assert p["concat1"].q == pytest.approx((64 * 9 + 32 * 0.01) / 96)
    assert p.rows[-1].q == pytest.approx(1.0)
    back = p.gradient_states["concat1"]
    assert back.axes[1].parts == (64, 32)
    same = back.q[0, :2]
    assert same[1] / same[0] == pytest.approx(900.0, rel=1e-6)  # gradients grow by 1/V of their own part


@pytest.mark.parametrize("n", [2, 4, 9])
def test_maxima_against_samples(n: int) -> None:
    rng = np.random.default_rng(n)
    runs = 300_000
    u = rng.normal(size=(runs, n))
    mean, variance = maxima.single(float(n))
    assert mean == pytest.approx(u.max(axis=1).mean(), abs=4e-3)
    assert variance == pytest.approx(u.max(axis=1).var(), abs=6e-3)
    for r in (0.3, 0.7, 0.95):
        v = r * u + math.sqrt(1 - r * r) * rng.normal(size=(runs, n))
        sampled = np.cov(u.max(axis=1), v.max(axis=1))[0, 1]
        assert maxima.covariance(float(n), float(n), np.array(r)) == pytest.approx(sampled, abs=6e-3)
        alike = (u.argmax(axis=1) == v.argmax(axis=1)).mean()
        assert maxima.match(float(n), np.array(r)) == pytest.approx(alike, abs=8e-3)
    shared = max(n // 2, 1)
    w = np.concatenate([u[:, :shared], rng.normal(size=(runs, n - shared))], axis=1)
    sampled = np.cov(u.max(axis=1), w.max(axis=1))[0, 1]
    assert maxima.covariance(float(n), float(shared), np.array(1.0)) == pytest.approx(sampled, abs=8e-3)


def test_maximum_of_correlated_gaussians() -> None:
    rng = np.random.default_rng(1)
    z = copula.nodes()
    h = maxima.quantiles(4.0, 0.5, z)
    u = math.sqrt(0.5) * rng.normal(size=(300_000, 1)) + math.sqrt(0.5) * rng.normal(size=(300_000, 4))
    assert copula.average(h) == pytest.approx(u.max(axis=1).mean(), abs=5e-3)
    assert copula.average(h**2) == pytest.approx((u.max(axis=1) ** 2).mean(), abs=1e-2)


def test_the_law_of_a_sum_that_is_not_gaussian() -> None:
    rng = np.random.default_rng(2)
    x = np.maximum(rng.normal(size=1_000_000) * 1.3, 0) + rng.normal(size=1_000_000)
    law = copula.sum_law(np.maximum(1.3 * copula.nodes(), 0), copula.nodes())
    for f in (lambda t: t, lambda t: t * t, lambda t: np.maximum(t, 0), lambda t: np.maximum(t, 0) ** 2, np.tanh):
        assert copula.average(f(law)) == pytest.approx(f(x).mean(), abs=6e-3)


@pytest.mark.parametrize(("n", "variance"), [(4, 0.5), (16, 2.0), (64, 9.0)])
def test_softmax_weights_against_samples(n: int, variance: float) -> None:
    rng = np.random.default_rng(3)
    a = np.exp(math.sqrt(variance) * rng.normal(size=(60_000, n)))
    a /= a.sum(axis=1, keepdims=True)
    squares = (a**2).sum(axis=1)
    assert concentration(n, variance) == pytest.approx(squares.mean(), abs=4 * squares.std() / math.sqrt(60_000) + 1e-4)


def test_attention_averages_small_logits_and_picks_at_large_ones() -> None:
    tokens = independent((Axis(2), Axis(1), Axis(32), Axis(16)), 1.0)
    small = tokens.with_q(tokens.q * 1e-8)
    large = tokens.with_q(tokens.q * 1e5)
    setting = Setting(2)
    assert forward(ops.Attention(), setting, small, small, tokens).length == pytest.approx(1 / 32, rel=1e-3)
    assert forward(ops.Attention(), setting, large, large, tokens).length == pytest.approx(1.0, abs=0.02)


def test_causal_rows_average_over_their_lengths() -> None:
    tokens = independent((Axis(2), Axis(1), Axis(24), Axis(16)), 1.0)
    y = forward(ops.Attention(causal=True), Setting(2), tokens.with_q(tokens.q * 1e-9), tokens, tokens)
    assert y.length == pytest.approx(np.mean(1 / np.arange(1, 25)), rel=2e-2)


def test_masked_softmax_averages_over_what_it_sees() -> None:
    logits = independent((Axis(2), Axis(1), Axis(24), Axis(24)), 1e-9)
    y = forward(ops.Softmax(causal=True), Setting(2), logits)
    assert y.length * 24 == pytest.approx(np.mean(1 / np.arange(1, 25)), rel=2e-2)
    y = forward(ops.Softmax(visible=6), Setting(2), logits)
    assert y.length * 24 == pytest.approx(1 / 6, rel=1e-3)
    tokens = independent((Axis(2), Axis(1), Axis(24), Axis(16)), 1.0)
    y = forward(ops.Attention(visible=6), Setting(2), tokens.with_q(tokens.q * 1e-9), tokens, tokens)
    assert y.length == pytest.approx(1 / 6, rel=1e-3)


def test_padding_with_a_number_puts_that_number_there() -> None:
    """Features N(0, 1) beside a column of twos: each part keeps its own mean and length (linear attention's sums)."""
    b = Builder()
    x = b.input(5, 16).then(ops.Linear(16, laws.LECUN)).then(ops.Pad((0, 1), 2.0))
    own, ones = x.then(ops.Slice(2, 0, 16)), x.then(ops.Slice(2, 16))
    p = ds.propagate(b.graph(own, ones))
    seen = {r.shape[-1]: (r.mean, r.q) for r in p.rows if isinstance(r.op, ops.Slice)}
    np.testing.assert_allclose(seen[16], (0.0, 1.0), atol=1e-12)
    np.testing.assert_allclose(seen[1], (2.0, 4.0))


def test_embedding_knows_that_places_may_hold_the_same_token() -> None:
    b = Builder()
    x = b.input(10, dtype="int").then(ops.Embedding(20, 8, laws.Normal(2.0)))
    row = ds.propagate(b.graph(x)).rows[-1]
    assert row.q == pytest.approx(4.0)
    assert row.c == pytest.approx(1 / 20)


def test_written_out_silu_is_silu() -> None:
    b = Builder()
    x = b.input(64).then(ops.Linear(64, laws.Normal(1.7, fan="in")))
    product = x.then(ops.Multiply(), x.then(ops.Activation("sigmoid"))).then(ops.Linear(64))
    one = ds.propagate(b.graph(product), c_input=0.4)
    named = ds.propagate(
        _graph(ops.Linear(64, laws.Normal(1.7, fan="in")), ops.Activation("silu"), ops.Linear(64)), c_input=0.4
    )
    assert one.rows[-1].q == pytest.approx(named.rows[-1].q, rel=1e-9)
    assert one.rows[-1].c == pytest.approx(named.rows[-1].c, rel=1e-9)
    assert one["input"].g == pytest.approx(named["input"].g, rel=1e-9)


def test_relu_in_front_of_a_max_pool_is_pooled_whole() -> None:
    """The largest of four ReLUs is the ReLU of the largest: its second moment, by quadrature."""
    b = Builder()
    x = b.input(8, 8, 8).then(ops.Conv(32, (1, 1), weight=laws.LECUN)).then(ops.Activation("relu")).then(ops.MaxPool(2))
    p = ds.propagate(b.graph(x))
    z = np.random.default_rng(4).normal(size=(1_000_000, 4)).max(axis=1)
    assert p.rows[-1].q == pytest.approx((np.maximum(z, 0) ** 2).mean(), rel=5e-3)
    # a gradient reaches the convolution wherever the maximum is positive: 15 of 16 windows
    assert p["conv1"].energy / p["pool1"].energy == pytest.approx(15 / 16, abs=5e-3)


def test_quotients_need_a_divisor_away_from_zero() -> None:
    b = Builder()
    x = b.input(16)
    with pytest.raises(TheoryError, match=r"node 'divide1'.*standard deviations from zero"):
        ds.propagate(b.graph(x.then(ops.Linear(16)).then(ops.Divide(), x.then(ops.Linear(16)))))


def test_functions_without_a_second_moment_say_so() -> None:
    with pytest.raises(TheoryError, match="second moment"):
        ds.propagate(_graph(ops.Activation("exp"), shape=(8,)), q_input=1e6)


def test_input_statistics() -> None:
    stats = ds.InputStats(second_moment=1.25, mean=0.5, c=0.4, channels=0.3, spatial=(0.9, 0.8, 0.1))
    x = stats.state(ops.Input((3, 8, 8)), 4)
    assert isinstance(x, State)
    assert x.q[0, 0, 0, 0] == pytest.approx(1.25)
    assert x.q[1, 0, 0, 0] == pytest.approx(0.4 * 1.25)
    assert x.q[0, 0, 1, 0] == pytest.approx(0.25 + 0.9)
    assert x.q[0, 1, 0, 0] == pytest.approx(0.25 + 0.3)
    pooled = ds.propagate(_graph(ops.AvgPool(2), shape=(3, 8, 8)), inputs=stats)
    # of four pixels' sixteen pairs: four the same, four each a step apart along one axis, four diagonal
    assert pooled.rows[-1].q == pytest.approx(0.25 + (1 + 0.9 + 0.9 + 0.81) / 4)


def test_sums_along_a_padded_image_are_exact() -> None:
    """A linear padded convolution of a stationary image, edges included, against the dense matrix."""
    x = random_state((Axis(2), Axis(2), Axis(5, 3), Axis(5, 3)), np.random.default_rng(5))
    op = ops.Conv(3, (3, 3), 1, 1, weight=laws.Normal(0.4), bias=laws.ZERO)
    y = forward(op, Setting(2), x)
    dense = matrix_of(x).reshape(2, 2, 25, 2, 2, 25)
    per_tap = np.zeros((2, 25, 2, 25))
    for dy in range(3):
        for dx in range(3):
            m = np.kron(np.eye(5, k=dy - 1), np.eye(5, k=dx - 1))
            per_tap += np.einsum("pq,bqcr,sr->bpcs", m, np.einsum("bipcis->bpcs", dense), m) * 0.16
    full = np.einsum("bpcs,ij->bipcjs", per_tap, np.eye(3)).reshape(150, 150)
    np.testing.assert_allclose(y.q, classes_of(full, y.axes), rtol=1e-9, atol=1e-12)


def test_products_with_joined_parts_keep_the_mean_of_each() -> None:
    """Keys through ReLU against values with a one appended, as in linear attention: Σ_n relu(k_n) 1 = N/√(2π)."""
    b = Builder()
    x = b.input(24, 96)
    k = x.then(ops.Linear(48, laws.LECUN, laws.ZERO)).then(ops.Activation("relu"))
    v = x.then(ops.Linear(48, laws.LECUN, laws.ZERO)).then(ops.Pad((0, 1), value=1.0))
    y = k.then(ops.Permute((0, 2, 1))).then(ops.MatMul(), v)  # (B, 48, 49)
    p = ds.propagate(b.graph(y.then(ops.Slice(2, 0, 48)), y.then(ops.Slice(2, 48))))
    values, sums = p.rows[-2], p.rows[-1]
    assert values.mean == pytest.approx(0.0, abs=1e-9)
    assert sums.mean == pytest.approx(24 / math.sqrt(2 * math.pi))
    assert values.q == pytest.approx(24 / 2, rel=1e-6)  # Σ_n E[relu²] E[v²]: tokens are independent
