"""Graph → readable, self-contained PyTorch source.

Scopes that are the same but for numbers become one class, runs of them become loops or rows over a table, values used
once go straight into their use. What the source computes is made of the same expressions that built modules run.
"""

import inspect
import re

from depthscale.build import pieces
from depthscale.build.plan import Plan, plan
from depthscale.build.writing.classes import Family, families, unique
from depthscale.build.writing.forms import Forms
from depthscale.build.writing.layout import wrap
from depthscale.build.writing.modules import Module, is_attribute, is_writable
from depthscale.build.writing.scopes import Scopes, label, randomness
from depthscale.errors import GraphError
from depthscale.graph import Graph, ops

_HELPERS = (
    "named",
    "in_a_row",
    "repeat",
    "numbered",
    "Tensors",
    "Fixed",
    "without",
    "drop_path",
    "causal",
    "causal_logits",
    "put",
    "at",
)
_TEXT = {
    "named": '''
def named(**layers):
    """Layers in a row, under these names."""
    return nn.Sequential(OrderedDict(layers))
''',
    "in_a_row": '''
def in_a_row(make, table):
    """Modules in a row: one for every line of the table."""
    return nn.Sequential(*(make(*row) for row in table))
''',
    "repeat": '''
def repeat(name, make, table):
    """In a row, under the names name1, name2, ...: one module for every line of the table."""
    return named(**{f"{name}{i}": make(*row) for i, row in enumerate(table, 1)})
''',
    "numbered": '''
def numbered(name, make, table, first=1):
    """Modules under the names name1, name2, ...: one for every line of the table."""
    return {f"{name}{i}": make(*row) for i, row in enumerate(table, first)}
''',
    "put": '''
def put(root, path, module):
    """Put a module at a path; the path may hold names that attributes cannot have."""
    *scopes, name = path.split(".")
    for scope in scopes:
        root = root._modules.setdefault(scope, nn.Module())
    root._modules[name] = module
''',
    "at": '''
def at(root, path):
    """The module at a path."""
    for name in path.split("."):
        root = root._modules[name]
    return root
''',
}


def source(graph: Graph, *, name: str = "Model") -> str:
    """Python source of a network that needs nothing but torch (and safetensors to load weights).

    Its class ``name`` has the parameters of ``build(graph)`` under the same names and computes the same, in
    evaluation and in training; ``load(path)`` reads the weights that ``save`` wrote. Raises GraphError where shapes
    do not fit or ``name`` cannot be a class.
    """
    if not is_attribute(name) or name in {"F", "Tensor", "load", "torch", "nn", "OrderedDict", *_HELPERS}:
        raise GraphError(f"expected a name that a Python class can have, got {name!r}; use a word such as LeNet5")
    made = plan(graph)
    writable = all(is_writable(part) for path in made.leaves for part in path.split("."))
    scopes = Scopes(made, flat=not writable)
    if randomness(scopes.nodes("")) != randomness(scopes.running):
        scopes = Scopes(made, flat=True)
    return _File(made, scopes, name, flat=not writable).text()


class _File:
    """One source file in the making."""

    def __init__(self, made: Plan, scopes: Scopes, name: str, flat: bool) -> None:
        self.plan, self.scopes, self.name, self.flat = made, scopes, name, flat
        self.families = families(scopes)
        self.forms = Forms(scopes, self.families)

    def text(self) -> str:
        """The file."""
        taken = {self.name, "F", "load", "Tensor", "OrderedDict", *_HELPERS}
        classes = self._classes()
        for family in classes:
            family.name = unique(_class_name(family.model), taken)
        root = Family(self.scopes, [""], "", name=self.name)
        modules = [Module(self.scopes, self.forms, family, self.flat) for family in [*classes, root]]
        bodies = [self._class(module) for module in modules]
        helpers = {h for module in modules for h in module.helpers}
        parts = [self._helper(h) for h in _HELPERS if h in helpers]
        code = "\n\n\n".join([*parts, *bodies, self._load(), self._main()])
        return f"{self._head(code)}\n\n\n{code}\n"

    def _classes(self) -> list[Family]:
        """The families that are written as classes, every one behind those it uses."""
        found: dict[int, Family] = {}

        def visit(scope: str) -> None:
            for unit in self.scopes.units(scope):
                if unit.is_scope:
                    family = self.families[unit.path]
                    if id(family) in found:
                        continue
                    visit(family.model)
                    if self.forms.of(unit.path) == "class":
                        found.setdefault(id(family), family)

        visit("")
        return list(found.values())

    def _class(self, module: Module) -> str:
        forward = module.forward()
        return "\n".join([f"class {module.family.name}(nn.Module):", *module.init(), "", *forward])

    def _helper(self, name: str) -> str:
        if name in _TEXT:
            return _TEXT[name].strip()
        text = inspect.getsource(getattr(pieces, name)).strip()
        return re.sub(r"  # type: ignore\[[^\]]*\]", "", text)

    def _head(self, code: str) -> str:
        count = sum(spec.count for spec in self.plan.specs.values())
        lines = [f'"""{self.name}: {count:,} parameters. Written by depthscale; needs only torch.', ""]
        lines += ["Layers start as torch starts them: load(path) reads the weights (needs safetensors).", '"""', ""]
        if "OrderedDict" in code:
            lines += ["from collections import OrderedDict", ""]
        lines += ["import torch"]
        if re.search(r"\bF\.", code):
            lines += ["import torch.nn.functional as F"]
        tensor = "Tensor, " if re.search(r"\bTensor\b", code) else ""
        return "\n".join([*lines, f"from torch import {tensor}nn"])

    def _load(self) -> str:
        return (
            'def load(path="model.safetensors"):\n'
            '    """The network with the weights of a safetensors file, ready to predict."""\n'
            "    from safetensors.torch import load_file\n\n"
            f"    model = {self.name}()\n"
            "    model.load_state_dict(load_file(path))\n"
            "    return model.eval()"
        )

    def _main(self) -> str:
        graph = self.plan.graph
        made = []
        for name in graph.inputs:
            op = graph[name].op
            assert isinstance(op, ops.Input)
            shape = (1, *op.shape) if op.batched else op.shape
            kind = {"int": ", dtype=torch.long", "bool": ", dtype=torch.bool"}.get(op.dtype, "")
            made.append(f"torch.zeros({', '.join(map(str, shape)) or '()'}{kind})")
        call = f"outputs = {self.name}().eval()({', '.join(made)})"
        shown = "print(tuple(outputs.shape))"
        if len(graph.outputs) > 1:
            shown = "print([tuple(y.shape) for y in outputs])"
        return "\n".join(['if __name__ == "__main__":', *wrap(call, 4), f"    {shown}"])


def _class_name(path: str) -> str:
    """A class's name from the label of a scope: "conv_block3" is ConvBlock."""
    parts = path.split(".")
    word = next((p for p in reversed(parts) if not p.isdigit()), "module")
    stem = word.rstrip("0123456789") or word
    name = "".join(part[:1].upper() + part[1:] for part in stem.split("_") if part)
    return name if is_attribute(name) and label(name) == name else "Part"
