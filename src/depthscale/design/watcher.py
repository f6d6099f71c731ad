"""Whoever wants to know how a design is getting on."""

from depthscale.design.search import Trial


class Watcher:
    """Told what is going on; this one keeps it to itself."""

    def phase(self, words: str, seconds: float | None = None) -> None:
        """A new phase has begun, expected to take some seconds."""

    def loading(self, done: int, total: int) -> None:
        """So many files of a folder have been read."""

    def trial(self, trial: Trial) -> None:
        """A trial has finished."""

    def note(self, words: str) -> None:
        """Something worth saying."""
