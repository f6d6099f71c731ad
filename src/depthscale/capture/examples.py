"""An example for a model that comes without one: from what it says, its first layer, or shapes that are tried."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from depthscale.capture.program import training
from depthscale.errors import CaptureError

SIDES = (32, 224, 64, 28, 128, 96, 299)  # of images that are tried
LENGTHS = (16, 64, 128)  # of sequences that are tried


def example_for(module: nn.Module, shape: tuple[int, ...] | None, batch: int) -> tuple[Any, ...]:
    """Arguments of a forward: noise of a given shape; else the module's own ``example_input``; else what fits.

    Raises CaptureError where the shape does not fit, or none that was tried does.
    """
    if shape is not None:
        first = first_layer(module)
        made = _tokens(first, (batch, *shape)) if isinstance(first, nn.Embedding) else _noise((batch, *shape))
        if (why := _fails(module, (made,))) is not None:
            raise CaptureError(f"{type(module).__name__} does not take inputs of shape {shape}: {why}")
        return (made,)
    for name in ("example_input", "example_inputs", "example_input_array"):
        own = getattr(module, name, None)
        own = own() if callable(own) and not isinstance(own, Tensor) else own
        if isinstance(own, Tensor):
            return (own,)
        if isinstance(own, tuple | list) and own and all(isinstance(t, Tensor) for t in own):
            return tuple(own)
    tried = []
    for example in candidates(module, batch):
        if _fails(module, (example,)) is None:
            return (example,)
        tried.append(tuple(example.shape[1:]))
    shown = ", ".join(map(str, tried[:4])) or "nothing"
    raise CaptureError(
        f"cannot guess what {type(module).__name__} takes (tried {shown}); say it with --input-shape 3,32,32, or give "
        "the model an attribute example_input"
    )


def first_layer(module: nn.Module) -> nn.Module | None:
    """The first layer that says how wide its input is."""
    kinds = (nn.Linear, nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.LSTM, nn.GRU, nn.RNN, nn.MultiheadAttention)
    return next((m for m in module.modules() if isinstance(m, kinds)), None)


def candidates(module: nn.Module, batch: int) -> Iterator[Tensor]:
    """Inputs that a first layer could be made for, the likeliest first."""
    first = first_layer(module)
    if isinstance(first, nn.Embedding):
        for n in LENGTHS:
            yield _tokens(first, (batch, n))
    elif isinstance(first, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        dims = len(first.kernel_size)
        for side in SIDES if dims > 1 else (64, 256, 1024):
            yield _noise((batch, first.in_channels, *[min(side, 32) if dims == 3 else side] * dims))
    elif isinstance(first, nn.Linear):
        n = first.in_features
        yield _noise((batch, n))
        yield _noise((batch, LENGTHS[0], n))
        for channels in (1, 3):
            side = round((n / channels) ** 0.5)
            if side * side * channels == n:
                yield _noise((batch, channels, side, side))
    elif first is not None:
        n = int(getattr(first, "input_size", getattr(first, "embed_dim", 1)))
        yield _noise((batch, LENGTHS[0], n))


def _noise(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _tokens(first: nn.Embedding, shape: tuple[int, ...]) -> Tensor:
    return torch.randint(first.num_embeddings, shape, generator=torch.Generator().manual_seed(0))


def _fails(module: nn.Module, args: tuple[Tensor, ...]) -> str | None:
    """Why a forward fails on these, or None; run without memory where the module has none."""
    place = next((p.device for p in module.parameters()), torch.device("cpu"))
    try:
        with torch.no_grad(), training(module, False), torch.random.fork_rng(devices=[]):
            module(*[a.to(place) for a in args])
    except Exception as error:  # whatever user code raises
        text = str(error).strip().splitlines()
        return f"{type(error).__name__}: {text[0][:200]}" if text else type(error).__name__
    return None
