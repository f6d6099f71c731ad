"""Weights on disk: safetensors, written whole or not at all, with the graph's key so that mix-ups are noticed."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from depthscale import __version__
from depthscale.errors import DepthscaleError
from depthscale.graph import Graph, canonical_key

_SCHEMA = "depthscale.weights"
_VERSION = 1


def save(module: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write a module's state_dict as safetensors, atomically; tensors that are one are written once.

    The file's metadata hold the schema, this package's version and, for built modules, the key of the architecture.
    Raises DepthscaleError where the file cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    seen: dict[tuple[int, tuple[int, ...], tuple[int, ...], int], str] = {}
    for name, value in module.state_dict().items():
        if value.is_meta:
            raise DepthscaleError(
                f"expected weights that hold values, got {name!r} on the meta device; build on cpu first"
            )
        same = (value.data_ptr(), tuple(value.shape), value.stride(), value.storage_offset())
        if value.numel() and (first := seen.setdefault(same, name)) != name:
            aliases[name] = first
        else:
            tensors[name] = value.detach().cpu().contiguous()
    metadata = {"schema": _SCHEMA, "version": str(_VERSION), "depthscale": __version__}
    graph = getattr(module, "graph", None)
    if isinstance(graph, Graph):
        metadata["architecture"] = canonical_key(graph, laws=False)
    metadata.update({f"alias:{name}": first for name, first in aliases.items()})
    # a tensor that is a view of another is a tensor of its own on disk
    write_atomically(path, to_bytes({k: v.clone() for k, v in tensors.items()}, metadata))


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file so that it is there whole or as it was before."""
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    except OSError as error:
        raise DepthscaleError(f"cannot write {target}: {error.strerror or error}") from None
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, target)
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        raise DepthscaleError(f"cannot write {target}: {error.strerror or error}") from None
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def load_weights(module: nn.Module, path: str | os.PathLike[str]) -> None:
    """Put the weights of a safetensors file into a module; every name and shape must agree.

    Values are converted to the module's dtypes and device; on any error the module is as it was. Raises
    DepthscaleError for a file that cannot be read and for weights of another network.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata: Mapping[str, str] = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError) as error:
        raise DepthscaleError(f"cannot read weights from {path}: {error}") from None
    if metadata.get("schema", _SCHEMA) == _SCHEMA and metadata.get("version", "1") != str(_VERSION):
        raise DepthscaleError(f"{path}: expected weights of version {_VERSION}, got version {metadata['version']}")
    for key, first in metadata.items():
        if key.startswith("alias:") and first in tensors:
            tensors[key.removeprefix("alias:")] = tensors[first]
    own = module.state_dict()
    _compare(str(path), own, tensors)
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(tensors[name])


def _compare(path: str, own: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    missing, strange = [n for n in own if n not in found], [n for n in found if n not in own]
    if missing or strange:
        lacks = f"{len(missing)} missing ({missing[0]!r} first)" if missing else ""
        more = f"{len(strange)} unknown ({strange[0]!r} first)" if strange else ""
        raise DepthscaleError(
            f"{path}: expected weights of this network, got those of another: of {len(own)} tensors "
            f"{' and '.join(filter(None, (lacks, more)))}; build the graph that the weights were saved from"
        )
    for name, value in own.items():
        if value.shape != found[name].shape:
            raise DepthscaleError(
                f"{path}: expected {name!r} of shape {tuple(value.shape)}, got {tuple(found[name].shape)}; "
                "build the graph that the weights were saved from"
            )
