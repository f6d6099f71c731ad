"""Which real models can be checked: captured from their code alone, propagated to the end, no operation passed over.

The smallest model of every module family of timm, all classification models of torchvision, and architectures of
transformers made from configurations on the spot. Every model is a line of benchmarks/results/check_coverage.jsonl as
soon as it is done, and is not done again (``--again`` forgets); the table is benchmarks/results/check_coverage.md.

    .venv-parity/bin/python benchmarks/check_coverage.py [--only NAME ...] [--again] [--table]
"""

import argparse
import gc
import json
import os
import platform
import resource
import statistics
import sys
import time
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
LINES = RESULTS / "check_coverage.jsonl"
TABLE = RESULTS / "check_coverage.md"
TRANSFORMERS = (
    "bert", "distilbert", "roberta", "electra", "albert", "deberta-v2", "gpt2", "gpt_neox", "opt", "bloom", "llama",
    "mistral", "qwen2", "gemma", "phi", "t5", "bart", "vit", "deit", "beit", "convnextv2", "whisper", "wav2vec2",
    "mamba",
)  # fmt: skip
LARGE = {  # of published size, from its configuration, without weights
    "llama-70b": {
        "model_type": "llama", "hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80,
        "num_attention_heads": 64, "num_key_value_heads": 8, "vocab_size": 128256, "rope_theta": 500000.0,
        "max_position_embeddings": 8192, "rms_norm_eps": 1e-5,
    },
}  # fmt: skip


def smallest_of_timm() -> list[str]:
    """The model with the fewest parameters of every module of timm, kept beside the results (it takes minutes)."""
    kept = RESULTS / "timm_smallest.json"
    if kept.exists():
        found: dict[str, str] = json.loads(kept.read_text())["smallest"]
        return sorted(f"timm:{name}" for name in found.values())
    import timm
    import torch

    by_module: dict[str, list[str]] = defaultdict(list)
    for module in timm.list_modules():
        by_module[module] = timm.list_models(module=module, pretrained=False)
    smallest = {}
    for module, names in by_module.items():
        sizes = {}
        for name in names:
            try:
                with torch.device("meta"):
                    sizes[name] = sum(p.numel() for p in timm.create_model(name).parameters())
            except Exception as error:
                print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
        if sizes:
            smallest[module] = min(sizes, key=lambda n: (sizes[n], n))
            print(f"{module}: {smallest[module]} ({sizes[smallest[module]]:,})", flush=True)
    kept.write_text(json.dumps({"timm": timm.__version__, "smallest": smallest}, indent=1) + "\n")
    return sorted(f"timm:{name}" for name in smallest.values())


def every_spec() -> list[str]:
    import torchvision.models as models

    vision = [f"torchvision:{n}" for n in models.list_models(module=models)]
    large = []
    for name, config in LARGE.items():
        path = RESULTS / f"{name}.json"
        path.write_text(json.dumps(config, indent=1) + "\n")
        large.append(f"hf:{os.path.relpath(path)}")
    return [*smallest_of_timm(), *vision, *[f"hf:{n}" for n in TRANSFORMERS], *large]


def check(spec: str) -> dict[str, Any]:
    """One line: what came out, or why nothing did."""
    from depthscale.capture.load import load
    from depthscale.errors import DepthscaleError
    from depthscale.theory.propagate import propagate

    wall, cpu = time.perf_counter(), time.process_time()
    row: dict[str, Any] = {"spec": spec}
    try:
        captured = load(spec).capture()
        row["capture_s"] = round(time.perf_counter() - wall, 3)
        said = propagate(captured.graph, batch=captured.batch)
        row |= {
            "nodes": len(captured.graph),
            "parameters": captured.graph.cost().parameters,
            "fixed_batch": captured.fixed_batch,
            "verdict": said.verdict.kind,
            "aten": sorted({o.aten for o in captured.origins.values()}),
        }
    except DepthscaleError as error:  # a rule that fails on its own is a defect, told as a message or not
        row["crash" if _unforeseen(error) else "message"] = str(error)
    except Exception as error:  # a defect of ours: told apart from a message
        row["crash"] = f"{type(error).__name__}: {error}"[:300]
    row["wall_s"] = round(time.perf_counter() - wall, 3)
    row["cpu_s"] = round(time.process_time() - cpu, 3)
    row["peak_gb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)
    return row


def _unforeseen(error: Exception) -> bool:
    return "does not know this use of it" in str(error)


def read() -> dict[str, dict[str, Any]]:
    if not LINES.exists():
        return {}
    rows = [json.loads(line) for line in LINES.read_text().splitlines() if line.strip()]
    return {r["spec"]: r for r in rows}


def table(rows: list[dict[str, Any]]) -> str:
    torch, vision, timm, hf = (version(n) for n in ("torch", "torchvision", "timm", "transformers"))
    done = [r for r in rows if "verdict" in r]
    wall, cpu = ([r[k] for r in done] for k in ("wall_s", "cpu_s"))
    crashed = sum("crash" in r for r in rows)
    kinds = " · ".join(
        f"{kind} {sum('verdict' in r for r in own)} of {len(own)}"
        for kind in ("timm", "torchvision", "hf")
        if (own := [r for r in rows if r["spec"].startswith(kind + ":")])
    )
    total = len(every_spec())
    lines = [
        "# Which real models can be checked",
        "",
        f"{len(done)} of {len(rows)} ({len(done) / len(rows):.1%}) with a propagation in which no operation was passed "
        f"over ({kinds}); {len(rows) - len(done) - crashed} end with a message that names what is "
        f"missing, {crashed} in a "
        f"failure of a rule (marked crash). {total - len(rows)} of the {total} models asked for have not been run.",
        "",
        "Rows were made in pieces on a machine shared with other work; failing rows are as last run.",
        "",
        f"Capture and propagation, imports not counted: median {statistics.median(wall):.2f} s of wall time, "
        f"{statistics.median(cpu):.2f} s of CPU time, slowest {max(wall):.1f} s. torch {torch}, "
        f"torchvision {vision}, timm {timm}, transformers {hf}, "
        f"Python {platform.python_version()}, {os.cpu_count()} cores ({platform.machine()}), batch of 8, models on the "
        "meta device. Made again by `python benchmarks/check_coverage.py --again` in the parity environment.",
        "",
        "| model | parameters | nodes | verdict | wall s | CPU s |",
        "|---|---|---|---|---|---|",
    ]
    for r in sorted(rows, key=lambda r: ("verdict" in r, r["spec"])):
        name = r["spec"].replace(os.path.relpath(RESULTS) + "/", "")
        if "verdict" in r:
            counts = f"{r['parameters']:,} | {r['nodes']:,}"
            lines.append(f"| {name} | {counts} | {r['verdict']} | {r['wall_s']:.2f} | {r['cpu_s']:.2f} |")
        else:
            said = (r.get("message") or r.get("crash", "")).replace("|", "/").replace("\n", " ")
            said = "crash: " + said if "crash" in r else said
            lines.append(f"| {name} | | | **{said[:200]}** | {r['wall_s']:.2f} | {r['cpu_s']:.2f} |")
    return "\n".join(lines) + "\n"


def main(only: list[str], again: bool, just_table: bool, failed: bool) -> int:
    RESULTS.mkdir(exist_ok=True)
    specs = every_spec()
    if only:
        specs = [s for s in specs if any(o in s for o in only)] or only
    known = {} if again and not only else read()
    if again and not only:
        LINES.unlink(missing_ok=True)
    for i, spec in enumerate(specs, 1):
        done = spec in known and not (failed and "verdict" not in known[spec])
        if just_table or (done and not only):
            continue
        row = known[spec] = check(spec)
        with LINES.open("a") as out:
            out.write(json.dumps(row) + "\n")
        said = row.get("verdict") or row.get("message") or "CRASH " + row.get("crash", "")
        print(f"{i}/{len(specs)} {spec}: {said}  {row['wall_s']:.1f} s, {row['cpu_s']:.1f} s CPU", flush=True)
        gc.collect()
    rows = [known[s] for s in every_spec() if s in known]
    if rows:
        TABLE.write_text(table(rows))
    missing = [r["spec"] for r in rows if "verdict" not in r]
    print(f"{len(rows) - len(missing)} of {len(rows)} checked")
    return 0 if len(missing) <= 0.05 * len(rows) else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="*", default=[], help="parts of names")
    parser.add_argument("--again", action="store_true", help="forget what is known")
    parser.add_argument("--table", action="store_true", help="only write the table from what is known")
    parser.add_argument("--failed", action="store_true", help="try again what failed")
    options = parser.parse_args()
    sys.exit(main(options.only, options.again, options.table, options.failed))
