"""Every strategy on the table of NAS-Bench-201: what it would report after so many queries and so many hours.

    python benchmarks/search_nb201.py [--strategies a,b] [--data cifar10,cifar100,imagenet16] [--seeds N] [--report]

Selection by 12-epoch validation accuracy, report of the chosen cell's 200-epoch test accuracy. Every run is a line of
OUT.csv (benchmarks/results/search_nb201.csv) and is not run again; the table OUT.md is made from all lines there are.
A network that was asked for before is not charged again, up to ten asks a query; beyond, repeats are charged.
"largest" queries cells in the order of their parameters. Names with "+scores" get scores without training (those of
search_scores.csv), whose cost is not charged.
"""

import argparse
import csv
import platform
import time
from pathlib import Path

import numpy as np

from depthscale.search.compare import paired
from depthscale.search.features import cell_features, of_decisions
from depthscale.search.spaces import space
from depthscale.search.strategies import strategy
from depthscale.search.table import DATASETS, Curve, load_table
from depthscale.search.tabular import largest, search_table
from depthscale.zoo.nasbench201 import EDGES, published_form, write

QUERIES = (50, 100, 150, 500)
HOURS = (2, 5, 10, 20, 50)
OUT = Path("benchmarks/results/search_nb201")
MANY = 500
SEEDS = {  # on CIFAR-10; a quarter of them, at least as many as are in LEAST, on the others
    "random": MANY, "evolution": MANY, "local": MANY, "local-first": MANY, "largest": 100,
    "q-learning": MANY, "q-learning-shaped": MANY, "mcts": MANY, "screened+scores": MANY,
    "tpe": MANY, "predictor": 200, "predictor+scores": 200, "progressive": 100, "policy": 200, "nsga2": 200,
    "controller": 40, "ppo": 40, "gp": 5,
}  # fmt: skip
LEAST = 10
SHORT = {"gp": 100}  # queries of a strategy that is too slow for more
LONG = {
    "tpe": 10, "predictor": 5, "predictor+scores": 5, "progressive": 5, "policy": 10, "controller": 5, "ppo": 5,
    "nsga2": 10,
}  # fmt: skip
LONG_USUAL = 100  # seeds that go on to 500 queries; later ones end at 150
SCORES = ("spectrum", "independence")


def scores() -> dict[str, np.ndarray]:
    """Scores by cell."""
    with Path("benchmarks/results/search_scores.csv").open() as f:
        rows = list(csv.DictReader(f))
    by_form = {published_form(r["cell"]): np.array([float(r[s]) for s in SCORES]) for r in rows}
    return {cell: by_form[published_form(cell)] for cell in load_table().cells}


def sampler(name: str, seed: int, known: dict[str, np.ndarray]):
    plain, _, extra = name.partition("+")
    if extra:
        names = [f"edge{s}{n}" for n, s in EDGES]

        def features(decisions):
            cell = write(tuple(decisions[n] for n in names))
            own = known[cell]
            return own if plain == "screened" else np.concatenate([cell_features(cell), np.log1p(own)])

        return strategy(plain, seed, features=features)
    if plain == "predictor":
        return strategy(plain, seed, features=FEATURES)
    return strategy(plain, seed)


FEATURES = of_decisions(space("nasbench201"), 20_000)


def one(name: str, table, seed: int, known) -> Curve:
    queries = SHORT.get(name, QUERIES[-1] if seed < LONG.get(name, LONG_USUAL) else QUERIES[-2])
    if name == "largest":
        return largest(table, queries, np.random.default_rng(seed))
    return search_table(space("nasbench201"), table, sampler(name, seed, known), queries, most_asks=10)


def fields(curve: Curve, seconds: float) -> dict[str, str]:
    at = {f"q{q}": curve.incumbent[q - 1] for q in QUERIES if q <= len(curve.incumbent)}
    for h in HOURS:
        reached = int(np.searchsorted(curve.seconds, 3600 * h, side="right"))
        if 0 < reached < len(curve.seconds):
            at[f"h{h}"] = curve.incumbent[reached - 1]
    return {k: f"{v:.4f}" for k, v in at.items()} | {"cpu": f"{seconds:.2f}"}


COLUMNS = ["data", "strategy", "seed", *(f"q{q}" for q in QUERIES), *(f"h{h}" for h in HOURS), "cpu"]


def run(names: list[str], data: list[str], seeds: int | None, file: Path) -> None:
    known = scores()
    done = set()
    if file.exists():
        with file.open() as f:
            done = {(r["data"], r["strategy"], int(r["seed"])) for r in csv.DictReader(f)}
    with file.open("a", newline="") as f:
        out = csv.DictWriter(f, COLUMNS, restval="", lineterminator="\n")
        if not done:
            out.writeheader()
        for dataset in data:
            table = load_table(dataset=dataset)
            for name in names:
                n = SEEDS[name] if dataset == "cifar10" else max(min(SEEDS[name] // 4, 100), min(LEAST, SEEDS[name]))
                for seed in range(min(n, seeds or n)):
                    if (dataset, name, seed) in done:
                        continue
                    start = time.process_time()
                    curve = one(name, table, seed, known)
                    used = time.process_time() - start
                    out.writerow({"data": dataset, "strategy": name, "seed": seed, **fields(curve, used)})
                    f.flush()
                print(f"{time.strftime('%H:%M')} {dataset} {name}", flush=True)


def report(file: Path) -> str:
    with file.open() as f:
        rows = list(csv.DictReader(f))
    parts = [
        "# Strategies on NAS-Bench-201\n",
        "Selection by validation accuracy after 12 epochs; reported is the test accuracy after 200 epochs of the cell "
        "chosen so far (%), mean ± standard deviation over seeds. Paired: difference to random search with the same "
        "seeds after 150 queries, ± standard error, and the p-value of a randomisation test. Repeats of a network are "
        "not charged (`benchmarks/search_nb201.py`). " + f"{platform.machine()}, one thread.\n",
    ]
    for dataset in DATASETS:
        of = {}
        for r in rows:
            if r["data"] == dataset:
                of.setdefault(r["strategy"], {})[int(r["seed"])] = r
        if not of:
            continue
        best = load_table(dataset=dataset).test200.max()
        for kind, keys in (("queries", [f"q{q}" for q in QUERIES]), ("simulated hours", [f"h{h}" for h in HOURS])):
            last = "| paired with random at 150 |" if kind == "queries" else "|"
            parts.append(f"\n## {dataset}, by {kind} (best cell {best:.2f})\n")
            parts.append("| strategy | n | " + " | ".join(k[1:] for k in keys) + f" {last}")
            parts.append("|---" * (2 + len(keys) + (kind == "queries")) + "|")
            order = sorted(of, key=lambda s: -_mean(of[s], keys[2] if kind == "queries" else keys[1]))
            for name in order:
                cells = [_cell(of[name], k) for k in keys]
                tail = f" {_paired(of, name)} |" if kind == "queries" else ""
                parts.append(f"| {name} | {len(of[name])} | " + " | ".join(cells) + " |" + tail)
    return "\n".join(parts) + "\n"


def _values(runs, key):
    return [float(r[key]) for r in runs.values() if r[key]]


def _mean(runs, key):
    return np.mean(_values(runs, key)) if _values(runs, key) else -np.inf


def _cell(runs, key):
    v = _values(runs, key)
    if not v or (key[0] == "h" and len(v) < len(runs) / 2):  # few runs last so long
        return "–"
    n = f" (n = {len(v)})" if key[0] == "q" and len(v) < len(runs) else ""
    return (f"{np.mean(v):.2f} ± {np.std(v, ddof=1):.2f}" if len(v) > 1 else f"{v[0]:.2f}") + n


def _paired(of, name):
    both = sorted(s for s in set(of[name]) & set(of.get("random", {})) if of[name][s]["q150"])
    if name == "random" or not both:
        return "–"
    return paired([float(of[name][s]["q150"]) for s in both], [float(of["random"][s]["q150"]) for s in both]).words


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--strategies", default=",".join(SEEDS))
    parser.add_argument("--data", default=",".join(DATASETS))
    parser.add_argument("--seeds", type=int, default=None, help="at most so many: 10, say, for a first look at all")
    parser.add_argument("--report", action="store_true", help="only write the table")
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    file = args.out.with_suffix(".csv")
    if not args.report:
        run(args.strategies.split(","), args.data.split(","), args.seeds, file)
    text = report(file)
    args.out.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
