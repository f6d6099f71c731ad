"""Files that a search leaves behind, each written whole or not at all."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from depthscale.errors import DepthscaleError

if TYPE_CHECKING:
    from torch import nn

    from depthscale.data import Dataset
    from depthscale.graph import Graph


def prepare(path: Path) -> Path:
    """The output folder, made and shown to be writable.

    Raises DepthscaleError, before any work is done, where it is not.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".writable"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise DepthscaleError(
            f"expected a folder to write to with --out, but {path} cannot be written: {error.strerror}"
        ) from None
    return path


def text(path: Path, content: str) -> None:
    """Write a file so that a reader sees the old content or the new, never a part."""
    draft = path.with_name(f".{path.name}.draft")
    try:
        draft.write_text(content, encoding="utf-8")
        os.replace(draft, path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise DepthscaleError(
            f"cannot write {path}: {error.strerror}; free some space and go on with --resume"
        ) from None


def network(folder: Path, graph: "Graph", module: "nn.Module", dataset: "Dataset") -> None:
    """Write graph.json, model.py, model.safetensors and preprocessing.json."""
    from depthscale.build import save, source

    text(folder / "graph.json", graph.to_json())
    text(folder / "model.py", source(graph))
    text(folder / "preprocessing.json", dataset.preprocessing.to_json())
    save(module, folder / "model.safetensors")
