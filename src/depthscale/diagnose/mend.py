"""``repair``: weights, chosen by theory, from which a network trains; the architecture stays as it is."""

import fnmatch
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depthscale.diagnose.diagnosis import Diagnosis
from depthscale.diagnose.examine import Inputs, diagnose, examples_for, statistics
from depthscale.diagnose.plan import Choice, plan
from depthscale.diagnose.structure import Structure
from depthscale.errors import DepthscaleError
from depthscale.graph import Graph
from depthscale.theory.inputs import InputStats

if TYPE_CHECKING:
    from torch import Tensor, nn

    from depthscale.capture import Capture


@dataclass(frozen=True)
class Change:
    """One parameter: its path in the model, what it was and is now, and why."""

    path: str
    was: str
    now: str
    why: str


@dataclass(frozen=True)
class Repair:
    """What a repair did. module: the model, repaired in place. changes: by parameter; none where it was left alone.

    message: in a sentence. before, after: the diagnoses (the same one where nothing was changed).
    """

    module: "nn.Module"
    changes: tuple[Change, ...]
    message: str
    before: Diagnosis
    after: Diagnosis

    @property
    def mended(self) -> bool:
        """Whether theory says that it trains now."""
        return self.after.trains

    def __str__(self) -> str:
        lines = [self.message]
        lines += [f"  {c.path}: {c.was} → {c.now} ({c.why})" for c in _brief(self.changes)]
        if not self.after.trains:
            lines += self.after.words()
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data."""
        return {
            "message": self.message,
            "mended": self.mended,
            "changes": [c.__dict__ for c in self.changes],
            "before": self.before.to_dict(),
            "after": self.after.to_dict(),
        }

    def to_html(self) -> str:
        """The repair as one self-contained page."""
        from depthscale.report.diagnosis import render_diagnosis

        after, before = (d.to_dict() | {"headline": d.verdict} for d in (self.after, self.before))
        return render_diagnosis(after, before=before, changes=[c.__dict__ for c in self.changes])

    def write(self, out: str | Path) -> list[Path]:
        """Write the weights to a .safetensors file, or weights, page and JSON to a folder; the paths written."""
        from depthscale.build import save
        from depthscale.record import dumps
        from depthscale.report.html import write_text

        target = Path(out)
        if target.suffix == ".safetensors":
            save(self.module, target)
            return [target]
        save(self.module, target / "weights.safetensors")
        write_text(target / "repair.html", self.to_html())
        write_text(target / "repair.json", dumps(self.to_dict()) + "\n")
        return [target / name for name in ("weights.safetensors", "repair.html", "repair.json")]


def _brief(changes: Sequence[Change]) -> list[Change]:
    """Changes of one kind for one reason, said once."""
    found: dict[tuple[str, str], list[Change]] = {}
    for c in changes:
        found.setdefault((c.now.partition(",")[0], c.why), []).append(c)
    out = []
    for group in found.values():
        more = f" and {len(group) - 1} more" if len(group) > 1 else ""
        out.append(replace(group[0], path=group[0].path + more))
    return out


def repair(
    model: Any,
    example: Any = None,
    *,
    inputs: Inputs | InputStats | Mapping[str, InputStats] = "auto",
    kwargs: Mapping[str, Any] | None = None,
    keep: Sequence[str] = (),
    frozen: bool = False,
    trained: bool = False,
    force: bool = False,
    seed: int = 0,
    name: str | None = None,
) -> Repair:
    """Re-initialises a module in place so that it trains, and says what was changed and why.

    model: a torch module with an ``example`` of its input (data of the user are best: lengths are set on them), or a
    Graph, which is built first. Weights become orthogonal at the critical point of the activations that are used,
    linear at the start where that can be had, branches and gates scaled; see ``plan``. Healthy models are left alone
    unless ``force``. keep: patterns of parameters to leave alone ("encoder.*"). frozen: whether parameters without
    ``requires_grad`` may be set. trained: whether a model that has been trained may be (its normalisations have
    counted batches). The architecture, embeddings, normalisations and positions are not touched. Where no weights
    help, the message and ``after.remedy`` name the change of architecture that would.

    Raises DepthscaleError (CaptureError for a model that cannot be read).
    """
    from depthscale.build import build
    from depthscale.capture import trace
    from depthscale.diagnose.weights import as_seen

    if isinstance(model, Graph):
        model = build(model, seed)
    graph = getattr(model, "graph", None)
    if example is None and isinstance(graph, Graph):
        example = examples_for(graph, 64, seed)
    arguments = _arguments(model, example)
    captured = trace(model, *arguments, kwargs=kwargs)
    stats, words = statistics(inputs, captured.graph, arguments)
    title = name or type(model).__name__

    def look(capture: "Capture") -> Diagnosis:
        return diagnose(as_seen(capture, arguments), stats, words, name=title)

    before = look(captured)
    if reason := _leave(model, before, trained, force):
        return Repair(model, (), reason, before, before)
    structure = Structure(captured.graph)
    choices = plan(structure, _free(captured, keep, frozen))
    if not choices:
        message = f"{title}: nothing may be changed (every weight is frozen, kept or computed)"
        return Repair(model, (), message, before, before)
    saved = {k: v.detach().clone() for k, v in model.state_dict().items()}
    laws = {n: _law_words(captured, f"{c.key}.weight") for n, c in choices.items()}
    _write(captured, structure, choices, arguments, seed)
    after = look(trace(model, *arguments, kwargs=kwargs))
    if not math.isfinite(after.totals.q_end):
        model.load_state_dict(saved)
        return Repair(model, (), f"{title}: no weights were found that theory can follow", before, before)
    changes = tuple(_change(captured, c, laws[n]) for n, c in choices.items())
    message = f"{title}: {before.verdict} → {after.verdict}; {len(changes)} weights were set"
    if not after.trains:
        message += ", but no initialisation mends this"
    return Repair(model, changes, message, before, after)


def _arguments(model: Any, example: Any) -> tuple[Any, ...]:
    import torch

    if not isinstance(model, torch.nn.Module):
        raise DepthscaleError(f"expected a torch.nn.Module or a Graph to repair, got {type(model).__name__}")
    if any(p.is_meta for p in model.parameters()):
        raise DepthscaleError("expected a model with values to repair, got one on the meta device; build it on cpu")
    if example is None:
        raise DepthscaleError(
            f"expected an example input for {type(model).__name__}, got none; give a batch of your data"
        )
    return tuple(example) if isinstance(example, tuple | list) else (example,)


def _leave(model: Any, before: Diagnosis, trained: bool, force: bool) -> str:
    """Why a model is left alone, if it is."""
    counted = [b for n, b in model.named_buffers() if n.endswith("num_batches_tracked")]
    if not trained and any(int(b) > 0 for b in counted):
        return f"{before.model} has been trained (its normalisations have counted batches) and was left alone"
    if before.trains and not force:
        return f"{before.model} is healthy and was left alone: {before.reason}"
    return ""


def _free(captured: "Capture", keep: Sequence[str], frozen: bool) -> Callable[[str], bool]:
    """Whether a layer's weight may be set."""
    from depthscale.graph.parameters import owner

    def free(name: str) -> bool:
        key = f"{owner(name, captured.graph[name].op)}.weight"
        source = captured.parameters.get(key)
        if source is None or source.steps is None or not source.names:
            return False
        if not frozen and captured.is_frozen(key):
            return False
        return not any(fnmatch.fnmatch(n, pattern) for n in source.names for pattern in keep)

    return free


def _write(
    captured: "Capture", s: Structure, choices: Mapping[str, Choice], arguments: Sequence[Any], seed: int
) -> None:
    """Writes the chosen weights into the module, then scales them while the example passes."""
    import torch

    from depthscale.diagnose.weights import bias, calibrate, weight

    with torch.no_grad():
        for name, choice in choices.items():
            home = captured.tensor(f"{choice.key}.weight")
            w = weight(s.sites[name], choice, tuple(home.shape), seed)
            home.copy_(w)
            if (
                f"{choice.key}.bias" in captured.parameters
                and captured.parameters[f"{choice.key}.bias"].steps is not None
            ):
                b = captured.tensor(f"{choice.key}.bias")
                b.copy_(bias(s.sites[name], choice, w, seed).reshape(b.shape))
        calibrate(captured, s.sites, choices, arguments)


# --- after -----------------------------------------------------------------------------------------------------------


def _law_words(captured: "Capture", name: str) -> str:
    return _measured(captured.tensor(name))


def _measured(value: "Tensor") -> str:
    x = value.detach().double()
    std = float(x.std(unbiased=False))
    return f"standard deviation {std:.3g} of {tuple(x.shape)}" if std > 0 else f"constant {float(x.mean()):.3g}"


def _change(captured: "Capture", choice: Choice, was: str) -> Change:
    source = captured.parameters[f"{choice.key}.weight"]
    value = captured.tensor(f"{choice.key}.weight")
    path = source.names[0] + ("" if not source.steps else f" (part used at {choice.layer})")
    now = f"{choice.what}, {_measured(value)}"
    return Change(path, was, now, choice.why)
