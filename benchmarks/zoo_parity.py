"""Every network of the zoo that torchvision or timm has, beside theirs: same weights, same numbers.

For each pair: all weights and running statistics are randomised, copied across by ``zoo.load_torchvision`` or
``zoo.load_timm``, and both run on the same two images in float64, dropout off: outputs in training mode, the norm of
every parameter's gradient, outputs in evaluation with the statistics that training moved. Multiply-adds are compared
with half of what ``torch.utils.flop_counter`` counts on theirs, at the full image size, on the meta device.

    .venv-parity/bin/python benchmarks/zoo_parity.py [--only NAME …]

Errors are relative: the largest difference over the largest value; for gradients, over tensors, of their norms.
Needs torchvision and timm; takes about a quarter of an hour on two cores. Writes benchmarks/results/zoo_parity.md.
"""

import argparse
import gc
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from depthscale import zoo
from depthscale.build import build
from depthscale.errors import DepthscaleError
from depthscale.graph import Graph, edit, ops

RESULTS = Path(__file__).parent / "results" / "zoo_parity.md"
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}


@dataclass(frozen=True)
class Pair:
    """A network of the zoo and its counterpart; ``image`` is the size at which outputs are compared."""

    name: str
    library: str
    theirs: str
    image: int = 64
    full: int = 224
    ours: dict[str, Any] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)  # of theirs
    sized: bool = False  # theirs is made for one image size
    dtype: torch.dtype = torch.float64

    @property
    def label(self) -> str:
        options = ", ".join(f"{k}={v}" for k, v in self.ours.items() if k != "small")
        return f"{self.name} ({options})" if options else self.name

    def graph(self, image: int) -> Graph:
        small = {"small": False} if "small" in zoo.entry(self.name).takes else {}
        return without_dropout(zoo.get(self.name, image_size=image, **{**small, **self.ours}))

    def module(self, image: int) -> nn.Module:
        arguments = dict(self.arguments)
        if self.library == "torchvision":
            if self.sized:
                arguments["image_size"] = image
            if self.theirs in ("googlenet", "inception_v3"):
                arguments = {"init_weights": False, "aux_logits": False, **arguments}
            return torchvision.models.get_model(self.theirs, weights=None, **arguments)
        if self.sized:
            arguments["img_size"] = image
        return timm.create_model(self.theirs, pretrained=False, **arguments)


def pairs() -> Iterator[Pair]:
    yield Pair("alexnet", "torchvision", "alexnet", 67)
    for depth in (11, 13, 16, 19):
        yield Pair(f"vgg{depth}", "torchvision", f"vgg{depth}")
        yield Pair(f"vgg{depth}_bn", "torchvision", f"vgg{depth}_bn")
    for name in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d", "resnext101_32x8d",
                 "resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2", "densenet121", "densenet161",
                 "densenet169", "densenet201"):  # fmt: skip
        yield Pair(name, "torchvision", name)
    yield Pair("inception_v1", "torchvision", "googlenet")
    yield Pair("inception_v1", "torchvision", "googlenet", ours={"aux": True}, arguments={"aux_logits": True})
    yield Pair("inception_v3", "torchvision", "inception_v3", 107, 299)
    aux = {"aux": True}
    yield Pair("inception_v3", "torchvision", "inception_v3", 299, 299, ours=aux, arguments={"aux_logits": True})
    for name in ("vit_b_16", "vit_b_32", "vit_l_16", "vit_l_32"):
        yield Pair(name, "torchvision", name, sized=True)
    yield Pair("vit_h_14", "torchvision", "vit_h_14", 56, sized=True, dtype=torch.float32)
    for name in ("resnetv2_50", "resnetv2_101", "resnetv2_152", "seresnet50", "seresnet101", "seresnet152",
                 "seresnext50_32x4d", "seresnext101_32x4d"):  # fmt: skip
        yield Pair(name, "timm", name)
    yield Pair("senet154", "timm", "legacy_senet154")
    for depth in (68, 92, 98, 131, 107):
        yield Pair(f"dpn{depth}", "timm", f"dpn{depth}")
    yield Pair("inception_v3", "timm", "inception_v3", 107, 299)
    yield Pair("inception_v4", "timm", "inception_v4", 107, 299)
    yield Pair("inception_resnet_v2", "timm", "inception_resnet_v2", 107, 299)
    yield Pair("nasnetalarge", "timm", "nasnetalarge", 79, 331)
    yield Pair("pnasnet5large", "timm", "pnasnet5large", 79, 331)
    for name, theirs in (("vit_ti_16", "tiny_patch16"), ("vit_s_16", "small_patch16"), ("vit_b_16", "base_patch16"),
                         ("vit_b_32", "base_patch32"), ("vit_l_16", "large_patch16")):  # fmt: skip
        yield Pair(name, "timm", f"vit_{theirs}_224", sized=True)
    for name in ("s32", "s16", "b32", "b16", "l16"):
        yield Pair(f"mixer_{name}", "timm", f"mixer_{name}_224", sized=True)


def without_dropout(graph: Graph) -> Graph:
    return edit.map_ops(graph, lambda n: replace(n.op, p=0.0) if isinstance(n.op, ops.Dropout) else n.op)


def randomise(module: nn.Module, seed: int) -> None:
    """No two tensors alike, so that nothing can be mistaken for anything else."""
    draw = torch.Generator().manual_seed(seed)

    def noise(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=draw, dtype=like.dtype)

    with torch.no_grad():
        for p in module.parameters():
            if p.ndim < 2 or float(p.abs().max()) == 0:
                p.add_(0.1 * noise(p))
        for name, b in module.named_buffers():
            if name.endswith("running_mean"):
                b.add_(0.1 * noise(b))
            elif name.endswith("running_var"):
                b.mul_(torch.exp(0.2 * noise(b)))


def dropout_off(module: nn.Module) -> None:
    for m in module.modules():
        if isinstance(m, nn.Dropout):
            m.p = 0.0
        if isinstance(getattr(m, "drop_rate", None), float):
            m.drop_rate = 0.0


def outputs(made: Any) -> list[Tensor]:
    """The outputs in our order: logits, then auxiliary heads from the first (torchvision's GoogLeNet has them last)."""
    if isinstance(made, Tensor):
        return [made]
    found = [t for t in made if t is not None]
    return [found[0], *reversed(found[1:])] if type(made).__name__ == "GoogLeNetOutputs" else found


def run(module: nn.Module, x: Tensor, count: int) -> tuple[list[Tensor], dict[str, float]]:
    """Training outputs (detached) and gradient norms of Σ outputs · fixed noise."""
    module.train()
    made = outputs(module(x))
    draw = torch.Generator().manual_seed(1)
    assert len(made) == count, f"expected {count} outputs, got {len(made)}"
    loss = sum((y * torch.randn(y.shape, generator=draw, dtype=y.dtype)).sum() for y in made)
    loss.backward()
    norms = {name: float(p.grad.norm()) for name, p in module.named_parameters()}
    module.zero_grad(set_to_none=True)
    return [y.detach() for y in made], norms


def far(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max() / a.abs().max())


@dataclass
class Row:
    pair: Pair
    parameters: int
    train: float
    evaluation: float
    gradient: float
    multiply_adds: int
    flops: int
    seconds: float

    @property
    def holds(self) -> bool:
        worst = max(self.train, self.evaluation, self.gradient)
        return worst <= TOLERANCE[self.pair.dtype] and 2 * self.multiply_adds == self.flops

    def cells(self) -> list[str]:
        p = self.pair
        counts = "equal" if 2 * self.multiply_adds == self.flops else f"{self.multiply_adds} ≠ {self.flops / 2:.0f}"
        return [p.label, f"{p.library} {p.theirs}", f"{self.parameters:,}", f"{p.image}", str(p.dtype)[6:],
                f"{self.evaluation:.1e}", f"{self.train:.1e}", f"{self.gradient:.1e}",
                f"{self.multiply_adds / 1e9:.3f} ({counts})", "yes" if self.holds else "NO"]  # fmt: skip


HEADER = ["network", "counterpart", "parameters", "image", "dtype", "eval", "train", "gradient norms",
          "G multiply-adds at full size", "holds"]  # fmt: skip


def compare(pair: Pair) -> Row:
    start = time.perf_counter()
    torch.manual_seed(0)
    module = pair.module(pair.image).to(pair.dtype)
    randomise(module, 2)
    dropout_off(module)
    graph = pair.graph(pair.image)
    load = zoo.load_torchvision if pair.library == "torchvision" else zoo.load_timm
    state = load(graph, module.state_dict())
    ours = build(graph, dtype=pair.dtype, device="meta")
    # weights are shared, running statistics each has its own
    given = {k: v.clone() if "running" in k else v for k, v in state.items()}
    counters = {k: torch.zeros((), dtype=torch.long) for k in ours.state_dict() if k.endswith("num_batches_tracked")}
    ours.load_state_dict({**given, **counters}, assign=True)
    names = load(graph, {name: Named(name, v.shape) for name, v in module.state_dict().items()})

    x = torch.randn(2, 3, pair.image, pair.image, generator=torch.Generator().manual_seed(3), dtype=pair.dtype)
    count = len(graph.outputs)
    for p in ours.parameters():
        p.requires_grad_(True)
    mine, my_norms = run(ours, x, count)
    theirs, their_norms = run(module, x, count)
    largest = max(their_norms.values())
    # a tensor whose gradient is zero but for rounding (a bias in front of a norm) is measured against the largest
    gradient = max(
        abs(my_norms[m] - their_norms[t.name]) / max(their_norms[t.name], 1e-6 * largest)
        for m, t in names.items()
        if m in my_norms
    )
    with torch.no_grad():
        a, b = outputs(ours.eval()(x)), outputs(module.eval()(x))
    row = Row(
        pair,
        graph.cost().parameters,
        max(far(t, m) for t, m in zip(theirs, mine, strict=True)),
        max(far(t, m) for t, m in zip(b, a, strict=False)),  # in evaluation theirs leaves out the auxiliary heads
        gradient,
        *multiply_adds(pair),
        time.perf_counter() - start,
    )
    full = pair.graph(pair.full).cost().parameters
    row.parameters = full
    return row


@dataclass
class Named:
    """Stands for a tensor to learn which name the mapping gives it."""

    name: str
    shape: Any

    def reshape(self, *_: Any) -> "Named":
        return self


def multiply_adds(pair: Pair) -> tuple[int, int]:
    """Ours, and the flops of theirs, for one image of full size."""
    with torch.device("meta"):
        module = pair.module(pair.full).train()
        x = torch.empty(2, 3, pair.full, pair.full)
    dropout_off(module)
    counter = FlopCounterMode(display=False)
    with counter, sdpa_kernel(SDPBackend.MATH):
        module(x)
    return pair.graph(pair.full).cost(2).multiply_adds // 2, counter.get_total_flops() // 2


def markdown(rows: list[Row]) -> str:
    lines = [
        "# Parity of the zoo with torchvision and timm",
        "",
        f"{sum(r.holds for r in rows)} of {len(rows)} pairs hold: relative error at most 1e-10 in float64 (1e-5 in "
        "float32) in evaluation, training and every gradient's norm, and equal multiply-adds "
        "(torch.utils.flop_counter / 2).",
        "",
        f"torch {torch.__version__}, torchvision {torchvision.__version__}, timm {timm.__version__}, "
        f"Python {platform.python_version()}, {os.cpu_count()} cores, batch 2, all weights and statistics random, "
        f"dropout off; {sum(r.seconds for r in rows):.0f} s in all.",
        "",
        "| " + " | ".join(HEADER) + " |",
        "|" + "---|" * len(HEADER),
        *("| " + " | ".join(r.cells()) + " |" for r in rows),
        "",
    ]
    return "\n".join(lines)


def main(only: list[str], progress: Callable[[str], None] = print) -> int:
    torch.set_num_threads(os.cpu_count() or 1)
    rows, failed = [], 0
    chosen = [p for p in pairs() if not only or p.name in only or p.theirs in only]
    if not chosen:
        sys.exit(f"expected names of networks to compare, got {', '.join(only)}")
    for i, pair in enumerate(chosen, 1):
        try:
            row = compare(pair)
        except DepthscaleError as error:
            failed += 1
            progress(f"{i}/{len(chosen)} {pair.label}  {pair.library} {pair.theirs}: {error}")
            continue
        rows.append(row)
        failed += not row.holds
        progress(f"{i}/{len(chosen)} " + "  ".join(row.cells()) + f"  {row.seconds:.0f} s")
        gc.collect()
    if not only:
        RESULTS.parent.mkdir(exist_ok=True)
        partial = RESULTS.with_suffix(".tmp")
        partial.write_text(markdown(rows))
        partial.replace(RESULTS)
        progress(f"wrote {RESULTS}")
    progress(f"{len(chosen) - failed} of {len(chosen)} hold")
    return 1 if failed else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="*", default=[], help="names of networks, ours or theirs")
    sys.exit(main(parser.parse_args().only))
