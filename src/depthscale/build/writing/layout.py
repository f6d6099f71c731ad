"""Lines of at most a hundred columns, broken where a formatter would break them."""

import ast
import tokenize
from collections.abc import Iterator
from io import StringIO

WIDTH = 100


def wrap(line: str, indent: int = 0) -> list[str]:
    """A logical line as physical ones: its last bracket opened, one entry a line if they do not fit on one."""
    space = " " * indent
    if len(space + line) <= WIDTH:
        return [space + line]
    split = _last_bracket(line)
    if split is None or _is_sum(line):
        return _operators(line, indent)
    head, inside, tail = split
    if len(space + head) > WIDTH:
        return _operators(line, indent)
    together = " " * (indent + 4) + inside
    entries = list(_entries(inside))
    if len(together) <= WIDTH and not head.endswith(("[", "{")):
        return [space + head, together, space + tail]
    comma = "," if len(entries) > 1 or head.endswith(("[", "{")) else ""
    lines = [part for entry in entries for part in wrap(entry + comma, indent + 4)]
    return [space + head, *lines, space + tail]


def _is_sum(line: str) -> bool:
    """Whether what is assigned, returned or passed is operands and operators."""
    value = line.rstrip(",").removeprefix("return ")
    name, sign, right = value.partition(" = ")
    try:
        return isinstance(ast.parse(right if sign and name.isidentifier() else value, mode="eval").body, ast.BinOp)
    except SyntaxError:
        return False


def _last_bracket(line: str) -> tuple[str, str, str] | None:
    """Everything up to the bracket that the line ends in, what is in it, and the end."""
    body = line.rstrip(",:")
    if not body or body[-1] not in ")]}":
        return None
    opened: list[int] = []
    start = None
    for token in _tokens(body):
        if token.type == tokenize.OP and token.string in "([{":
            opened.append(token.start[1])
        elif token.type == tokenize.OP and token.string in ")]}":
            start = opened.pop()
            end = token.start[1]
    if start is None or not body[start + 1 : end].strip():
        return None
    return body[: start + 1], body[start + 1 : end], body[end:] + line[len(body) :]


def _entries(text: str) -> Iterator[str]:
    """What commas separate."""
    depth = at = 0
    for token in _tokens(text):
        if token.type == tokenize.OP:
            depth += (token.string in "([{") - (token.string in ")]}")
            if token.string == "," and depth == 0:
                yield text[at : token.start[1]].strip()
                at = token.end[1]
    if text[at:].strip():
        yield text[at:].strip()


def _tokens(text: str) -> Iterator[tokenize.TokenInfo]:
    """Tokens of a piece of one line."""
    try:
        yield from tokenize.generate_tokens(StringIO(text).readline)
    except tokenize.TokenError:  # an open bracket at the end of a piece: what came before is all there is
        return


def _operators(line: str, indent: int) -> list[str]:
    """A long sum or product: in parentheses, one operand a line."""
    head, sign, value = line.partition(" = ")
    if not sign:
        head, sign, value = line.partition(" ") if line.startswith("return ") else ("", "", line)
    comma = value.endswith(",")
    value = value.rstrip(",")
    try:
        tree = ast.parse(value, mode="eval").body
    except SyntaxError:
        return [" " * indent + line]
    cuts: list[int] = []
    sums = isinstance(tree, ast.BinOp) and isinstance(tree.op, ast.Add | ast.Sub)
    while isinstance(tree, ast.BinOp) and isinstance(tree.op, ast.Add | ast.Sub) == sums:
        cuts.append(tree.left.end_col_offset or 0)
        tree = tree.left
    raw = value.encode()
    if not cuts:
        return [" " * indent + line]
    # between the end of the left side and the operator there may be a parenthesis to close
    ends = [_operator_at(raw, cut) for cut in sorted(cuts)]
    parts = [raw[a:b].decode().strip() for a, b in zip([0, *ends], [*ends, len(raw)], strict=True)]
    if not sign:
        return [*(" " * indent + part for part in parts[:-1]), " " * indent + parts[-1] + "," * comma]
    space = " " * indent
    return [f"{space}{head}{sign}(", *(f"{space}    {part}" for part in parts), f"{space}){',' * comma}"]


def _operator_at(raw: bytes, at: int) -> int:
    while raw[at : at + 1] in (b")", b" "):
        at += 1
    return at
