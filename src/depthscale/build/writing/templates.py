"""Code with holes: a layer or an expression of which only the numbers are still open.

Two scopes are one class if all their templates agree; the numbers on which they differ become its arguments.
"""

import ast
import io
import re
import tokenize
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from depthscale.build.expressions import atom, literal
from depthscale.build.layers import Layer
from depthscale.build.plan import Plan
from depthscale.graph import Node

Slot = tuple[str, str, int | str]  # ("leaf" or "node", path relative to the scope, position or option)
Write = Callable[[Slot], str]  # a slot's value as Python: a literal, or the name of an argument
HOLE = re.compile(r"hole(\d+)_")
# the sizes among the arguments of a layer: number of channels, features, units
SIZES: dict[str, tuple[int, ...]] = {
    "Linear": (0, 1),
    "GroupNorm": (1,),
    "LayerNorm": (0,),
    "RMSNorm": (0,),
    "Embedding": (0, 1),
}
_NAMES: dict[str, tuple[str, ...]] = {"Linear": ("in_features", "out_features"), "GroupNorm": ("groups", "channels")}
_NAMES |= {"LayerNorm": ("features",), "RMSNorm": ("features",), "Embedding": ("entries", "width")}


@dataclass(frozen=True)
class Expression:
    """A node's value: text in which inputs are in0, in1, …, its module is leaf, and numbers are hole0_, hole1_, …"""

    text: str
    numbers: tuple[int | float, ...]

    def write(self, args: Sequence[str], leaf: str, holes: Sequence[str]) -> str:
        """The expression with everything filled in."""
        names = {f"in{i}_": text for i, text in enumerate(args)}
        names |= {"leaf_": leaf} | {f"hole{i}_": text for i, text in enumerate(holes)}
        return fill(self.text, names)


def fill(text: str, names: Mapping[str, str]) -> str:
    """The text with names replaced by expressions, in parentheses where an operator or a dot would tear them apart."""

    def put(match: re.Match[str]) -> str:
        word = names.get(match.group())
        if word is None:
            return match.group()
        before, after = text[: match.start()].rstrip(" "), text[match.end() :].lstrip(" ")
        if before.endswith(("if", "else")) or after.startswith(("if", "else")):
            return atom_or_number(word)
        left = before[-1:] if before[-1:] not in tuple("([,=:") else ""
        right = after[:1] if after[:1] not in tuple(")],:") else ""
        return word if (not left and not right) or _binds(word, left, right) else atom_or_number(word)

    return re.sub(r"\b(in\d+_|leaf_|hole\d+_)(?!\w)", put, text)


def _binds(word: str, left: str, right: str) -> bool:
    """Whether an operand needs no parentheses: a product in a sum, or a sum in front of a sum."""
    top = ast.parse(word, mode="eval").body
    if not isinstance(top, ast.BinOp) or left not in ("", "+", "-") or right not in ("", "+", "-"):
        return False
    return isinstance(top.op, ast.Mult | ast.Div | ast.MatMult) or not left


def atom_or_number(text: str) -> str:
    """As ``atom``; a number stands alone as well."""
    return text if re.fullmatch(r"[\d.]+(e[+-]?\d+)?", text) else atom(text)


@lru_cache(maxsize=4096)
def _open(text: str) -> Expression:
    """An expression with its numbers taken out."""
    parts: list[str] = []
    numbers: list[int | float] = []
    at = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.NUMBER:
            parts += [text[at : token.start[1]], f"hole{len(numbers)}_"]
            numbers.append(float(token.string) if re.search(r"[.e]", token.string) else int(token.string))
            at = token.end[1]
    return Expression("".join([*parts, text[at:]]), tuple(numbers))


def expression_of(plan: Plan, node: Node) -> Expression:
    """The template of a node's expression."""
    return _open(plan.expression(node, [f"in{i}_" for i in range(len(node.inputs))], "leaf_"))


def frame(layer: Layer) -> tuple[Any, ...]:
    """What layers of one class must have in common."""
    return (layer.kind, len(layer.args), tuple(name for name, *_ in layer.options), layer.without)


def values(layer: Layer) -> dict[int | str, Any]:
    """The arguments and options of a layer by position and name."""
    return {**dict(enumerate(layer.args)), **{name: value for name, value, _ in layer.options}}


def is_size(layer: Layer, place: int | str) -> bool:
    """Whether an argument counts channels, features or units."""
    if layer.is_piece or layer.kind == "PReLU":
        return True
    return place in SIZES.get(layer.kind, (0, 1) if "Conv" in layer.kind else (0,))


def argument_name(layer: Layer, place: int | str) -> str:
    """What torch calls an argument of a layer."""
    if isinstance(place, str):
        return "width" if layer.is_piece or layer.kind == "PReLU" else place
    if "Conv" in layer.kind:
        return ("in_channels", "out_channels", "kernel_size")[place]
    return _NAMES.get(layer.kind, ("channels",))[place]


def layer_text(layer: Layer, path: str, write: Write) -> str:
    """The call that makes a layer."""
    words = [write(("leaf", path, i)) for i in range(len(layer.args))]
    for name, _, default in layer.options:
        text = write(("leaf", path, name))
        if text != literal(default):
            words.append(f"{name}={text}")
    call = f"{'' if layer.is_piece else 'nn.'}{layer.kind}({', '.join(words)})"
    gone = "".join(f', "{name}"' for name in layer.without)
    return f"without({call}{gone})" if gone else call
