"""Scores without training over all of NAS-Bench-201: rank correlation with trained accuracy, on three data sets.

    python benchmarks/search_scores.py [--scores a,b] [--fresh] [--limit N] [--workers 2] [--out FILE]

Every different network is scored once, on one cell a stage; what is finished is kept in OUT.csv, and a second run goes
on from it and measures only the scores that a network lacks (``--fresh``: those named, anew). How long a run over all
networks took is kept in OUT.json. Then a table: Spearman with the test accuracy after 200 epochs, and the partial
correlation given the number of parameters (what is left among networks of equal size).
"""

import argparse
import csv
import json
import multiprocessing
import os
import platform
import time
from functools import partial as bound
from pathlib import Path

import numpy as np
import torch
from scipy.stats import rankdata, spearmanr

from depthscale import zoo
from depthscale.search.scores import SCORES, ranks, score
from depthscale.search.table import DATASETS, Table, load_table
from depthscale.zoo.nasbench201 import published_form

Known = dict[str, dict[str, float]]
BEST = ("spectrum", "independence")
KEEP_EVERY = 200  # networks


def one(names: list[str], cell: str) -> tuple[str, dict[str, float]]:
    torch.set_num_threads(1)
    return cell, score(zoo.nasbench201(cell, cells=1, simplify=True), names)


def partial(x: np.ndarray, y: np.ndarray, given: np.ndarray) -> float:
    """Spearman's partial correlation of x and y given a third."""
    a, b, c = rankdata(x), rankdata(y), rankdata(given)
    r = np.corrcoef([a, b, c])
    return float((r[0, 1] - r[0, 2] * r[1, 2]) / np.sqrt((1 - r[0, 2] ** 2) * (1 - r[1, 2] ** 2)))


def read(file: Path) -> Known:
    if not file.exists():
        return {}
    with file.open() as f:
        return {r.pop("cell"): {k: float(v) for k, v in r.items() if v} for r in csv.DictReader(f)}


def keep(known: Known, file: Path) -> None:
    """All at once: a run that is killed leaves the file of before or the new one."""
    columns = list(dict.fromkeys([*SCORES, *(k for found in known.values() for k in found)]))
    part = file.with_suffix(".part")
    with part.open("w", newline="") as f:
        out = csv.DictWriter(f, ["cell", *columns], restval="", lineterminator="\n")
        out.writeheader()
        for cell, found in known.items():
            out.writerow({"cell": cell, **{k: f"{v:.6g}" for k, v in found.items()}})
    part.replace(file)


def measure(cells: list[str], names: list[str], known: Known, file: Path, workers: int, *, fresh: bool) -> int:
    """Score what is missing; how many networks that were."""
    left = [c for c in cells if fresh or not set(names) <= set(known.get(c, {}))]
    start = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        try:
            for i, (cell, found) in enumerate(pool.imap_unordered(bound(one, names), left, chunksize=8), 1):
                known.setdefault(cell, {}).update(found)
                if i % KEEP_EVERY == 0:
                    keep(known, file)
                    each = (time.monotonic() - start) / i
                    minutes = each * (len(left) - i) / 60
                    print(f"{i:,} of {len(left):,}, {each * 1e3:.0f} ms each, {minutes:.1f} min left", flush=True)
        finally:
            if left:
                keep(known, file)
    return len(left)


def correlations(
    known: Known, groups: dict[str, list[int]], tables: dict[str, Table]
) -> tuple[dict[str, list[float]], int]:
    """By score: Spearman and partial correlation on every data set; and the number of cells."""
    of = {published_form(cell): found for cell, found in known.items()}
    rows = [(i, of[form]) for form, members in groups.items() if form in of for i in members]
    index = np.array([i for i, _ in rows])
    held = [k for k in dict.fromkeys(k for _, r in rows for k in r) if all(k in r for _, r in rows)]
    columns = {k: np.array([r[k] for _, r in rows]) for k in held}
    columns["recorded size"] = tables["cifar10"].size[index]
    if set(BEST) <= set(held):
        columns["log ranks: " + " + ".join(BEST)] = ranks(columns, BEST)
    found = {}
    for name, x in columns.items():
        x = np.nan_to_num(x, neginf=-1e300)
        values = []
        for t in tables.values():
            y = t.test200[index]
            values += [spearmanr(x, y).statistic, partial(x, y, t.size[index]) if name != "recorded size" else np.nan]
        found[name] = values
    return found, len(index)


def markdown(found: dict[str, list[float]]) -> str:
    head = "| score | " + " | ".join(f"{d} | {d}, equal size" for d in DATASETS) + " |"
    lines = [head, "|---" * (1 + 2 * len(DATASETS)) + "|"]
    for name, values in sorted(found.items(), key=lambda kv: -kv[1][0]):
        label = "grad_norm_total (one norm over all parameters)" if name == "grad_norm_total" else name
        lines.append(f"| {label} | " + " | ".join("–" if np.isnan(v) else f"{v:.3f}" for v in values) + " |")
    return "\n".join(lines)


def spent(file: Path) -> str:
    """What whole runs took, in words."""
    if not file.exists():
        return ""
    runs = json.loads(file.read_text())
    return "".join(
        f"{r['networks']:,} networks, {r['scores']}: {r['minutes']:.1f} minutes in {r['workers']} processes of one "
        f"thread ({r['cores']} cores, {r['machine']}, torch {r['torch']}).\n\n"
        for r in runs.values()
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--scores", default=",".join(SCORES), help="only these")
    parser.add_argument("--fresh", action="store_true", help="measure them anew")
    parser.add_argument("--limit", type=int, default=0, help="only this many different networks, drawn at random")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/search_scores"))
    args = parser.parse_args()
    wanted = args.scores.split(",")
    if unknown := [n for n in wanted if n not in SCORES]:
        parser.error(f"expected scores ({', '.join(SCORES)}), got {', '.join(unknown)}")
    tables = {name: load_table(dataset=name) for name in DATASETS}
    cells = list(tables["cifar10"].cells)
    groups: dict[str, list[int]] = {}
    for i, cell in enumerate(cells):
        groups.setdefault(published_form(cell), []).append(i)
    names = [cells[rows[0]] for rows in groups.values()]
    if args.limit:
        names = [names[int(i)] for i in np.random.default_rng(0).permutation(len(names))[: args.limit]]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    file, times = args.out.with_suffix(".csv"), args.out.with_suffix(".json")
    known = read(file)
    start = time.monotonic()
    done = measure(names, wanted, known, file, args.workers, fresh=args.fresh)
    if done == len(groups):  # a whole run: its time says something
        runs = json.loads(times.read_text()) if times.exists() else {}
        label = "all scores" if set(wanted) == set(SCORES) else " and ".join(wanted)
        runs[label] = {"scores": label, "networks": done, "minutes": (time.monotonic() - start) / 60,
                       "workers": args.workers, "cores": os.cpu_count(), "machine": platform.machine(),
                       "torch": torch.__version__}  # fmt: skip
        times.write_text(json.dumps(runs, indent=1) + "\n")
    found, count = correlations(known, groups, tables)
    text = markdown(found)
    print(text)
    print(f"{count:,} cells, {len(known):,} different networks, {done:,} measured now")
    if not args.limit:
        about = (
            "# Scores without training on NAS-Bench-201\n\n"
            f"Spearman's rank correlation with the test accuracy after 200 epochs, over {count:,} cells "
            f"({len(known):,} different networks); "
            '"equal size": partial correlation given the number of parameters. Networks with one cell a stage, one '
            "draw of the weights, 16 inputs of noise (`python benchmarks/search_scores.py`).\n\n"
            f"{spent(times)}Published for grad_norm and snip: .594 and .596, with five cells a stage instead of one "
            "and real images. How much of that is depth: on 20 random cells, with the same noise, the sum of layers' "
            "gradient norms has .53 with one cell a stage and .73 with three, and one norm over all parameters .20 "
            "and .50.\n\n"
        )
        args.out.with_suffix(".md").write_text(about + text + "\n")


if __name__ == "__main__":
    main()
