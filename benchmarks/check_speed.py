"""How long ``depthscale check`` takes, from the shell to the prompt, and what watching a training step costs.

Whole commands, imports and all, on every n-th of timm's families (the smallest model of each), each beside a bare
``import torch`` in a process of its own; a Llama of 70 billion parameters from its configuration; and steps of
training with hooks on, taken off again, and never hung, interleaved. Writes results/check_speed.md.

    .venv-parity/bin/python benchmarks/check_speed.py [--every 7] [--steps 31] [--skip-llama]
"""

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from check_coverage import RESULTS, smallest_of_timm

TABLE = RESULTS / "check_speed.md"


class Cost(NamedTuple):
    wall: float  # seconds
    cpu: float  # seconds, of all threads
    peak: float  # GiB


def cost(*arguments: str) -> Cost:
    """Time and memory of one process of this interpreter; fails loudly where it does."""
    start = time.perf_counter()
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, *arguments],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)],
    )
    _, status, used = os.wait4(pid, 0)
    if status:
        raise SystemExit(f"{' '.join(arguments)} ended with status {status}")
    return Cost(time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20)


def commands(every: int) -> list[tuple[str, Cost, Cost]]:
    """(model, the command, the bare imports), interleaved."""
    rows = []
    for spec in smallest_of_timm()[::every]:
        bare = cost("-c", "import torch")
        row = spec, cost("-m", "depthscale", "check", spec), bare
        rows.append(row)
        print(f"{spec}: {row[1].wall:.2f} s, {row[1].cpu:.2f} s CPU; torch {bare.wall:.2f}, {bare.cpu:.2f}", flush=True)
    return rows


def hooks(steps: int) -> dict[str, float]:
    """Median times of a training step relative to one without hooks: interleaved, one after the other."""
    import torch
    from torchvision.models import resnet18

    from depthscale.measure.hooked import DeadUnits
    from depthscale.measure.watched import watch

    net = resnet18(num_classes=10)
    optimiser = torch.optim.SGD(net.parameters(), 0.01)
    x, y = torch.randn(16, 3, 32, 32), torch.randint(0, 10, (16,))

    def step() -> None:
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(net(x), y).backward()
        optimiser.step()

    def watched() -> None:
        with DeadUnits(net):
            step()

    def everything() -> None:
        watch(net, (x,))

    kinds: dict[str, Callable[[], None]] = {
        "plain": step,
        "dead units counted": watched,
        "hooks taken off": step,
        "every module watched, forward and back": everything,
    }
    times: dict[str, list[float]] = {k: [] for k in kinds}
    for i in range(steps + 2):
        for name, run in kinds.items():
            start = time.process_time()
            run()
            if i >= 2:
                times[name].append(time.process_time() - start)
    return {
        name: statistics.median(b / a for a, b in zip(times["plain"], values, strict=True))
        for name, values in times.items()
        if name != "plain"
    }


def main(options: argparse.Namespace) -> None:
    rows = commands(options.every)
    llama = None if options.skip_llama else cost("-m", "depthscale", "check", f"hf:{RESULTS / 'llama-70b.json'}")
    ratios = hooks(options.steps)
    wall, cpu = (statistics.median(r[1][i] for r in rows) for i in (0, 1))
    bare_wall, bare_cpu = (statistics.median(r[2][i] for r in rows) for i in (0, 1))
    beyond = statistics.median(r[1].wall - r[2].wall for r in rows)
    lines = [
        "# What a check costs",
        "",
        f"`python benchmarks/check_speed.py` in the parity environment; torch {version('torch')}, timm "
        f"{version('timm')}, transformers {version('transformers')}, Python {platform.python_version()}, "
        f"{os.cpu_count()} cores ({platform.machine()}); load {os.getloadavg()[0]:.1f} when it ended.",
        "",
        f"**`depthscale check timm:NAME`, the whole command: median {wall:.2f} s of wall time, {cpu:.2f} s of CPU "
        f"time** (n = {len(rows)} families); a bare `import torch` takes {bare_wall:.2f} s and "
        f"{bare_cpu:.2f} s here, and what the command needs beyond that is {beyond:.2f} s (median of the differences).",
        "",
    ]
    if llama is not None:
        lines += [
            f"Llama, 70 billion parameters, from its configuration: {llama.wall:.1f} s of wall time, {llama.cpu:.1f} s "
            f"of CPU time, {llama.peak:.2f} GiB at the peak.",
            "",
        ]
    told = "; ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items())
    lines += [
        f"A training step of ResNet-18 (16 images of 32 × 32), CPU time relative to one without hooks, median of "
        f"{options.steps} interleaved: {told}.",
        "",
        "| model | wall s | CPU s | peak GiB | `import torch`, wall s | CPU s |",
        "|---|---|---|---|---|---|",
    ]
    for spec, whole, bare in rows:
        numbers = f"{whole.wall:.2f} | {whole.cpu:.2f} | {whole.peak:.2f} | {bare.wall:.2f} | {bare.cpu:.2f}"
        lines.append(f"| {spec} | {numbers} |")
    TABLE.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--every", type=int, default=7)
    parser.add_argument("--steps", type=int, default=31)
    parser.add_argument("--skip-llama", action="store_true")
    assert Path(RESULTS).exists()
    main(parser.parse_args())
