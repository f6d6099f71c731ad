"""How far a test score can be trusted: intervals from the number of test rows."""

import math
from collections.abc import Sequence

Z95 = 1.959963984540054  # 97.5 % quantile of the normal law


def wilson(share: float, n: int, z: float = Z95) -> tuple[float, float]:
    """Ends of the score interval of a share out of n, in [0, 1] (Wilson 1927); (0, 1) for n = 0."""
    if n <= 0:
        return 0.0, 1.0
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    return (0.0 if share == 0 else low), (1.0 if share == 1 else high)


def rmse_interval(errors: Sequence[float], z: float = Z95) -> tuple[float, float]:
    """Ends of an interval of the root mean square error: normal for the mean of the squares, its root taken."""
    squares = [e * e for e in errors]
    n = len(squares)
    if n < 2:
        return 0.0, math.inf
    mean = math.fsum(squares) / n
    spread = math.sqrt(math.fsum((s - mean) ** 2 for s in squares) / (n - 1) / n)
    return math.sqrt(max(0.0, mean - z * spread)), math.sqrt(mean + z * spread)


def shares_differ(a: float, b: float, n: int, z: float = Z95) -> bool:
    """Whether two accuracies on the same n rows are further apart than chance explains.

    Errors of the two are taken as independent, which errs on the side of "cannot be told apart": models on one test
    split mostly fail on the same rows.
    """
    return n > 0 and abs(a - b) > z * math.sqrt((a * (1 - a) + b * (1 - b)) / n)
