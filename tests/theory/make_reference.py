"""Makes data/averages.csv: Gaussian averages of fourteen activations and one awkward callable, by mpmath at 32 digits.

Independent of the package: own formulas, own quadrature (tanh-sinh and Gauss–Legendre on intervals cut where the
Gaussian and the function change), each value computed by both and kept to the digits on which they agree (at least 20).
Run it from the repository's root: python -m tests.theory.make_reference [activation ...]
"""

import csv
import sys
from collections.abc import Callable
from pathlib import Path

import mpmath as mp

TABLE = Path(__file__).parent / "data" / "averages.csv"
VARIANCES = ["1e-12", "1e-9", "1e-6", "1e-3", "0.1", "1", "10", "1e2", "1e4", "1e6"]
ALPHA, SCALE = mp.mpf("1.6732632423543772848170429916717"), mp.mpf("1.0507009873554804934193349852946")
Real = Callable[[mp.mpf], mp.mpf]


def logistic(x: mp.mpf) -> mp.mpf:
    return 1 / (1 + mp.exp(-x))


def softplus(x: mp.mpf) -> mp.mpf:
    return mp.log1p(mp.exp(x)) if x < 0 else x + mp.log1p(mp.exp(-x))


def gelu_tanh(x: mp.mpf) -> mp.mpf:
    return x / 2 * (1 + mp.tanh(mp.sqrt(2 / mp.pi) * (x + mp.mpf("0.044715") * x**3)))


def gelu_tanh_slope(x: mp.mpf) -> mp.mpf:
    y = mp.sqrt(2 / mp.pi) * (x + mp.mpf("0.044715") * x**3)
    dy = mp.sqrt(2 / mp.pi) * (1 + 3 * mp.mpf("0.044715") * x**2)
    return (1 + mp.tanh(y)) / 2 + x / 2 * mp.sech(y) ** 2 * dy


def awkward(x: mp.mpf) -> mp.mpf:
    """Kinks at −0.7 and 0.4, a jump at 1.3."""
    if x < mp.mpf("-0.7"):
        return x / 5 - mp.mpf("0.56")
    if x < mp.mpf("0.4"):
        return x
    return mp.mpf("0.4") * mp.cos(x - mp.mpf("0.4")) if x < mp.mpf("1.3") else mp.tanh(x)


def awkward_slope(x: mp.mpf) -> mp.mpf:
    if x < mp.mpf("-0.7"):
        return mp.mpf(1) / 5
    if x < mp.mpf("0.4"):
        return mp.mpf(1)
    return -mp.mpf("0.4") * mp.sin(x - mp.mpf("0.4")) if x < mp.mpf("1.3") else mp.sech(x) ** 2


def mish_slope(x: mp.mpf) -> mp.mpf:
    s = softplus(x)
    return mp.tanh(s) + x * mp.sech(s) ** 2 * logistic(x)


FUNCTIONS: dict[str, tuple[Real, Real, list[str]]] = {
    "relu": (lambda x: max(x, mp.mpf(0)), lambda x: mp.mpf(x > 0), ["0"]),
    "leaky_relu": (lambda x: x if x > 0 else x / 100, lambda x: mp.mpf(1) if x > 0 else mp.mpf(1) / 100, ["0"]),
    "tanh": (mp.tanh, lambda x: mp.sech(x) ** 2, []),
    "erf": (mp.erf, lambda x: 2 / mp.sqrt(mp.pi) * mp.exp(-x * x), []),
    "sigmoid": (logistic, lambda x: logistic(x) * logistic(-x), []),
    "softplus": (softplus, logistic, []),
    "gelu": (lambda x: x * mp.ncdf(x), lambda x: mp.ncdf(x) + x * mp.npdf(x), []),
    "gelu_tanh": (gelu_tanh, gelu_tanh_slope, []),
    "silu": (
        lambda x: x * logistic(x),
        lambda x: logistic(x) + x * logistic(x) * logistic(-x),
        [],
    ),
    "elu": (lambda x: x if x > 0 else mp.expm1(x), lambda x: mp.mpf(1) if x > 0 else mp.exp(x), ["0"]),
    "selu": (
        lambda x: SCALE * (x if x > 0 else ALPHA * mp.expm1(x)),
        lambda x: SCALE * (1 if x > 0 else ALPHA * mp.exp(x)),
        ["0"],
    ),
    "mish": (lambda x: x * mp.tanh(softplus(x)), mish_slope, []),
    "hardswish": (
        lambda x: x * min(max(x / 6 + mp.mpf(1) / 2, mp.mpf(0)), mp.mpf(1)),
        lambda x: mp.mpf(0) if x < -3 else (mp.mpf(1) if x > 3 else x / 3 + mp.mpf(1) / 2),
        ["-3", "3"],
    ),
    "sin": (mp.sin, mp.cos, []),
    "awkward": (awkward, awkward_slope, ["-0.7", "0.4", "1.3"]),
}


def cuts(q: mp.mpf, kinks: list[str]) -> list[mp.mpf]:
    s, far = mp.sqrt(q), mp.mpf(13)
    points = {mp.mpf(k) for k in range(-13, 14)} | {mp.mpf(k) / s for k in kinks}
    x = mp.mpf("0.5")
    while x < far * s:
        points |= {x / s, -x / s}
        x *= mp.mpf("1.6")
    return sorted(p for p in points if abs(p) <= far)


def average(f: Real, q: mp.mpf, kinks: list[str]) -> mp.mpf:
    s = mp.sqrt(q)

    def integrand(z: mp.mpf) -> mp.mpf:
        return f(s * z) * mp.npdf(z)

    edges = cuts(q, kinks)
    one = mp.quad(integrand, edges, method="gauss-legendre")
    two = mp.quad(integrand, edges, method="tanh-sinh")
    if abs(one - two) > mp.mpf(10) ** -20 * abs(one):
        raise ArithmeticError(f"the two rules disagree at q = {q}: {one} and {two}")
    return one


def sine_average(which: str, q: mp.mpf) -> mp.mpf:
    """sin oscillates too fast for quadrature at q = 1e6: E sin² = (1 − e^{−2q})/2 from the characteristic function."""
    return -mp.expm1(-2 * q) / 2 if which == "second" else (1 + mp.exp(-2 * q)) / 2


def main(names: list[str]) -> None:
    mp.mp.dps = 32
    rows = []
    if TABLE.exists():
        with TABLE.open() as file:
            rows = list(csv.reader(file))[1:]
    for name in names or list(FUNCTIONS):
        f, df, kinks = FUNCTIONS[name]
        rows = [r for r in rows if r[0] != name]
        for text in VARIANCES:
            q = mp.mpf(text)
            for which, g in (("second", f), ("slope", df)):
                value = sine_average(which, q) if name == "sin" else average(lambda x, g=g: g(x) ** 2, q, kinks)
                rows.append([name, text, which, mp.nstr(value, 20)])
        print(name, flush=True)
    TABLE.parent.mkdir(exist_ok=True)
    with TABLE.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["activation", "q", "average", "value"])
        writer.writerows(rows)


if __name__ == "__main__":
    main(sys.argv[1:])
