"""Models by name: ``zoo:``, ``timm:`` or ``torchvision:NAME``, ``hf:CONFIG``, ``FILE.py:FACTORY``, a graph's JSON.

Nothing is downloaded: models are made from their code and configuration, by default on the meta device, so that no
weights need to fit into memory. Files of weights are safetensors, or pickles read with ``weights_only``.
"""

import difflib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from depthscale.build import build
from depthscale.capture.examples import example_for
from depthscale.capture.lazily import one_of
from depthscale.capture.recorder import Blueprint, NotFollowed, blueprint, recording
from depthscale.capture.trace import Capture, trace
from depthscale.capture.transformers import hugging_face
from depthscale.errors import CaptureError
from depthscale.graph import Graph

SPEC_HELP = "zoo:NAME, timm:NAME, torchvision:NAME, hf:CONFIG, FILE.py:FACTORY or a graph's JSON file"
BATCH = 8
LARGEST_LIVE = 3 * 10**8  # parameters of a model that is built for real where its laws cannot be recorded
Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Recipe:
    """How to make a model and what to feed it.

    make: the module, parameters drawn anew each time (from torch's global generator). example(module): arguments and
    keyword arguments of its forward. initialise: what has to be called to draw the parameters, where the constructor
    leaves that out on the meta device.
    """

    make: Callable[[], nn.Module]
    example: Callable[[nn.Module], tuple[tuple[Any, ...], Mapping[str, Any]]]
    initialise: Callable[[nn.Module], None] | None = None


@dataclass(frozen=True, eq=False)
class Model:
    """A model that a spec names. graph: where it is one already; else recipe makes the module."""

    name: str
    graph: Graph | None = None
    recipe: Recipe | None = None
    weights: Path | None = None
    _cache: dict[str, Any] = field(default_factory=dict)

    def module(self, seed: int = 0) -> nn.Module:
        """The model with real parameters: drawn with this seed, or read from its file of weights."""
        if self.graph is not None:
            return build(self.graph, seed)
        assert self.recipe is not None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = made(self.recipe.make, self.name)
        return load_weights(module, self.weights) if self.weights is not None else module

    def example(self, module: nn.Module) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        """Arguments for the module's forward: a batch of white noise or random tokens, the same every time."""
        assert self.recipe is not None
        return self.recipe.example(module)

    def capture(self, *, train: bool = True, live: bool = False) -> Capture:
        """The model's graph with the laws of its own initialisation, without memory for weights.

        live: read from real parameters instead; always so where there is a file of weights. Raises CaptureError.
        """
        assert self.recipe is not None
        if live or self.weights is not None:
            module = self.module()
            args, kwargs = self.example(module)
            return trace(module, *args, kwargs=kwargs, train=train)
        plan = self.blueprint()
        args, kwargs = self.example(plan.module)
        try:
            return trace(plan.module, *args, kwargs=kwargs, train=train, laws=plan.laws, values=plan.values)
        except NotFollowed:
            if sum(p.numel() for p in plan.module.parameters()) > LARGEST_LIVE:
                raise
        return self.capture(train=train, live=True)

    def blueprint(self) -> Blueprint:
        """The module on the meta device with its recorded laws."""
        if "blueprint" not in self._cache:
            assert self.recipe is not None
            with recording() as recorder:
                module = made(self.recipe.make, self.name)
                if self.recipe.initialise is not None:
                    self.recipe.initialise(module)
            self._cache["blueprint"] = blueprint(module, recorder)
        found: Blueprint = self._cache["blueprint"]
        return found


def made(make: Callable[[], nn.Module], name: str) -> nn.Module:
    """What a factory makes; one clear sentence where that is no module, or the factory fails."""
    try:
        module = make()
    except CaptureError:
        raise
    except Exception as error:  # whatever user code raises
        text = str(error).strip().splitlines()
        raise CaptureError(f"{name}: its factory raised {type(error).__name__}: {text[0] if text else ''}") from error
    if not isinstance(module, nn.Module):
        raise CaptureError(f"{name}: expected its factory to return a torch.nn.Module, got {type(module).__name__}")
    return module


def load(
    spec: str, *, input_shape: Shape | None = None, batch: int = BATCH, weights: str | Path | None = None
) -> Model:
    """The model that ``spec`` names; see SPEC_HELP. ``input_shape`` is one example's, without the batch.

    Raises CaptureError or GraphError with one sentence: what was expected, what arrived, how to mend it.
    """
    if batch < 2:
        raise CaptureError(f"expected a batch of at least 2 (two inputs are compared), got {batch}")
    file = Path(weights) if weights is not None else None
    if file is not None and not file.is_file():
        raise CaptureError(f"expected a file of weights at {file}, but there is none")
    kind, colon, rest = spec.partition(":")
    if colon and kind in _LIBRARIES:
        if not rest:
            raise CaptureError(f"expected a name behind {kind}:, got {spec!r}")
        found = _LIBRARIES[kind](rest, input_shape, batch)
        if isinstance(found, Graph):
            return Model(spec, graph=found)
        return Model(spec, recipe=found, weights=file)
    if spec.endswith(".json") or (not colon and Path(spec).suffix == ".json"):
        return Model(spec, graph=_graph(Path(spec)))
    path, colon, factory = spec.rpartition(":")
    if path.endswith(".py") and factory.isidentifier():
        return Model(spec, recipe=_from_file(Path(path), factory, input_shape, batch), weights=file)
    if spec.endswith(".py"):
        raise CaptureError(f"expected FILE.py:FACTORY, where FACTORY makes the model, got {spec!r}")
    raise CaptureError(f"expected a model as {SPEC_HELP}, got {spec!r}")


def _graph(path: Path) -> Graph:
    try:
        return Graph.from_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise CaptureError(f"expected a graph's JSON file at {path}, but it cannot be read: {reason}") from None


def _zoo(name: str, shape: Shape | None, batch: int) -> Graph:
    from depthscale import zoo

    return zoo.get(name)


def library(name: str) -> Any:
    """An optional package; one sentence on how to get it where it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise CaptureError(f"expected {name} to be installed: pip install 'depthscale[models]'") from None


def suggest(name: str, known: Iterable[str]) -> str:
    """A hint at the nearest known name."""
    known = list(known)
    near = difflib.get_close_matches(name, known, 1, 0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; {len(known)} are known"


def _timm(name: str, shape: Shape | None, batch: int) -> Recipe:
    make = one_of("timm", name) or _any_of_timm(name)

    def example(module: nn.Module) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        cfg = getattr(module, "default_cfg", None) or getattr(module, "pretrained_cfg", {})
        size = shape or tuple(cfg.get("input_size", (3, 224, 224)))
        return (noise((batch, *size)),), {}

    return Recipe(lambda: make(name, pretrained=False), example)


def _any_of_timm(name: str) -> Callable[..., nn.Module]:
    """What makes timm's models, all of which are read; raises CaptureError where this is none of them."""
    timm = library("timm")
    if not timm.is_model(name):
        known = timm.list_models(pretrained=False)
        raise CaptureError(f"expected the name of a timm model, got {name!r}{suggest(name, known)}")
    found: Callable[..., nn.Module] = timm.create_model
    return found


def _torchvision(name: str, shape: Shape | None, batch: int) -> Recipe:
    make = one_of("torchvision", name) or _any_of_torchvision(name)

    def example(module: nn.Module) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        size = 299 if name == "inception_v3" else 224
        return (noise((batch, *(shape or (3, size, size)))),), {}

    options = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
    return Recipe(lambda: make(name, weights=None, **options), example)


def _any_of_torchvision(name: str) -> Callable[..., nn.Module]:
    """What makes torchvision's models; raises CaptureError where this is no classification model."""
    models = library("torchvision.models")
    known = models.list_models(module=models)
    if name not in known:
        raise CaptureError(
            f"expected the name of a torchvision classification model, got {name!r}{suggest(name, known)}"
        )
    found: Callable[..., nn.Module] = models.get_model
    return found


def _hugging_face(name: str, shape: Shape | None, batch: int) -> Recipe:
    transformers = library("transformers")
    make, example, initialise = hugging_face(transformers, name, shape, batch)
    return Recipe(make, example, initialise)


_LIBRARIES: dict[str, Callable[[str, Shape | None, int], Recipe | Graph]] = {
    "zoo": _zoo,
    "timm": _timm,
    "torchvision": _torchvision,
    "hf": _hugging_face,
}


def noise(shape: Shape, seed: int = 0) -> Tensor:
    """White noise of unit variance."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _from_file(path: Path, name: str, shape: Shape | None, batch: int) -> Recipe:
    if not path.is_file():
        raise CaptureError(f"expected a Python file at {path}, but there is none")
    module_name = f"_depthscale_model_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None
    assert spec.loader is not None
    home = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = home  # dataclasses and pickles look their module up
    sys.path.insert(0, str(path.parent.resolve()))  # the file may import its neighbours
    try:
        spec.loader.exec_module(home)
    except Exception as error:  # whatever the file does
        text = str(error).strip().splitlines()
        raise CaptureError(f"{path} cannot be run: {type(error).__name__}: {text[0] if text else ''}") from error
    finally:
        sys.path.remove(str(path.parent.resolve()))
    factory = getattr(home, name, None)
    if isinstance(factory, nn.Module):
        raise CaptureError(f"{path}: expected {name!r} to make a model when called, but it is one; write a function")
    if not callable(factory):
        known = [n for n, v in vars(home).items() if callable(v) and not n.startswith("_")]
        raise CaptureError(f"expected {path} to define a function or class {name!r}{suggest(name, known)}")
    wanted = _required(factory)
    if wanted:
        raise CaptureError(
            f"{path}:{name} needs arguments ({', '.join(wanted)}); give a factory that can be called without any"
        )

    def example(module: nn.Module) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        return example_for(module, shape, batch), {}

    return Recipe(factory, example)


def _required(factory: Any) -> list[str]:
    """The arguments that a factory cannot be called without."""
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):
        return []
    free = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in signature.parameters.values() if p.default is p.empty and p.kind not in free]


def load_weights(module: nn.Module, path: Path) -> nn.Module:
    """The module with the weights of a file: safetensors, or a pickle of nothing but tensors."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CaptureError(
            f"expected weights as safetensors, or as a pickle that holds tensors only, at {path}: "
            f"{str(error).splitlines()[0]}"
        ) from None
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    try:
        module.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise CaptureError(
            f"{path} does not fit {type(module).__name__}: {' '.join(lines[1:2] or lines)[:300]}"
        ) from None
    return module
