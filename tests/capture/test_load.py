"""Model specs: what is found, and one clear sentence for everything that is wrong."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from depthscale.capture.load import load
from depthscale.errors import DepthscaleError
from depthscale.zoo import mlp

FILE = """
import torch
from torch import nn

def good():
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))

def images():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 30 * 30, 2))

def tokens(width=8):
    return nn.Sequential(nn.Embedding(10, width), nn.Linear(width, 10))

def raises():
    raise RuntimeError("no such layer")

def needs(width, depth):
    return nn.Linear(width, depth)

def nothing():
    return 3

instance = nn.Linear(3, 3)

def broken():
    net = good()
    with torch.no_grad():
        net[0].weight.fill_(float("nan"))
    return net

class Large(nn.Module):
    # a buffer too large to be computed along while the model is recorded
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 8)
        self.register_buffer("table", torch.arange(2**20 + 8) % 3)
    def forward(self, x):
        return self.layer(x) + self.table[-8:]

class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Bilinear(3, 4, 5)
    def forward(self, x, y):
        return self.layer(x, y)
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.py"
    path.write_text(FILE)
    return path


@pytest.mark.parametrize(("name", "shape"), [("good", (6,)), ("images", (3, 32, 32)), ("tokens", (16,))])
def test_a_factory_is_found_and_its_input_guessed(file: Path, name: str, shape: tuple[int, ...]) -> None:
    model = load(f"{file}:{name}")
    c = model.capture()
    assert c.graph[c.graph.inputs[0]].op.shape == shape
    live = model.capture(live=True)
    assert [n.name for n in live.graph.nodes] == [n.name for n in c.graph.nodes]
    a, b = model.module(seed=3), model.module(seed=3)
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def test_what_cannot_be_recorded_is_built(file: Path) -> None:
    c = load(f"{file}:Large").capture()
    constant = next(n.op for n in c.graph.nodes if type(n.op).__name__ == "Constant")
    assert constant.law.mean_square == pytest.approx(sum((i % 3) ** 2 for i in range(2**20, 2**20 + 8)) / 8)


def test_the_shape_can_be_said(file: Path) -> None:
    c = load(f"{file}:good", input_shape=(5, 6), batch=4).capture()
    assert c.graph.shapes(4)["2"] == (4, 5, 2)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("{file}:raises", "raises: its factory raised RuntimeError: no such layer"),
        ("{file}:needs", r"needs needs arguments \(width, depth\)"),
        ("{file}:nothing", "expected its factory to return a torch.nn.Module, got int"),
        ("{file}:goood", "to define a function or class 'goood'; did you mean 'good'"),
        ("{file}:instance", "but it is one; write a function"),
        ("{file}", "expected FILE.py:FACTORY"),
        ("{file}:Odd", "cannot guess what Odd takes"),
        ("absent.py:make", "expected a Python file at absent.py, but there is none"),
        ("absent.json", "expected a graph's JSON file at absent.json"),
        ("keras:vgg", "expected a model as zoo:NAME"),
        ("zoo:", "expected a name behind zoo:"),
        ("zoo:resnett18", "resnet18"),
    ],
)
def test_bad_specs(file: Path, spec: str, message: str) -> None:
    with pytest.raises(DepthscaleError, match=message):
        load(spec.format(file=file)).capture()


def test_a_shape_that_does_not_fit(file: Path) -> None:
    with pytest.raises(DepthscaleError, match=r"Sequential does not take inputs of shape \(7,\)"):
        load(f"{file}:good", input_shape=(7,)).capture()


def test_a_file_that_cannot_be_run(tmp_path: Path) -> None:
    path = tmp_path / "bad.py"
    path.write_text("import no_such_package\n")
    with pytest.raises(DepthscaleError, match="bad.py cannot be run: ModuleNotFoundError"):
        load(f"{path}:make")


def test_weights_that_are_not_numbers(file: Path) -> None:
    with pytest.raises(DepthscaleError, match="'0.weight' holds NaN"):
        load(f"{file}:broken").capture(live=True)


def test_files_of_weights(file: Path, tmp_path: Path) -> None:
    good = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    with torch.no_grad():
        good[0].weight.fill_(0.25)
    safe, pickled, wrong, code = (tmp_path / n for n in ("w.safetensors", "w.pt", "wrong.safetensors", "code.pt"))
    save_file(good.state_dict(), safe)
    torch.save(good.state_dict(), pickled)
    save_file({"other": torch.zeros(2)}, wrong)
    torch.save(good, code)
    for path in (safe, pickled):
        c = load(f"{file}:good", weights=path).capture()
        assert c.graph["0"].op.weight.value == 0.25
    with pytest.raises(DepthscaleError, match="does not fit Sequential"):
        load(f"{file}:good", weights=wrong).capture()
    with pytest.raises(DepthscaleError, match="a pickle that holds tensors only"):
        load(f"{file}:good", weights=code).capture()
    with pytest.raises(DepthscaleError, match="expected a file of weights"):
        load(f"{file}:good", weights=tmp_path / "absent.pt")


def test_a_graph_is_read_from_its_file(tmp_path: Path) -> None:
    graph = mlp([4, 8, 2])
    path = tmp_path / "graph.json"
    path.write_text(graph.to_json())
    assert load(str(path)).graph == graph


def test_libraries_are_optional() -> None:
    pytest.importorskip("torch")
    try:
        import timm  # noqa: F401
    except ImportError:
        with pytest.raises(DepthscaleError, match=r"pip install 'depthscale\[models\]'"):
            load("timm:resnet18")
    else:
        with pytest.raises(DepthscaleError, match="did you mean 'resnet18'"):
            load("timm:resnett18")
