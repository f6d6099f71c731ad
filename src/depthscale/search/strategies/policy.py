"""Policy gradient: Zoph & Le 2017, "Neural architecture search with reinforcement learning".

REINFORCE with a moving baseline and an entropy bonus (Williams 1992). ``FactorisedPolicy`` has one softmax per
decision; ``Controller`` is the paper's recurrent network, an LSTM that reads the decisions made so far. With several
passes over a batch of trials its objective is clipped (Schulman et al. 2017, "Proximal policy optimization
algorithms", equation 7), as the controller of NASNet is trained (Zoph et al. 2018).
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from depthscale.errors import SearchError
from depthscale.search.space import Domain, Value
from depthscale.search.strategies.q_learning import Standard, bin_of, bins, value_of
from depthscale.search.strategy import Plan, Seen, Strategy

if TYPE_CHECKING:
    import torch


def _softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max())
    return np.asarray(e / e.sum())


class FactorisedPolicy(Strategy):
    """Independent softmax distributions, one per decision, followed uphill by Adam."""

    def __init__(
        self, seed: int = 0, *, rate: float = 0.1, entropy: float = 0.01, memory: float = 0.9, warmup: int = 0
    ) -> None:
        self.rate, self.entropy, self.memory, self.warmup = rate, entropy, memory, warmup
        super().__init__(seed)

    def restart(self) -> None:
        """Every option as likely."""
        self.logits: dict[str, np.ndarray] = {}
        self.moments: dict[str, tuple[np.ndarray, np.ndarray, int]] = {}
        self.standard, self.baseline = Standard(), 0.5

    def choose(self, plan: Plan, name: str, domain: Domain) -> Value:
        """Drawn from the policy."""
        logits = self.logits.get(name)
        if logits is None or len(logits) != bins(domain):
            return domain.draw(plan.rng)
        return value_of(domain, int(plan.rng.choice(len(logits), p=_softmax(logits))), plan.rng)

    def learn(self, seen: Seen) -> None:
        """One step uphill: (reward − baseline) ∇ log p + entropy bonus."""
        reward = self.standard.add(seen.score)
        advantage = reward - self.baseline
        self.baseline = self.memory * self.baseline + (1 - self.memory) * reward
        if len(self.standard.scores) <= self.warmup:
            return
        for name, value in seen.decisions.items():
            domain = seen.domains[name]
            logits = self.logits.setdefault(name, np.zeros(bins(domain)))
            if len(logits) != bins(domain):
                continue
            p = _softmax(logits)
            gradient = -p * advantage
            gradient[bin_of(domain, value)] += advantage
            log = np.log(np.maximum(p, 1e-12))
            gradient += self.entropy * -p * (log - (p * log).sum())
            self.logits[name] = logits + self._adam(name, gradient)

    def _adam(self, name: str, gradient: np.ndarray) -> np.ndarray:
        m, v, t = self.moments.get(name, (np.zeros_like(gradient), np.zeros_like(gradient), 0))
        m, v, t = 0.9 * m + 0.1 * gradient, 0.99 * v + 0.01 * gradient**2, t + 1
        self.moments[name] = (m, v, t)
        return np.asarray(self.rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.99**t)) + 1e-8))


class Controller(Strategy):
    """An LSTM that reads the decisions so far and gives the next one's distribution.

    ``width``: hidden units; every (decision, action) met has an embedding and every decision a read-out, made when it
    is first met. After every ``batch`` finished trials it takes ``passes`` steps on them; where that is more than one,
    the ratio of an action's probability to that before the first step counts within 1 ± ``clip`` only.

    Raises SearchError for numbers out of range.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        width: int = 32,
        rate: float = 0.02,
        entropy: float = 0.01,
        batch: int = 5,
        passes: int = 1,
        clip: float = 0.2,
    ) -> None:
        if passes < 1 or not 0 < clip < 1:
            raise SearchError(f"expected at least 1 pass and a clip between 0 and 1, got {passes} and {clip}")
        self.width, self.rate, self.entropy, self.batch = width, rate, entropy, batch
        self.passes, self.clip = passes, clip
        super().__init__(seed)

    def restart(self) -> None:
        """A fresh network."""
        import torch

        self.generator = torch.Generator().manual_seed(self.seed)
        self.cell = self._drawn(4 * self.width, 2 * self.width)
        self.bias = torch.zeros(4 * self.width, requires_grad=True)
        self.start = self._drawn(1, self.width)
        self.embeddings: dict[str, torch.Tensor] = {}
        self.heads: dict[str, torch.Tensor] = {}
        self.optimiser = torch.optim.Adam([self.cell, self.bias, self.start], lr=self.rate)
        self.standard, self.baseline = Standard(), 0.5
        self.waiting: list[tuple[Seen, float]] = []

    def _drawn(self, *shape: int) -> "torch.Tensor":
        import torch

        x: torch.Tensor = torch.randn(*shape, generator=self.generator) * (0.5 / shape[-1] ** 0.5)
        x.requires_grad_()
        return x

    def _known(self, name: str, n: int) -> bool:
        if name not in self.heads:
            self.heads[name] = self._drawn(n, self.width)
            self.embeddings[name] = self._drawn(n, self.width)
            self.optimiser.add_param_group({"params": [self.heads[name], self.embeddings[name]]})
        return len(self.heads[name]) == n

    def _step(self, x: "torch.Tensor", state: tuple["torch.Tensor", "torch.Tensor"]) -> Any:
        import torch

        h, c = state
        i, f, g, o = (torch.cat([x, h], -1) @ self.cell.T + self.bias).chunk(4, -1)
        c = torch.sigmoid(f + 1) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c

    def begin(self, plan: Plan) -> None:
        """The recurrent state before any decision."""
        import torch

        with torch.no_grad():
            zero = torch.zeros(self.width)
            plan.notes = self._step(self.start[0], (zero, zero))

    def choose(self, plan: Plan, name: str, domain: Domain) -> Value:
        """Drawn from the controller's distribution."""
        import torch

        if not self._known(name, bins(domain)):
            return domain.draw(plan.rng)
        with torch.no_grad():
            p = torch.softmax(self.heads[name] @ plan.notes[0], 0).double().numpy()
            action = int(plan.rng.choice(len(p), p=p / p.sum()))
            plan.notes = self._step(self.embeddings[name][action], plan.notes)
        return value_of(domain, action, plan.rng)

    def learn(self, seen: Seen) -> None:
        """Wait for a batch of trials, then take one step."""
        reward = self.standard.add(seen.score)
        for name in seen.decisions:
            self._known(name, bins(seen.domains[name]))
        self.waiting.append((seen, reward - self.baseline))
        self.baseline = 0.9 * self.baseline + 0.1 * reward
        if len(self.waiting) < self.batch:
            return
        groups = list(self._alike(self.waiting))
        old = [[log.detach() for log, _ in self._logs(seen)] for seen, _ in groups]
        for _ in range(self.passes):
            loss = sum(self._loss(s, a, o) for (s, a), o in zip(groups, old, strict=True)) / len(self.waiting)
            self.optimiser.zero_grad()
            loss.backward()  # type: ignore[union-attr]
            self.optimiser.step()
        self.waiting = []

    def _alike(self, trials: "list[tuple[Seen, float]]") -> "Iterator[tuple[list[Seen], torch.Tensor]]":
        """Trials that made the same decisions among as many options, and their advantages (G,): one tensor program."""
        import torch

        groups: dict[tuple[tuple[str, int], ...], list[tuple[Seen, float]]] = {}
        for seen, advantage in trials:
            asked = tuple((name, bins(seen.domains[name])) for name in seen.decisions)
            groups.setdefault(asked, []).append((seen, advantage))
        for group in groups.values():
            yield [s for s, _ in group], torch.tensor([a for _, a in group])

    def _loss(self, seen: list[Seen], advantage: "torch.Tensor", old: "list[torch.Tensor]") -> "torch.Tensor":
        """To be minimised, summed over trials: minus the clipped surrogate of every decision, and the entropy bonus.

        In the first pass every ratio is 1, and its gradient is REINFORCE's, advantage ∇ log p.
        """
        import torch

        loss = torch.zeros(())
        for (log, entropy), before in zip(self._logs(seen), old, strict=True):
            ratio = (log - before).exp()
            surrogate = torch.minimum(ratio * advantage, ratio.clamp(1 - self.clip, 1 + self.clip) * advantage)
            loss = loss - (surrogate + self.entropy * entropy).sum()
        return loss

    def _logs(self, seen: list[Seen]) -> "list[tuple[torch.Tensor, torch.Tensor]]":
        """Of every decision of trials that are alike: log p of what was decided, and the entropies, each (G,)."""
        import torch

        zero, found = torch.zeros(len(seen), self.width), []
        state = self._step(self.start.expand(len(seen), -1), (zero, zero))
        for name in seen[0].decisions:
            if not self._known(name, bins(seen[0].domains[name])):
                continue
            logs = torch.log_softmax(state[0] @ self.heads[name].T, -1)  # (G, options)
            action = torch.tensor([bin_of(s.domains[name], s.decisions[name]) for s in seen])
            found.append((logs.gather(1, action[:, None])[:, 0], -(logs.exp() * logs).sum(-1)))
            state = self._step(self.embeddings[name][action], state)
        return found
