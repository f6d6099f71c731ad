"""Whoever wants to know how a search is getting on."""

from depthscale.search.evaluate import Outcome


class Watcher:
    """Told what is going on; this one keeps it to itself."""

    def phase(self, words: str) -> None:
        """A new phase has begun."""

    def loading(self, done: int, total: int) -> None:
        """So many files of a folder have been read."""

    def tried(self, study: str, number: int, words: str, outcome: Outcome, state: str) -> None:
        """A network has been evaluated."""

    def note(self, words: str) -> None:
        """Something worth saying."""
