"""Random streams as functions of where a run stands: nothing to store, so nothing to lose on resuming.

Every epoch's order and every step's noise (dropout, augmentation) is drawn from a generator seeded by hashing
(seed, stream, position, device). The hash is SplitMix64 (Steele, Lea & Flood 2014, "Fast splittable pseudorandom
number generators", fig. 1), which passes statistical tests on consecutive inputs.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

ORDER, NOISE, AUGMENT = 1, 2, 3  # the streams
_MASK = 2**64 - 1


def mix(seed: int, stream: int, position: int, rank: int = 0) -> int:
    """A 63-bit seed for one place in one stream."""
    state = 0
    for word in (seed, stream, rank, position):
        z = (state + (word & _MASK) + 0x9E3779B97F4A7C15) & _MASK
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        state = z ^ (z >> 31)
    return state >> 1


@contextmanager
def borrowed_generators(device: torch.device) -> Iterator[None]:
    """Lets layers such as dropout use torch's global generators, and gives those back as they were."""
    gpus = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        yield


def seed_noise(seed: int, device: torch.device) -> None:
    """Seed the generators that torch's random layers draw from on this device."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
