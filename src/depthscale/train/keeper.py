"""Where a run is kept: its directory, its record, its checkpoints. The first of several processes writes."""

import os
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from depthscale.record import Record
from depthscale.train.checkpoint import FILE, State, read_checkpoint, save_tensors, write_checkpoint

RUN_FILE, WEIGHTS_FILE = "run.jsonl", "model.safetensors"


class Keeper:
    """Writes to ``out`` (nothing without it) and to ``record``, or to run.jsonl in ``out`` where none is given."""

    def __init__(
        self, out: str | os.PathLike[str] | None, record: Record | None, header: dict[str, Any], *, lead: bool
    ) -> None:
        self.out = None if out is None else Path(out)
        self._record, self._own, self._header, self._lead = record, record is None, header, lead
        self._saved = float("-inf")

    @property
    def position(self) -> int | None:
        """Where the run's own record ends."""
        return self._record.position if self._record is not None and self._own else None

    def open(self, position: int | None = None) -> None:
        """Open the run's own record, what lies behind ``position`` dropped."""
        if self._record is None and self.out is not None and self._lead:
            self._record = Record(self.out / RUN_FILE, position=position, **self._header)

    def write(self, kind: str, **fields: Any) -> None:
        """Add an event to the record."""
        if self._record is not None and self._lead:
            self._record.write(kind, **fields)

    def due(self, seconds: float, every: float) -> bool:
        """Whether ``every`` seconds of training have passed since the last checkpoint."""
        return seconds - self._saved > every

    def save(self, state: State, seconds: float) -> None:
        """Write a checkpoint; the record reaches the disk first, for the checkpoint says how long it is."""
        self._saved = seconds
        if self.out is not None and self._lead:
            if self._record is not None:
                self._record.sync()
            write_checkpoint(self.out / FILE, state)

    def stored(self) -> State | None:
        """The checkpoint, if there is one."""
        if self.out is None or not (self.out / FILE).exists():
            return None
        return read_checkpoint(self.out / FILE)

    def save_weights(self, model: nn.Module) -> None:
        """Write the model's state dict to model.safetensors."""
        if self.out is not None and self._lead:
            save_tensors(self.out / WEIGHTS_FILE, _state_dict(model))

    def close(self) -> None:
        """Close the run's own record."""
        if self._record is not None and self._own:
            self._record.close()
            self._record = None


def _state_dict(model: nn.Module) -> dict[str, Tensor]:
    """The state dict; safetensors stores no shared memory, so every further name of a tensor gets a copy."""
    seen: set[int] = set()
    found = {}
    for name, value in model.state_dict().items():
        found[name] = value.clone() if value.data_ptr() in seen else value
        seen.add(value.data_ptr())
    return found
