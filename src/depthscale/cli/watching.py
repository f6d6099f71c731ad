"""How a long run is getting on, as a person sees it: phases, notes and what is finished, on standard error."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from depthscale.search.watch import Watcher

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from depthscale.design.search import Trial
    from depthscale.search.evaluate import Outcome


class Shower(Watcher):
    """Prints phases, with a live line where standard error is a terminal, and notes."""

    def __init__(self, screen: "Console", bar: "Progress", *, live: bool) -> None:
        self.screen, self.bar, self.live = screen, bar, live
        self.started = time.monotonic()
        self.task: Any = None

    @property
    def at(self) -> str:
        """The seconds since the start."""
        return f"{time.monotonic() - self.started:6.1f} s"

    def phase(self, words: str, seconds: float | None = None) -> None:
        """The live line says it; a log gets a line."""
        from rich.markup import escape

        if self.task is not None:
            self.bar.remove_task(self.task)
        self.task = self.bar.add_task(escape(words), total=None)
        if not self.live:
            self.screen.print(f"[dim]{self.at}[/]  {escape(words)}")

    def loading(self, done: int, total: int) -> None:
        """Moves the bar."""
        if self.task is not None:
            self.bar.update(self.task, completed=done, total=total)

    def note(self, words: str) -> None:
        """A line of its own."""
        from rich.markup import escape

        self.screen.print(f"[dim]          {escape(words)}[/]")


class DesignShower(Shower):
    """Prints finished trials of a design."""

    def trial(self, trial: "Trial") -> None:
        """A line of its own."""
        value = trial.metrics.get("accuracy", trial.metrics.get("rmse"))
        shown = "" if value is None else f"{value:.4f}  "
        why = f" ({trial.why})" if trial.why else ""
        self.screen.print(f"[dim]{self.at}[/]  {trial.number:3d}  {shown}{trial.words}: {trial.state}{why}")


class SearchShower(Shower):
    """Prints networks of a search as they come: every better one, of the others one a second at most."""

    def __init__(self, screen: "Console", bar: "Progress", *, live: bool) -> None:
        super().__init__(screen, bar, live=live)
        self.best: dict[str, float] = {}
        self.shown = 0.0

    def tried(self, study: str, number: int, words: str, outcome: "Outcome", state: str) -> None:
        """A line of its own."""
        from rich.markup import escape

        better = outcome.score > self.best.get(study, float("-inf"))
        self.best[study] = max(outcome.score, self.best.get(study, float("-inf")))
        if not better and time.monotonic() - self.shown < 1.0:
            return  # a table answers thousands of times a second
        self.shown = time.monotonic()
        mark = "[bold]best[/]" if better else f"[dim]{state.lower()}[/]"
        self.screen.print(
            f"[dim]{self.at}  {study:14s}{number:4d}[/]  {outcome.score:.4f} {mark}  {escape(words[:90])}"
        )


@contextmanager
def watching(shower: Callable[..., Shower], *, quiet: bool) -> "Iterator[Watcher]":
    """A watcher of this kind, or one that says nothing."""
    if quiet:
        yield Watcher()
        return
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from depthscale.cli.common import console

    screen = console()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        yield shower(screen, bar, live=screen.is_terminal)
