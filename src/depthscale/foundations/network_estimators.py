"""Networks as scikit-learn estimators: a table goes in, a critically initialised network is trained, nothing to tune.

Inputs (and the numbers a regression predicts) are standardised inside. Weights are kept as arrays and the network as
its graph, so that pickling an estimator keeps no code.
"""

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from depthscale.errors import DepthscaleError
from depthscale.foundations.tabular import Standard, merge_rows
from depthscale.graph import Graph

Array = NDArray[np.float64]
_STEPS = ((300, 500), (5000, 1500))  # below so many rows, that "auto" aims at; at least 12 and at most 200 epochs
_ENOUGH_TO_HOLD = 100
_ROWS_AT_ONCE = 4096


class _NetworkEstimator(BaseEstimator):  # type: ignore[misc]
    """What both estimators share."""

    _dropout: float
    _label_smoothing: float = 0.0
    _held: float = 0.0  # share of the rows that choose the epoch

    def __init__(
        self,
        architecture: str | Graph = "auto",
        *,
        input_shape: tuple[int, ...] | None = None,
        initialisation: Literal["critical", "own"] = "critical",
        epochs: int | Literal["auto"] = "auto",
        batch_size: int | Literal["auto"] = "auto",
        learning_rate: float = 3e-3,
        weight_decay: float | Literal["auto"] = "auto",
        device: str = "cpu",
        random_state: Any = 0,
        verbose: bool = False,
    ) -> None:
        self.architecture = architecture
        self.input_shape = input_shape
        self.initialisation = initialisation
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def _train(self, x: Array, y: NDArray[Any], weight: Array, outputs: int) -> None:
        from depthscale.build import build
        from depthscale.foundations.network_training import train_weighted
        from depthscale.theory.initialise import critical

        self._check_options()
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        rows = len(x)
        self.graph_ = self._graph(x.shape[1], outputs, rows)
        if self.initialisation == "critical":
            self.graph_ = critical(self.graph_)
        module = build(self.graph_, seed)
        shape = tuple(self.graph_.shapes()[self.graph_.inputs[0]][1:])
        batch, epochs = self._length(rows)
        config = self._config(batch, seed, rows)
        held = int(rows * self._held) if rows >= _ENOUGH_TO_HOLD else 0
        self.loss_curve_ = train_weighted(
            module, x.astype(np.float32).reshape(rows, *shape), y, weight, config, epochs, self._told(epochs), held
        )
        self.n_iter_ = epochs
        self.weights_ = {k: v.detach().numpy().copy() for k, v in module.state_dict().items()}

    def _check_options(self) -> None:
        if self.initialisation not in ("critical", "own"):
            raise DepthscaleError(f'expected initialisation to be "critical" or "own", got {self.initialisation!r}')
        for name in ("epochs", "batch_size"):
            value = getattr(self, name)
            whole = isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= 1
            if not whole and not (isinstance(value, str) and value == "auto"):
                raise DepthscaleError(f'expected {name} to be a whole number of at least 1 or "auto", got {value!r}')
        for name in ("learning_rate", "weight_decay"):
            value = getattr(self, name)
            auto = name == "weight_decay" and isinstance(value, str) and value == "auto"
            if not auto and (isinstance(value, bool | str) or not isinstance(value, int | float | np.number)):
                or_auto = ' or "auto"' if name == "weight_decay" else ""
                raise DepthscaleError(f"expected {name} to be a number{or_auto}, got {value!r}")

    def _length(self, rows: int) -> tuple[int, int]:
        """Rows a batch, and epochs."""
        batch = (32 if rows < 5000 else 128) if self.batch_size == "auto" else int(self.batch_size)
        if self.epochs != "auto":
            return batch, int(self.epochs)
        wanted = next((steps for below, steps in _STEPS if rows < below), 0)
        return batch, min(max(12, wanted // math.ceil(rows / batch)), 200)

    def _decay(self, rows: int) -> float:
        """What weight_decay "auto" is."""
        return 1e-2

    def _config(self, batch: int, seed: int, rows: int) -> Any:
        from depthscale.train import TrainConfig

        return TrainConfig(
            batch=batch,
            lr=float(self.learning_rate),
            weight_decay=self._decay(rows) if self.weight_decay == "auto" else float(self.weight_decay),
            label_smoothing=self._label_smoothing,
            clip=1.0,
            device=self.device,
            seed=seed,
        )

    def _graph(self, features: int, outputs: int, rows: int) -> Graph:
        from depthscale import zoo

        if isinstance(self.architecture, Graph):
            graph = self.architecture
        elif isinstance(self.architecture, str) and self.architecture == "auto":
            width = 64 if rows < 1000 else 128 if rows < 5000 else 256
            graph = zoo.mlp(
                (features, width, width, outputs), "relu", input_shape=self.input_shape, dropout=self._dropout
            )
        elif isinstance(self.architecture, str):
            graph = _named(self.architecture, features, outputs, self.input_shape)
        else:
            raise DepthscaleError(
                f'expected architecture to be "auto", a name (depthscale zoo lists them) or a Graph, '
                f"got {type(self.architecture).__name__}"
            )
        shapes = graph.shapes()
        takes, gives = shapes[graph.inputs[0]][1:], shapes[graph.outputs[0]][1:]
        if math.prod(takes) != features or tuple(gives) != (outputs,):
            raise DepthscaleError(
                f"expected a network from {features} inputs to {outputs} outputs, got one from {tuple(takes)} to "
                f"{tuple(gives)}"
            )
        return graph

    def _told(self, epochs: int) -> Any:
        def told(epoch: int, loss: float) -> None:
            if self.verbose and (epoch == epochs or epoch % max(1, epochs // 20) == 0):
                print(f"epoch {epoch} of {epochs}: loss {loss:.4g}")

        return told

    def _outputs(self, X: Any) -> Array:
        """The network's outputs in double precision, so that they do not depend on which rows are asked together."""
        import torch

        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, order="C", reset=False)
        x = self.inputs_.apply(X, cut=True)
        shape = tuple(self.graph_.shapes()[self.graph_.inputs[0]][1:])
        module, found = self._module(), []
        with torch.no_grad():
            for i in range(0, len(x), _ROWS_AT_ONCE):
                part = torch.from_numpy(x[i : i + _ROWS_AT_ONCE].reshape(-1, *shape))
                out = module(part)
                found.append((out if isinstance(out, torch.Tensor) else out[0]).numpy())
        return np.concatenate(found)

    def _module(self) -> Any:
        import torch

        from depthscale.build import build

        module = build(self.graph_, 0).double()
        module.load_state_dict({k: torch.from_numpy(v) for k, v in self.weights_.items()})
        return module.eval()

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.non_deterministic = False
        return tags


class NetworkClassifier(ClassifierMixin, _NetworkEstimator):  # type: ignore[misc]
    """Classifies the rows of a table with a network.

    architecture: "auto" (a perceptron of two hidden layers that suits the number of rows), a name of the zoo
    ("resnet_cifar20", "lenet5"; images are read from the rows as ``input_shape``, or as square ones), or a Graph.
    initialisation: "critical", or the graph's "own" laws. epochs, batch_size: whole numbers or "auto". learning_rate is
    the largest of a one-cycle schedule of AdamW, with weight_decay ("auto": 0.01; for regression 1, and up
    to 3 below 1,000 rows). random_state: the same whole number gives the same network. device: cpu, cuda or auto.
    verbose: print the loss now and then.

    Attributes: ``classes_``, ``graph_``, ``weights_`` (arrays by name), ``loss_curve_``, ``n_iter_`` (epochs),
    ``inputs_`` (how inputs are standardised).
    """

    _dropout = 0.2
    _label_smoothing = 0.05

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "NetworkClassifier":
        """Train on rows ``X`` (rows, N), labels ``y`` (rows,) and weights (rows,).

        Raises DepthscaleError for options and networks that do not fit, TrainingError where training diverges.
        """
        X, y = validate_data(self, X, y, dtype=np.float64, order="C")
        check_classification_targets(y)
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        self.classes_, index = np.unique(y, return_inverse=True)
        x, index, weight = merge_rows(X, index, weight)
        self.inputs_ = Standard.of(x, weight)
        self._train(self.inputs_.apply(x, cut=True), index.astype(np.int64), weight, len(self.classes_))
        return self

    def predict_proba(self, X: Any) -> Array:
        """The probability of each class, (rows, K)."""
        z = self._outputs(X)
        p = np.exp(z - z.max(axis=1, keepdims=True))
        proba: Array = p / p.sum(axis=1, keepdims=True)
        return proba

    def predict(self, X: Any) -> NDArray[Any]:
        """The most probable class of each row, (rows,)."""
        best = self._outputs(X).argmax(axis=1)
        labels: NDArray[Any] = self.classes_[best]
        return labels


class NetworkRegressor(RegressorMixin, _NetworkEstimator):  # type: ignore[misc]
    """Predicts one number a row, or several, with a network; options and attributes as NetworkClassifier's.

    ``targets_`` is how the numbers are standardised for training. From 100 rows on, 15 % of them are not trained on and
    choose the epoch whose weights are kept; ``loss_curve_`` is then their loss.
    """

    _dropout = 0.0
    _held = 0.15

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "NetworkRegressor":
        """Train on rows ``X`` (rows, N), numbers ``y`` (rows,) or (rows, T) and weights (rows,); errors as there."""
        X, y = validate_data(self, X, y, dtype=np.float64, order="C", y_numeric=True, multi_output=True)
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        self._flat = y.ndim == 1
        targets = y.astype(np.float64).reshape(len(y), -1)
        x, targets, weight = merge_rows(X, targets, weight)
        self.inputs_, self.targets_ = Standard.of(x, weight), Standard.of(targets, weight)
        wanted = self.targets_.apply(targets).astype(np.float32)
        self._train(self.inputs_.apply(x, cut=True), wanted, weight, targets.shape[1])
        return self

    def _decay(self, rows: int) -> float:
        """Far more than for classes, and more for few rows: with 0.01 the squared loss ends at fitting the noise."""
        return min(max(1.0, 1000 / rows), 3.0)

    def predict(self, X: Any) -> Array:
        """The predicted numbers, (rows,) or (rows, T)."""
        values = self.targets_.undo(self._outputs(X)) if hasattr(self, "targets_") else self._outputs(X)
        return values[:, 0] if self._flat else values

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def _named(name: str, features: int, outputs: int, input_shape: tuple[int, ...] | None) -> Graph:
    """A network of the zoo that fits rows of ``features`` numbers."""
    from depthscale import zoo

    takes = zoo.entry(name.partition(":")[0]).takes
    if "input_shape" in takes:
        return zoo.get(name, num_classes=outputs, input_shape=input_shape or (features,))
    channels, height, width = input_shape or _square(name, features)
    size = height if height == width else (height, width)
    return zoo.get(name, num_classes=outputs, in_channels=channels, image_size=size)


def _square(name: str, features: int) -> tuple[int, int, int]:
    for channels in (1, 3):
        side = math.isqrt(features // channels)
        if channels * side * side == features:
            return channels, side, side
    raise DepthscaleError(
        f"{name} takes images, but {features} inputs are no square image of one or three channels; "
        "give input_shape=(channels, height, width), or architecture='mlp'"
    )
