"""Whoever wants to know how a search or a design is getting on."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from depthscale.search.evaluate import Outcome


class Watcher:
    """Told what is going on; this one keeps it to itself."""

    def phase(self, words: str, seconds: float | None = None) -> None:
        """A new phase has begun, expected to take some seconds."""

    def loading(self, done: int, total: int) -> None:
        """So many files of a folder have been read."""

    def tried(self, study: str, number: int, words: str, outcome: "Outcome", state: str) -> None:
        """A search has evaluated a network."""

    def trial(self, trial: Any) -> None:
        """A design has finished a trial (``depthscale.design.search.Trial``)."""

    def note(self, words: str) -> None:
        """Something worth saying."""
