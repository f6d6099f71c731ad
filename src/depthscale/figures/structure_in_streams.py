"""Is it worth changing a network's structure while the data change? Streams: what is learned, what is forgotten."""

from typing import TYPE_CHECKING

from depthscale.figures._growth import MARKS, spot
from depthscale.figures.figure import Data, Figure, Say
from depthscale.figures.structure_that_learns import cancer, digits, judge
from depthscale.figures.style import picture
from depthscale.grow import verdict as v
from depthscale.grow.experiment import Setting
from depthscale.grow.streams import run_stream
from depthscale.zoo import mlp

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture

NAMES = ("developmental", "rigl", "set", "grow-only", "prune-only", "fixed-large", "fixed-small", "random")
QUICK = ("developmental", "rigl", "fixed-large", "fixed-small")


def streams(quick: bool) -> list[tuple[Setting, str]]:
    """Digits whose classes arrive or whose pixels are permuted, and a table that drifts."""
    share = 0.12 if quick else 1.0
    images = Setting("digits", digits, mlp((64, 64, 64, 10)), 24_000, 8_000, 3e9 * share, batch=32)
    table = Setting("breast-cancer", cancer, mlp((30, 32, 32, 2)), 6_000, 1_500, 3e8 * share, batch=32)
    return [(images, "classes"), (table, "drift"), *([] if quick else [(images, "permuted")])]


def run(quick: bool, seed: int, say: Say) -> Data:
    """Every schedule through every stream of four stages, several seeds."""
    names, seeds = (QUICK, 5) if quick else (NAMES, 8)
    rows = []
    for s in range(seeds):
        for setting, kind in streams(quick):
            for name in names:
                say(f"{setting.name} {kind}, seed {s + 1} of {seeds}: {name}")
                rows.append(run_stream(setting, kind, name, 1000 * seed + s))
    return {"rows": rows}


def draw(data: Data) -> "Picture":
    """Accuracy over all stages at the end against what was forgotten, one panel a stream."""
    rows = data["rows"]
    settings_, names = v.settings_of(rows), v.schedules_of(rows)
    figure, axes = picture(1, len(settings_), width=4.3 * len(settings_), height=3.8)
    for a, s in zip(axes, settings_, strict=True):
        for name in [n for n in MARKS if n in names]:
            x, y = ([100 * r for r in v.values(rows, s, name, key).values()] for key in ("forgotten", "accuracy"))
            spot(a, name, x, y, sideways=True)
        a.set_title(s)
        a.set_xlabel("forgotten, points")
    axes[0].set_ylabel("accuracy over all stages at the end, %")
    axes[-1].legend(fontsize=7.5)
    return figure


FIGURE = Figure(
    name="structure-in-streams",
    title="Structure in a stream of tasks",
    claim="When classes arrive, inputs are permuted or a table drifts, a structure that grows and prunes again at each "
    "change ends with more accuracy over all stages than fixed networks and RigL at the same training FLOPs.",
    source="own question; forgetting as in Chaudhry et al. 2018, streams as in Goodfellow et al. 2014",
    order=510,
    run=run,
    judge=judge,
    draw=draw,
)
