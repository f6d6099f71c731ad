"""Names of captured nodes: the module's path where one op stands for the module, else the path and a word.

So that a parameter is called in the graph what it is called in the model wherever that is possible
("layer1.0.conv1.weight"), and every row of a diagnosis points into the user's code.
"""

import re
from collections import Counter
from collections.abc import Mapping

from depthscale.capture.program import path_of
from depthscale.capture.values import Draft
from depthscale.graph import ops


def unique_names(drafts: Mapping[int, Draft]) -> dict[int, str]:
    """A name for every draft; a name is never also a scope of others."""
    paths = {i: _path(d) for i, d in drafts.items()}
    alone = Counter(paths.values())
    scopes = set()
    for path in paths.values():
        while "." in path:
            path = path.rpartition(".")[0]
            scopes.add(path)
    kept = scopes | set(paths.values())
    taken: set[str] = set()
    out: dict[int, str] = {}
    for i, draft in drafts.items():
        path = paths[i]
        if isinstance(draft.op, ops.Input):
            continue
        if path and alone[path] == 1 and path not in scopes:
            out[i] = path
        else:
            out[i] = _numbered(f"{path}.{_leaf(draft)}" if path else _leaf(draft), taken, kept)
        taken.add(out[i])
    for i, draft in drafts.items():
        if isinstance(draft.op, ops.Input):
            out[i] = _numbered(_clean(draft.leaf), taken, kept)
            taken.add(out[i])
    return out


def _path(draft: Draft) -> str:
    return ".".join(_clean(part) for part in path_of(draft.fx).split(".") if part)


def _clean(word: str) -> str:
    word = re.sub(r"[^A-Za-z0-9_]", "_", word) or "node"
    return f"{word}_" if word == "training" else word


def _leaf(draft: Draft) -> str:
    word = draft.leaf or (draft.op.function if isinstance(draft.op, ops.Activation) else type(draft.op).__name__)
    return _clean(word.lower())


def _numbered(stem: str, taken: set[str], scopes: set[str]) -> str:
    if stem not in taken and stem not in scopes:
        return stem
    n = 2
    while f"{stem}{n}" in taken or f"{stem}{n}" in scopes:
        n += 1
    return f"{stem}{n}"


def shared_names(drafts: Mapping[int, Draft], names: Mapping[int, str]) -> dict[int, str]:
    """For drafts whose weights are one tensor of the module (a module called twice, tied weights): the owner's name."""
    groups: dict[object, list[int]] = {}
    for i, draft in drafts.items():
        source = draft.weights.get("weight")
        if source is not None and source.steps is not None:  # computed weights have no name to share
            key = (source.names, tuple(str(s) for s in source.steps if "aten.t.default" not in str(s.target)))
            groups.setdefault(key, []).append(i)
    out: dict[int, str] = {}
    for group in groups.values():
        if len(group) > 1 and all(hasattr(drafts[i].op, "shared") for i in group):
            first = names[group[0]]
            out.update(dict.fromkeys(group, first))
    return out
