"""Metrics against scikit-learn's."""

import numpy as np
import pytest
import torch
from sklearn import metrics as oracle
from torch import nn

from depthscale.errors import TrainingError
from depthscale.train import ClassificationMetrics, RegressionMetrics, evaluate, predict
from tests.train.toys import Split, convnet, images, mlp, numbers


def test_classification() -> None:
    model, split = convnet(), images(700).train
    got = evaluate(model, split, "classification", batch=64)
    assert isinstance(got, ClassificationMetrics)
    scores = predict(model, split.x)
    p = torch.from_numpy(scores).double().softmax(1).numpy()
    assert got.n == 700
    assert got.accuracy == pytest.approx(oracle.accuracy_score(split.y, scores.argmax(1)))
    assert got.cross_entropy == got.loss == pytest.approx(oracle.log_loss(split.y, p), rel=1e-9)
    assert np.array_equal(got.confusion, oracle.confusion_matrix(split.y, scores.argmax(1)))
    assert got.summary() == {"loss": got.loss, "accuracy": got.accuracy}


def test_regression() -> None:
    model, split = mlp(), numbers(300).train
    got = evaluate(model, split, "regression", batch=7)
    assert isinstance(got, RegressionMetrics)
    f = predict(model, split.x)
    assert got.mse == pytest.approx(oracle.mean_squared_error(split.y, f), rel=1e-6)
    assert got.rmse == pytest.approx(oracle.mean_squared_error(split.y, f) ** 0.5, rel=1e-6)
    assert got.mae == pytest.approx(oracle.mean_absolute_error(split.y, f), rel=1e-6)
    assert got.r2 == pytest.approx(oracle.r2_score(split.y, f), rel=1e-6)


def test_one_target_may_come_as_a_vector() -> None:
    model, split = mlp((5, 4, 1)), numbers(targets=1).train
    flat = Split(split.x, split.y[:, 0])
    a, b = evaluate(model, flat, "regression"), evaluate(model, split, "regression")
    assert a.loss == b.loss


def test_classes_that_never_occur_keep_their_row() -> None:
    got = evaluate(mlp((64, 5)), Split(images().train.x.reshape(150, -1), images().train.y), "classification")
    assert isinstance(got, ClassificationMetrics)
    assert got.confusion.shape == (5, 5)
    assert got.confusion[3:].sum() == 0


def test_a_constant_target_has_no_r2() -> None:
    split = Split(np.ones((4, 5), np.float32), np.ones((4, 2), np.float32))
    got = evaluate(mlp(), split, "regression")
    assert isinstance(got, RegressionMetrics)
    assert np.isnan(got.r2)


def test_modes_and_weights_are_left_alone() -> None:
    model = convnet()
    model.train()
    model[1].eval()  # a frozen batch norm
    before = {k: v.clone() for k, v in model.state_dict().items()}
    generator = torch.get_rng_state()
    first = evaluate(model, images().val, "classification")
    assert [m.training for m in model.children()] == [True, False, True, True, True, True, True]
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), generator)
    assert evaluate(model, images().val, "classification").loss == first.loss


def test_the_main_output_counts() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.main, self.aux = mlp(seed=0), mlp(seed=1)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self.main(x), self.aux(x)

    x = numbers().train.x
    assert np.array_equal(predict(Two(), x), predict(mlp(seed=0), x))


def test_what_does_not_fit() -> None:
    with pytest.raises(TrainingError, match="more than 2"):
        evaluate(mlp((64, 2)), Split(images().train.x.reshape(150, -1), images().train.y), "classification")
    with pytest.raises(TrainingError, match="predictions of shape"):
        evaluate(mlp((5, 3)), numbers().train, "regression")
    with pytest.raises(TrainingError, match="at least one row"):
        predict(mlp(), np.zeros((0, 5), np.float32))
