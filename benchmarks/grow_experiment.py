"""Is a structure that learns worth it? Every schedule on several data sets under one budget of training operations.

``python benchmarks/grow_experiment.py run --part static`` (or streams) adds runs to
benchmarks/results/grow_static.jsonl one by one: kill it whenever you like, it goes on where it was. ``report`` writes
the tables, pictures and verdicts. Data: scikit-learn's, MNIST and CIFAR-10 from $DEPTHSCALE_DATA; settings without
their data are left out, saying so.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import tarfile
import time
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from depthscale import zoo
from depthscale.figures._growth import MARKS
from depthscale.figures.structure_that_learns import cancer, digits
from depthscale.grow import verdict as v
from depthscale.grow.experiment import SCHEDULES, Rows, Setting, drawn, run_one
from depthscale.grow.streams import run_stream

RESULTS = Path(__file__).parent / "results"
DATA = Path(os.environ.get("DEPTHSCALE_DATA", "data"))


@lru_cache(maxsize=1)
def mnist() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """MNIST at 14 × 14 (means of 2 × 2 pixels)."""
    from depthscale.data.mnist import read_mnist

    raw = read_mnist()
    x = np.asarray(raw.x, np.float32).reshape(-1, 1, 14, 2, 14, 2).mean((3, 5)) / 255
    y = np.asarray(raw.y).astype(np.int64)
    return x[:60000], y[:60000], x[60000:], y[60000:]


@lru_cache(maxsize=1)
def cifar() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """CIFAR-10 at 16 × 16: 800 images a class of the training part, 200 of the test part, decoded once and kept."""
    kept = Path(os.environ.get("XDG_CACHE_HOME", "/tmp")) / "depthscale_cifar16.npz"
    if not kept.exists():
        from PIL import Image

        wanted = {"train": 800, "test": 200}
        counts: dict[str, int] = {}
        found: dict[str, list] = {"x_train": [], "y_train": [], "x_test": [], "y_test": []}
        names: list[str] = []
        with tarfile.open(DATA / "cifar10_jpeg.tar.xz") as archive:
            for member in archive:
                parts = member.name.split("/")
                if len(parts) != 4 or parts[1] not in wanted or not member.isfile():
                    continue
                if counts.get(f"{parts[1]}/{parts[2]}", 0) >= wanted[parts[1]]:
                    continue
                counts[f"{parts[1]}/{parts[2]}"] = counts.get(f"{parts[1]}/{parts[2]}", 0) + 1
                if parts[2] not in names:
                    names.append(parts[2])
                image = Image.open(io.BytesIO(archive.extractfile(member).read())).convert("RGB")
                x = np.asarray(image, np.float32).reshape(16, 2, 16, 2, 3).mean((1, 3)).transpose(2, 0, 1) / 255
                found[f"x_{parts[1]}"].append(x)
                found[f"y_{parts[1]}"].append(names.index(parts[2]))
        np.savez_compressed(kept, **{k: np.asarray(v) for k, v in found.items()})
    with np.load(kept) as f:
        return f["x_train"], f["y_train"].astype(np.int64), f["x_test"], f["y_test"].astype(np.int64)


def mnist_rows(seed: int) -> Rows:
    x, y, x_test, y_test = mnist()
    return drawn(x, y, seed, 4000, 0, (x_test[:4000], y_test[:4000]))


def cifar_rows(seed: int) -> Rows:
    x, y, x_test, y_test = cifar()
    return drawn(x, y, seed, 5000, 0, (x_test, y_test))


def settings() -> dict[str, Setting]:
    mlp = zoo.mlp((64, 64, 64, 10))
    table = zoo.mlp((30, 32, 32, 2))
    grey = zoo.convnet((1, 1), 8, image_size=14, norm="batch")
    colour = zoo.convnet((1, 1, 1), 8, in_channels=3, image_size=16, norm="batch")
    found = [
        Setting("digits", digits, mlp, 24_000, 8_000, 1.5e9, batch=32),
        Setting("breast-cancer", cancer, table, 6_000, 1_500, 1.7e8, batch=32),
        Setting("mnist", mnist_rows, grey, 8_000, 2_700, 1e10),
        Setting("cifar10", cifar_rows, colour, 13_000, 4_400, 2e10),
    ]
    return {s.name: s for s in found}


def streams() -> dict[str, tuple[Setting, str]]:
    mlp = zoo.mlp((64, 64, 64, 10))
    table = zoo.mlp((30, 32, 32, 2))
    grey = zoo.convnet((1, 1), 8, image_size=14, norm="batch")
    found = [
        (Setting("digits", digits, mlp, 24_000, 8_000, 3e9, batch=32), "permuted"),
        (Setting("digits", digits, mlp, 24_000, 8_000, 3e9, batch=32), "classes"),
        (Setting("breast-cancer", cancer, table, 6_000, 1_500, 3e8, batch=32), "drift"),
        (Setting("mnist", mnist_rows, grey, 8_000, 2_700, 1.5e10), "rotated"),
    ]
    return {f"{s.name} {kind}": (s, kind) for s, kind in found}


def jobs(part: str, seeds: range, shares: tuple[float, ...], only: str | None, schedules: tuple[str, ...]):
    if part == "streams":
        for seed in seeds:
            for setting, kind in streams().values():
                for name in schedules:
                    if only is None or setting.name in only.split(","):
                        yield setting, kind, name, seed, 1.0
        return
    for share in shares:
        for seed in seeds:  # all schedules of a seed before the next: what there is can be compared at any time
            for setting in settings().values():
                for name in schedules:
                    if only is None or setting.name in only.split(","):
                        yield setting, "", name, seed, share


def run(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    path = Path(args.out or RESULTS / f"grow_{args.part}.jsonl")
    path.parent.mkdir(parents=True, exist_ok=True)
    done = {(r["setting"], r["schedule"], r["seed"], r["share"]) for r in read(path)}
    shares = tuple(float(s) for s in args.shares.split(","))
    names = tuple(args.schedules.split(",")) if args.schedules else SCHEDULES
    for i, (setting, kind, name, seed, share) in enumerate(
        jobs(args.part, range(args.first, args.first + args.seeds), shares, args.only, names)
    ):
        label = f"{setting.name} {kind}".strip()
        if (label, name, seed, share) in done or i % args.of != args.worker:
            continue
        began = time.time()
        try:
            found = run_stream(setting, kind, name, seed) if kind else run_one(setting, name, seed, share)
        except (FileNotFoundError, OSError) as error:
            print(f"{setting.name} left out: {error}", file=sys.stderr)
            continue
        with path.open("a") as file:
            file.write(json.dumps(found) + "\n")
            file.flush()
            os.fsync(file.fileno())
        print(
            f"{label:20s} {name:14s} seed {seed} share {share:g}: accuracy {found['accuracy']:.4f}, "
            f"{found['parameters']} parameters, {found['steps']} steps, {found['cpu_seconds']:.1f} CPU s, "
            f"{time.time() - began:.0f} s",
            flush=True,
        )


def read(path: Path) -> list[dict]:
    if not path.exists():
        return []
    found = []
    for line in path.read_text().splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue  # a line torn by a kill
    return found


LABELS = {"static": "accuracy", "streams": "accuracy over all stages"}


def report(args: argparse.Namespace) -> None:
    """Tables, verdicts and picture from what has been run."""
    rows = read(Path(args.out or RESULTS / f"grow_{args.part}.jsonl"))
    shares = sorted({r["share"] for r in rows}, key=lambda s: (s != 1.0, -s))
    path = RESULTS / f"grow_{args.part}.md"
    lines = [
        f"# Structure that learns: {args.part}",
        "",
        f"`python benchmarks/grow_experiment.py run --part {args.part}`, then `report --part {args.part}`. "
        "Every schedule of a setting has the same rows, training FLOPs (6 per multiply-add and row; connections that a "
        "mask leaves out are not counted, what decisions look at is, and costs a tenth at most), cap on parameters, "
        "learning rate and batch; all but fixed-large end with the same number of parameters. Test rows were never "
        "looked at before the end. Hyperparameters of development were chosen on other seeds (100 to 102) and on "
        f"training rows that these seeds leave. {machine()}",
        "",
    ]
    for share in shares:
        lines += [f"**Verdict{_budget(share)}** (from these numbers): {_outcome(rows, share)}", ""]
    for share in shares:
        lines += _tables(rows, share, streams=args.part == "streams")
    path.write_text("\n".join(lines).rstrip() + "\n")
    _picture(rows, sorted(shares), args.part).savefig(RESULTS / f"grow_{args.part}.png", dpi=110)
    print(path.read_text())


def _budget(share: float) -> str:
    return "" if share == 1.0 else f" with {share:g} times the training FLOPs"


def _outcome(rows: list[dict], share: float) -> str:
    found = v.verdict(rows, share=share)
    outcome = "goal reached" if found.reached else "goal not reached"
    if found.n < v.ENOUGH:
        outcome = f"undecided, for some setting has fewer than {v.ENOUGH} seeds so far"
    return f"{outcome}: {found.words}."


def _picture(rows: list[dict], shares: list[float], part: str):
    """Accuracy against size (whole budget), and against operations where several budgets were run."""
    from depthscale.figures._growth import mark, sizes
    from depthscale.figures.style import picture

    settings_, names = v.settings_of(rows), v.schedules_of(rows)
    height = min(len(shares), 2)
    figure, axes = picture(height, len(settings_), width=3.3 * len(settings_), height=3.6 * height)
    grid = np.asarray(axes, dtype=object).reshape(-1, len(settings_))
    for k, s in enumerate(settings_):
        sizes(grid[0][k], rows, s)
        for name in [n for n in MARKS if n in names] if height > 1 else []:
            points = [p for p in (_point(rows, s, name, share) for share in shares) if not np.isnan(p[1])]
            x, y, error = zip(*points, strict=True)
            grid[1][k].errorbar(x, y, yerr=error, **(mark(name) | {"markersize": 6, "ls": "-", "lw": 1}))
            grid[1][k].set_xscale("log")
            grid[1][k].set_xlabel("training FLOPs")
    for row in grid:
        row[0].set_ylabel(f"test {LABELS[part]}, %")
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=8)
    return figure


def _point(rows: list[dict], setting: str, name: str, share: float) -> tuple[float, float, float]:
    """A schedule at a budget: mean operations, mean accuracy in %, its standard error; nan where it has no run."""
    acc = np.array(list(v.values(rows, setting, name, share=share).values()))
    if not len(acc):
        return float("nan"), float("nan"), 0.0
    error = float(acc.std(ddof=1)) / len(acc) ** 0.5 if len(acc) > 1 else 0.0
    return v.mean(rows, setting, name, "flops", share), 100 * float(acc.mean()), 100 * error


def machine() -> str:
    import platform

    return f"{platform.machine()}, {os.cpu_count()} cores, one thread a run, torch {torch.__version__}."


def _tables(rows: list[dict], share: float, *, streams: bool) -> list[str]:
    """One table a setting; for parts of the budget, all settings in one."""
    here = [r for r in rows if r["share"] == share]
    settings_ = v.settings_of(here)
    names = [n for n in MARKS if n in v.schedules_of(here)]
    if share < 1.0:
        lines = [f"## Test accuracy, %,{_budget(share)}", "",
                 "| schedule | " + " | ".join(settings_) + " |", "|---" * (1 + len(settings_)) + "|"]  # fmt: skip
        for name in names:
            found = [_point(rows, s, name, share)[1:] for s in settings_]
            cells = ["–" if np.isnan(y) else f"{y:.2f} ± {e:.2f}" for y, e in found]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        return [*lines, ""]
    return [line for s in settings_ for line in _table(rows, s, names, share, streams=streams)]


def _table(rows: list[dict], setting: str, names: list[str], share: float, *, streams: bool) -> list[str]:
    more = " forgotten | learned |" if streams else ""
    lines = [
        f"## {setting}{_budget(share)}",
        "",
        f"| schedule | n | test accuracy, % |{more} parameters | at most | steps | CPU s | developmental less it |",
        "|---|---|---|" + ("---|---|" if streams else "") + "---|---|---|---|---|",
    ]
    for name in names:
        n = len(v.values(rows, setting, name, share=share))
        if not n:
            continue
        _, acc, error = _point(rows, setting, name, share)

        def m(key: str, name: str = name) -> float:
            return v.mean(rows, setting, name, key, share)

        extra = f" {100 * m('forgotten'):.2f} | {100 * m('learned'):.2f} |" if streams else ""
        test = None if name == "developmental" else v.against(rows, setting, "developmental", name, share=share)
        words = "" if test is None else f"{100 * test.difference:+.2f} ± {100 * test.error:.2f} (p = {test.p:.2g})"
        lines.append(
            f"| {name} | {n} | {acc:.2f} ± {error:.2f} |{extra} {m('parameters'):,.0f} | "
            f"{m('largest'):,.0f} | {m('steps'):,.0f} | {m('cpu_seconds'):.1f} | {words} |"
        )
    by = v.dominators(rows, setting, "developmental", share=share)
    lines += ["", f"On the front: {'yes' if not by else 'no, ' + ', '.join(by) + ' is better and no larger'}.", ""]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("run", "report"))
    parser.add_argument("--part", choices=("static", "streams"), default="static")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--shares", default="1")
    parser.add_argument("--only")
    parser.add_argument("--schedules")
    parser.add_argument("--out")
    parser.add_argument("--worker", type=int, default=0)
    parser.add_argument("--of", type=int, default=1)
    args = parser.parse_args()
    if args.what == "run":
        run(args)
    else:
        report(args)


if __name__ == "__main__":
    main()
