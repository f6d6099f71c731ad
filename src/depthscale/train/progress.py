"""How far a run is: a bar on a terminal, a plain line every few seconds elsewhere; always on standard error.

Nothing shows in the first two seconds, so short runs stay silent.
"""

import sys
import time
from typing import Any, Protocol

from depthscale.errors import TrainingError

_QUIET_SECONDS = 2.0
_LINE_SECONDS = 10.0
_BAR_SECONDS = 0.1


class Progress(Protocol):
    """What the loop tells."""

    def update(self, fraction: float, epoch: int, loss: float, metrics: dict[str, float], speed: float) -> None:
        """The budget's fraction, the epoch from 1, the running loss, the last validation's metrics, rows a second."""

    def close(self) -> None:
        """Leave the terminal as it was."""


class Silent:
    """Says nothing."""

    def update(self, fraction: float, epoch: int, loss: float, metrics: dict[str, float], speed: float) -> None:  # noqa: D102
        return

    def close(self) -> None:  # noqa: D102
        return


def words(epoch: int, loss: float, metrics: dict[str, float], speed: float) -> str:
    """One line: epoch, loss, the validation's main metric, speed."""
    parts = [f"epoch {epoch}", f"loss {loss:.4g}"]
    if "accuracy" in metrics:
        parts.append(f"val accuracy {100 * metrics['accuracy']:.2f} %")
    elif "rmse" in metrics:
        parts.append(f"val RMSE {metrics['rmse']:.4g}")
    return " · ".join([*parts, f"{speed:,.0f} rows/s"])


class Lines:
    """A plain line every ten seconds."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._next = self._start + _QUIET_SECONDS

    def update(self, fraction: float, epoch: int, loss: float, metrics: dict[str, float], speed: float) -> None:  # noqa: D102
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _LINE_SECONDS
            left = (now - self._start) * (1 / max(fraction, 1e-3) - 1)
            line = f"{100 * fraction:3.0f} % · {words(epoch, loss, metrics, speed)} · about {left:.0f} s left"
            print(line, file=sys.stderr, flush=True)

    def close(self) -> None:  # noqa: D102
        return


class Bar:
    """Rich's progress bar."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._next = self._start + _QUIET_SECONDS
        self._bar: Any = None
        self._task: Any = None

    def update(self, fraction: float, epoch: int, loss: float, metrics: dict[str, float], speed: float) -> None:  # noqa: D102
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _BAR_SECONDS
        if self._bar is None:
            self._open()
        self._bar.update(self._task, completed=fraction, words=words(epoch, loss, metrics, speed))

    def _open(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            Progress as RichProgress,
            TaskProgressColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        columns = (BarColumn(24), TaskProgressColumn(), TextColumn("{task.fields[words]}"), TimeRemainingColumn())
        self._bar = RichProgress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task("train", total=1.0, words="")
        self._bar.start()

    def close(self) -> None:  # noqa: D102
        if self._bar is not None:
            self._bar.stop()


def make_progress(wanted: bool | str, *, lead: bool = True) -> Progress:
    """False: nothing; True: a bar on a terminal, else lines; "bar" or "lines": that."""
    if not lead or wanted is False:
        return Silent()
    if wanted is True:
        return Bar() if sys.stderr.isatty() else Lines()
    if wanted == "bar":
        return Bar()
    if wanted == "lines":
        return Lines()
    raise TrainingError(f"expected progress to be true, false, 'bar' or 'lines', got {wanted!r}")
