"""The strategies, by name; each is an Optuna sampler."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from depthscale.errors import SearchError

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


def _ours(module: str, cls: str, **fixed: Any) -> Callable[..., "BaseSampler"]:
    def make(seed: int, **options: Any) -> "BaseSampler":
        from importlib import import_module

        found: BaseSampler = getattr(import_module(f"depthscale.search.strategies.{module}"), cls)(
            seed=seed, **fixed, **options
        )
        return found

    return make


def _optunas(cls: str, **fixed: Any) -> Callable[..., "BaseSampler"]:
    def make(seed: int, **options: Any) -> "BaseSampler":
        import warnings

        import optuna

        with warnings.catch_warnings():  # a sampler that Optuna still calls experimental says so every time
            warnings.simplefilter("ignore")
            found: BaseSampler = getattr(optuna.samplers, cls)(seed=seed, **fixed, **options)
        return found

    return make


STRATEGIES: dict[str, Callable[..., "BaseSampler"]] = {
    "random": _ours("simple", "Random"),
    "local": _ours("simple", "LocalSearch"),
    "local-first": _ours("simple", "LocalSearch", first=True),
    "evolution": _ours("evolution", "RegularizedEvolution"),
    "q-learning": _ours("q_learning", "QLearning"),
    "q-learning-shaped": _ours("q_learning", "QLearning", shaped=True),
    "policy": _ours("policy", "FactorisedPolicy"),
    "controller": _ours("policy", "Controller"),
    "ppo": _ours("policy", "Controller", batch=10, passes=4),
    "mcts": _ours("mcts", "TreeSearch"),
    "progressive": _ours("predictor", "Progressive"),
    "predictor": _ours("predictor", "Predictor"),
    "screened": _ours("predictor", "Screened"),
    "tpe": _optunas("TPESampler"),
    "gp": _optunas("GPSampler"),
    "nsga2": _optunas("NSGAIISampler", population_size=20),
    "largest": _ours("largest", "Largest"),
}
# by gradient: a supernet is trained first, and the cell that it ends in is given (see ``depthscale.search.oneshot``)
ONE_SHOT: dict[str, dict[str, Any]] = {"darts": {}, "darts-second": {"order": 2}, "darts-fair": {"fair": True}}
STRATEGIES |= {name: _ours("given", "Given") for name in ONE_SHOT}
LEARNED = ("predictor", "progressive", "screened")  # strategies that take features of networks


def strategy(name: str, seed: int = 0, **options: Any) -> "BaseSampler":
    """The strategy of this name, an Optuna sampler.

    Raises SearchError for a name that is none, with the nearest.
    """
    if name not in STRATEGIES:
        import difflib

        near = difflib.get_close_matches(name, STRATEGIES, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise SearchError(f"expected a strategy ({', '.join(STRATEGIES)}), got {name!r}{hint}")
    return STRATEGIES[name](seed, **options)
