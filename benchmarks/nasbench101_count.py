"""All different cells of NAS-Bench-101 and NAS-Bench-201, counted by our own canonical forms.

    python benchmarks/nasbench101_count.py

Published: 423,624 for NAS-Bench-101 (Ying et al. 2019), 6,466 for NAS-Bench-201 (Dong & Yang 2020). The third number
is ours: NAS-Bench-201 cells that remain different networks when everything superfluous is folded away, by graph key.
"""

import itertools
import os
import platform
import sys
import time

from depthscale.zoo.nasbench101_forms import count_unique
from depthscale.zoo.nasbench201 import published_form, simplified

PUBLISHED = {2: 1, 3: 7, 4: 91, 5: 2_532, 6: 64_542, 7: 423_624}


def main() -> int:
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores")
    wrong, total, start = 0, 0, time.perf_counter()
    for vertices, published in PUBLISHED.items():
        total += count_unique(vertices)
        wrong += total != published
        print(f"NAS-Bench-101, up to {vertices} vertices: {total:>7,} (published {published:,})")
    print(f"  {time.perf_counter() - start:.2f} s")
    codes = ["".join(digits) for digits in itertools.product("01234", repeat=6)]
    start = time.perf_counter()
    found = len({published_form(code) for code in codes})
    wrong += found != 6_466
    print(f"NAS-Bench-201, as its authors fold: {found:,} (published 6,466), {time.perf_counter() - start:.2f} s")
    start = time.perf_counter()
    keys = {simplified(code).key for code in codes}
    print(f"NAS-Bench-201, different networks:  {len(keys):,}, {time.perf_counter() - start:.2f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
