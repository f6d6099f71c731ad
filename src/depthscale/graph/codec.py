"""Graphs as JSON with a schema version. Reading checks everything: a file is never trusted.

An op is {"op": its name, field: value, …} with fields at their default left out; a law is {"law": its name, …}.
"""

import json
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import cache
from typing import Any

from depthscale.errors import GraphError
from depthscale.graph.functions import Parameters
from depthscale.graph.graph import Graph, Node
from depthscale.graph.laws import LAWS, Law
from depthscale.graph.op import Op
from depthscale.graph.ops import OPS

SCHEMA = "depthscale.graph"
VERSION = 1
_LARGEST = 64 * 2**20  # characters; the largest network of the zoo needs less than one million


def dumps(graph: Graph) -> str:
    """JSON text of a graph, one node a line."""
    nodes = ",\n  ".join(json.dumps(_node(node), ensure_ascii=False) for node in graph.nodes)
    head = {"schema": SCHEMA, "version": VERSION, "inputs": graph.inputs, "outputs": graph.outputs}
    return json.dumps(head)[:-1] + ', "nodes": [\n  ' + nodes + "\n]}\n"


def _node(node: Node) -> dict[str, Any]:
    return {"name": node.name, **_plain(node.op, "op"), "inputs": list(node.inputs)}


def _plain(value: Any, tag: str) -> dict[str, Any]:
    shown = {f.name: getattr(value, f.name) for f in fields(value)}
    defaults = {f.name: f.default for f in fields(value)}
    kept = {k: v for k, v in shown.items() if defaults[k] is MISSING or v != defaults[k]}
    out: dict[str, Any] = {tag: type(value).__name__}
    for name, v in kept.items():
        if isinstance(v, Law):
            out[name] = _plain(v, "law")
        elif name == "parameters":
            out[name] = {k: _number(x) for k, x in v}
        else:
            out[name] = _number(v)
    return out


def _number(value: Any) -> Any:
    """JSON has no infinities; they are written as words."""
    return ("inf" if value > 0 else "-inf") if isinstance(value, float) and math.isinf(value) else value


def loads(text: str) -> Graph:
    """The graph that ``dumps`` wrote.

    Raises GraphError, saying what was expected where, for text that is not JSON, is cut off, has another schema or
    version, or describes no valid graph.
    """
    if len(text) > _LARGEST:
        raise GraphError(f"expected graph JSON of at most {_LARGEST // 2**20} MiB, got {len(text) / 2**20:.0f} MiB")
    try:
        data = json.loads(text, parse_constant=_refuse_constant)
    except (json.JSONDecodeError, RecursionError) as error:
        where = f"line {error.lineno}: {error.msg}" if isinstance(error, json.JSONDecodeError) else "nested too deeply"
        raise GraphError(f"expected graph JSON, got text that is not JSON or was cut off ({where})") from None
    _check_head(data)
    nodes = data["nodes"]
    if not isinstance(nodes, list):
        raise GraphError(f"graph JSON: expected 'nodes' to be a list, got {_brief(nodes)}")
    return Graph(tuple(_read_node(n) for n in nodes), _names(data, "outputs"), _names(data, "inputs"))


def _refuse_constant(word: str) -> float:
    raise GraphError(f"graph JSON: expected finite numbers, got {word}")


def _check_head(data: object) -> None:
    if not isinstance(data, Mapping) or data.get("schema") != SCHEMA:
        got = data.get("schema") if isinstance(data, Mapping) else data
        raise GraphError(f"expected JSON with schema {SCHEMA!r} (as graph.to_json() writes), got {_brief(got)}")
    if data.get("version") != VERSION:
        raise GraphError(
            f"expected {SCHEMA} version {VERSION}, got {_brief(data.get('version'))}; "
            "read it with the depthscale version that wrote it"
        )
    if unknown := set(data) - {"schema", "version", "inputs", "outputs", "nodes"}:
        raise GraphError(f"graph JSON: expected no field {sorted(unknown)[0]!r}")
    if "nodes" not in data:
        raise GraphError("graph JSON: expected a field 'nodes', got none")


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def _names(data: Mapping[str, Any], field: str) -> tuple[str, ...]:
    value = data.get(field, [])
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise GraphError(f"graph JSON: expected {field!r} to be a list of names, got {_brief(value)}")
    return tuple(value)


def _read_node(data: object) -> Node:
    if not isinstance(data, Mapping) or not isinstance(data.get("name"), str):
        raise GraphError(f"graph JSON: expected a node with a name, got {_brief(data)}")
    name = data["name"]
    try:
        op = _read(data, "op", OPS, skip={"name", "inputs"})
    except GraphError as error:
        raise GraphError(f"node {name!r}: {error}") from None
    return Node(name, typing.cast(Op, op), _names(data, "inputs"))


def _read(data: Mapping[str, Any], tag: str, kinds: Mapping[str, type], skip: set[str]) -> Any:
    kind = data.get(tag)
    if not isinstance(kind, str) or kind not in kinds:
        raise GraphError(f"expected a known {tag}, got {_brief(kind)}; known are {', '.join(sorted(kinds))}")
    cls = kinds[kind]
    hints = _hints(cls)
    values: dict[str, Any] = {}
    for key, value in data.items():
        if key == tag or key in skip:
            continue
        if key not in hints:
            raise GraphError(f"{kind}: expected no field {key!r}; its fields are {', '.join(hints) or 'none'}")
        values[key] = _value(kind, key, value, hints[key])
    missing = [f.name for f in fields(cls) if f.default is MISSING and f.name not in values]
    if missing:
        raise GraphError(f"{kind}: expected a field {missing[0]!r}, got none")
    return cls(**values)


@cache
def _hints(cls: type) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {f.name: hints[f.name] for f in fields(cls)}


def _value(kind: str, key: str, value: Any, hint: Any) -> Any:
    """The value if JSON gave what the field's annotation asks for."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    for option in options:
        if option is type(None) and value is None:
            return None
        if option is Law and isinstance(value, Mapping):
            return _read(value, "law", LAWS, skip=set())
        if option == Parameters and isinstance(value, Mapping):
            return tuple((str(k), _from_word(v)) for k, v in value.items())
        if option == tuple[int, ...] and isinstance(value, list) and all(type(v) is int for v in value):
            return tuple(value)
        if option is float and type(_from_word(value)) in (int, float):
            return float(_from_word(value))
        if option in (int, str, bool) and type(value) is option:
            return value
    raise GraphError(f"{kind}: expected {key} to be {_hint_words(hint)}, got {_brief(value)}")


def _from_word(value: Any) -> Any:
    return {"inf": math.inf, "-inf": -math.inf}.get(value, value) if isinstance(value, str) else value


def _hint_words(hint: Any) -> str:
    words = {int: "a whole number", float: "a number", str: "text", bool: "true or false", Law: "a law"}
    if hint == tuple[int, ...]:
        return "a list of whole numbers"
    if isinstance(hint, types.UnionType):
        return " or ".join("null" if a is type(None) else _hint_words(a) for a in typing.get_args(hint))
    return words.get(hint, "an object of numbers and words")
