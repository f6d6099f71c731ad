"""A run's whole state in one safetensors file: tensors by name, everything else as JSON in the file's header.

The file is written beside its place, forced to the disk and moved over the old one, so a crash or a full disk at any
moment leaves the last good checkpoint. Nothing is unpickled.
"""

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from depthscale.errors import TrainingError
from depthscale.record import dumps, loads

SCHEMA = "depthscale.checkpoint"
VERSION = 1
FILE = "checkpoint.safetensors"


@dataclass(frozen=True)
class State:
    """Tensors by name and plain values; what ``Trainer.state`` gives and ``Trainer.load`` takes."""

    tensors: Mapping[str, Tensor]
    values: Mapping[str, Any]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors under ``prefix``, without it."""
        return {k.removeprefix(prefix): v for k, v in self.tensors.items() if k.startswith(prefix)}


def write_checkpoint(path: Path, state: State) -> None:
    """Write a state atomically.

    Raises TrainingError when it cannot be written; the file that was there stays.
    """
    save_tensors(path, state.tensors, {SCHEMA: dumps({"version": VERSION, **state.values})})


def read_checkpoint(path: Path) -> State:
    """The state that ``write_checkpoint`` wrote.

    Raises TrainingError for a file that is missing, damaged, no checkpoint or of another version.
    """
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(SCHEMA)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        values = loads(text) if text is not None else None
    except (OSError, SafetensorError, ValueError) as error:
        raise TrainingError(f"cannot read the checkpoint {path}: {error}") from None
    if not isinstance(values, dict) or values.pop("version", None) != VERSION:
        raise TrainingError(f"expected {path} to be a {SCHEMA} of version {VERSION}, got something else")
    return State(tensors, values)


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors as safetensors, atomically.

    Raises TrainingError when they cannot be written (a full disk, no permission); the file that was there stays.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({k: v.contiguous() for k, v in tensors.items()}, beside, metadata=dict(metadata or {}))
        beside.chmod(0o644)  # safetensors makes it private
        _sync(beside)
        os.replace(beside, path)
        _sync(path.parent)
    except (OSError, SafetensorError) as error:
        raise TrainingError(f"cannot write {path}: {error}; what was there is kept, so make room and resume") from None
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        with contextlib.suppress(PermissionError):  # some systems let no directory be forced
            os.fsync(handle)
    finally:
        os.close(handle)
