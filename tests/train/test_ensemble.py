"""An ensemble against its oracle: every member trained alone by the ordinary loop, with autograd.

In double precision the two agree to 1e-9 after some dozen steps: they do the same sums in another order. In single
precision they part by about 1e-7 a step, and a chaotic network multiplies that, so only short runs are compared.
"""

import math

import pytest
import torch

from depthscale import zoo
from depthscale.build import build
from depthscale.errors import TrainingError
from depthscale.graph import Builder, blocks, laws, ops
from depthscale.train import Budget, TrainConfig, fit
from depthscale.train.ensemble import Member, train_ensemble
from depthscale.train.ensemble.dense import refusal
from depthscale.train.ensemble.memory import parse_bytes
from depthscale.train.ensemble.pointwise import Tanh, pointwise
from tests.train import toys

BASE = TrainConfig(
    budget=Budget(steps=12),
    batch=32,
    optimiser="sgd",
    lr=0.05,
    momentum=0.9,
    nesterov=False,
    weight_decay=0.0,
    schedule="constant",
    warmup=0.0,
    keep_best=False,
    seed=5,
)


def plain(act="tanh", sw2=1.5, sb2=0.05, **options):
    law = {"weight": laws.variance(sw2), "first": laws.variance(sw2), "bias": laws.Normal(math.sqrt(sb2))}
    return zoo.mlp((64, 16, 16, 16, 3), act, input_shape=(1, 8, 8), **(law | options))


def alone(graph, member, dataset, config, order):
    """The member trained by itself: final weights, validation metrics."""
    own = {k: v for k in ("lr", "momentum", "weight_decay") if (v := getattr(member, k)) is not None}
    if member.steps is not None:
        own["budget"] = Budget(steps=member.steps)
    model = build(member.graph or graph, member.seed, dtype=torch.float64)
    seed = member.seed if order == "own" else config.seed
    result = fit(model, dataset, config=config.with_(seed=seed, **own), progress=False)
    return result.model.state_dict(), result.val


def check(graph, members, config=BASE, *, order="shared", engine="auto", dataset=None, tolerance=1e-9):
    dataset = dataset or toys.images()
    found = train_ensemble(
        graph, dataset, members, config=config, order=order, engine=engine, dtype=torch.float64, weights=True
    )
    for e, member in enumerate(members):
        weights, val = alone(graph, member, dataset, config, order)
        for name, values in weights.items():
            if "num_batches" not in name:
                torch.testing.assert_close(found.weights[name][e], values, rtol=tolerance, atol=tolerance)
        for name, value in found[e].val.items():
            if name in val:
                assert value == pytest.approx(val[name], rel=1e-7)
    return found


VARIED = [
    Member(seed=1),
    Member(seed=2, lr=0.01),
    Member(seed=3, momentum=0.5, weight_decay=0.1),
    Member(seed=4, graph=plain(sw2=3.0, sb2=0.0), steps=7),
]


@pytest.mark.parametrize("order", ["shared", "own"])
def test_members_of_every_kind_are_as_if_alone(order):
    found = check(plain(), VARIED, order=order)
    assert found.engine == "dense"
    assert [m.steps for m in found] == [12, 12, 12, 7]


@pytest.mark.parametrize(
    "changes",
    [
        {"momentum": 0.0},
        {"momentum": 0.0, "weight_decay": 0.1},
        {"weight_decay": 0.1},
        {"nesterov": True},
        {"clip": 0.1},
        {"schedule": "onecycle", "warmup": 0.3},
        {"optimiser": "adamw", "lr": 3e-3, "weight_decay": 0.1, "schedule": "cosine"},
        {"label_smoothing": 0.1},
    ],
    ids=str,
)
def test_every_update(changes):
    check(plain("relu"), [Member(seed=1), Member(seed=2, lr=0.02)], BASE.with_(**changes))


@pytest.mark.parametrize(
    "act",
    ["relu", "sigmoid", "leaky_relu", "elu", "celu", "selu", "gelu", "silu", "softplus", "erf", "hardtanh", "softsign"],
)
def test_every_activation(act):
    check(plain(act, sw2=1.0), [Member(seed=1), Member(seed=2)])


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
@pytest.mark.parametrize("residual", [False, True])
def test_norms_and_shortcuts(norm, residual):
    found = check(plain("relu", norm=norm, residual=residual), [Member(seed=1), Member(seed=2, lr=0.02)])
    assert found.engine == "dense"


def test_regression():
    graph = zoo.mlp((5, 16, 16, 2), "tanh")
    check(graph, [Member(seed=1), Member(seed=2)], dataset=toys.numbers())
    check(graph, [Member(seed=1)], BASE.with_(loss="huber"), dataset=toys.numbers())


def branched():
    """Sums of a node with itself, an activation of an activation, an input that is added to."""
    net = Builder()
    x = net.input(5)
    a = blocks.linear(x, 5)
    b = a.then(ops.Activation("tanh")).then(ops.Activation("sigmoid"))
    c = blocks.linear(b + a + b, 5) + x
    return net.graph(blocks.linear(c.then(ops.Activation("relu")), 2))


def test_branches():
    check(branched(), [Member(seed=1), Member(seed=2)], dataset=toys.numbers())


def conv(norm="batch"):
    return zoo.convnet((1, 1), 4, 3, in_channels=1, image_size=8, norm=norm)


@pytest.mark.parametrize("engine", ["general", "turns"])
@pytest.mark.parametrize("order", ["shared", "own"])
def test_any_graph(engine, order):
    members = [Member(seed=1), Member(seed=2, lr=0.01, weight_decay=0.1), Member(seed=3, steps=6)]
    found = check(conv(), members, order=order, engine=engine)
    assert found.engine == engine
    check(plain("tanh"), members[:2], BASE.with_(clip=0.5), order=order, engine=engine)


@pytest.mark.parametrize("chunk", [1, 2, 3])
def test_chunks_change_nothing(chunk):
    whole = train_ensemble(plain(), toys.images(), VARIED, config=BASE)
    parts = train_ensemble(plain(), toys.images(), VARIED, config=BASE, chunk=chunk)
    for a, b in zip(whole, parts, strict=True):
        assert a.last_loss == pytest.approx(b.last_loss, rel=1e-5)
        assert a.val["accuracy"] == b.val["accuracy"]


@pytest.mark.parametrize("engine", ["dense", "general", "turns"])
def test_a_member_that_breaks_leaves_and_harms_nobody(engine):
    healthy = [Member(seed=1), Member(seed=2)]
    broken = Member(seed=3, lr=1e30)
    config = BASE.with_(budget=Budget(steps=60))
    graph = plain("relu")
    good = train_ensemble(graph, toys.images(), healthy, config=config, engine=engine)
    found = train_ensemble(graph, toys.images(), [healthy[0], broken, healthy[1]], config=config, engine=engine)
    assert [m.status for m in found] == ["finished", "diverged", "finished"]
    assert found[1].steps < 5
    assert [len(m.losses) for m in found] == [60, found[1].steps, 60]
    assert found[0].losses[-1] == pytest.approx(found[0].last_loss)
    assert math.isnan(found[1].val["accuracy"])
    for a, b in zip(good, (found[0], found[2]), strict=True):
        assert a.last_loss == pytest.approx(b.last_loss, rel=1e-5)


def test_single_precision_agrees_while_it_can():
    graph, dataset = plain(), toys.images()
    config = BASE.with_(budget=Budget(steps=5), lr=0.01)
    found = train_ensemble(graph, dataset, [Member(seed=1), Member(seed=2)], config=config, weights=True)
    for e, seed in enumerate((1, 2)):
        result = fit(build(graph, seed), dataset, config=config, progress=False)
        for name, values in result.model.state_dict().items():
            torch.testing.assert_close(found.weights[name][e], values, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("size", [1.0, 1e-6])
def test_single_precision_tanh_of_large_and_of_small_inputs(size):
    x = size * torch.randn(2, 30, 50, generator=torch.Generator().manual_seed(0))
    x[1] *= 20
    out = torch.empty_like(x)
    run = pointwise(ops.Activation("tanh")).forward(x, out)
    exact = x.double().tanh()
    for _ in range(2):
        run()
        bound = 2e-7 if size == 1.0 else 3e-7 * exact.abs()
        assert ((out.double() - exact).abs() <= bound).all()


def test_tanh_that_asks_its_source_for_twice_its_value():
    # large, then vanishing, then large inputs: every answer is right whatever scale was asked for before
    x, out = torch.empty(2, 8, 5), torch.empty(2, 8, 5)
    run = Tanh(x, out)
    run.scaled, asked = True, set()
    for call in range(4 * Tanh.EVERY):
        size = 1e-6 if Tanh.EVERY <= call < 2 * Tanh.EVERY else 2.0
        value = size * torch.randn(2, 8, 5, generator=torch.Generator().manual_seed(call))
        x.copy_(run.scale * value)
        asked.add(run.scale)
        run()
        exact = value.double().tanh()
        bound = 3e-7 * exact.abs() if size < 1 else 2e-7
        assert ((out.double() - exact).abs() <= bound).all(), call
    assert asked == {1.0, 2.0}


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_products_that_deliver_twice_their_value_train_the_same(shared, bias):
    graph = plain(bias=laws.Normal(0.2) if bias else None)
    config, order = BASE.with_(budget=Budget(steps=80), lr=0.02), "shared" if shared else "own"
    single, double = (
        train_ensemble(graph, toys.images(), 2, config=config, order=order, weights=True, dtype=dtype)
        for dtype in (torch.float32, torch.float64)
    )
    for name, values in double.weights.items():
        torch.testing.assert_close(single.weights[name].double(), values, rtol=1e-3, atol=2e-5)


def test_scores_on_the_way_and_progress():
    seen = []
    found = train_ensemble(plain(), toys.images(), 2, config=BASE, validate_every=5, progress=seen.append)
    assert [step for step, _ in found[0].curve] == [5, 10]
    assert set(found[0].curve[0][1]) == {"train loss", "train accuracy", "val loss", "val accuracy"}
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


def test_subnormal_numbers_are_as_they_were_afterwards():
    train_ensemble(plain(), toys.images(), 1, config=BASE)
    assert torch.tensor(1e-39) * 1.0 != 0


def test_what_the_dense_program_refuses():
    assert refusal(plain(norm="layer", residual=True)) is None
    assert "Conv" in refusal(conv())
    assert "random" in refusal(plain(dropout=0.5))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"members": []}, "at least one member"),
        ({"members": [Member(graph=conv())]}, "one network"),
        ({"config": BASE.with_(budget=Budget(seconds=3))}, "steps or epochs"),
        ({"config": BASE.with_(ema=0.9)}, "average"),
        ({"order": "any"}, "order to be shared or own"),
        ({"engine": "gpu"}, "engine to be"),
        ({"memory": "4 apples"}, "memory such as 4GB"),
        ({"memory": "1kB"}, "needs about"),
        ({"graph": zoo.mlp((5, 3))}, r"rows of shape \(5,\)"),
        ({"graph": zoo.mlp((64, 2), input_shape=(1, 8, 8))}, "3 outputs"),
        ({"graph": conv(), "engine": "dense"}, "leave engine at auto"),
    ],
    ids=str,
)
def test_bad_input(given, message):
    options = {"graph": plain(), "dataset": toys.images(), "members": 2, "config": BASE} | given
    with pytest.raises(TrainingError, match=message):
        train_ensemble(options.pop("graph"), options.pop("dataset"), options.pop("members"), **options)


@pytest.mark.parametrize("field", [{"seed": -1}, {"lr": 0.0}, {"momentum": 1.0}, {"steps": 0}, {"lr": math.nan}])
def test_bad_members(field):
    with pytest.raises(TrainingError, match="expected a member's"):
        Member(**field)


def test_amounts_of_memory():
    assert parse_bytes("4GB") == 4e9
    assert parse_bytes("512 MiB") == 512 * 2**20
    assert parse_bytes(None) is None
