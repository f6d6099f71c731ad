from depthscale.figures import critical_depth


def made(**accuracy):
    given = {"critical, orthogonal": 0.97, "critical, Gaussian": 0.6, "Xavier, gain 5/3": 0.15, "Xavier": 0.3,
             "PyTorch's default": 0.1}  # fmt: skip
    given |= {k.replace("_", " ") if k != "orthogonal" else "critical, orthogonal": v for k, v in accuracy.items()}
    arms = {k: {"lr": 0.01, "accuracy": [v, v], "curve": [[1, 0.1], [2, v]]} for k, v in given.items()}
    return {"depth": 300, "width": 48, "sb2": 0.001, "steps": 2, "rates": [0.01], "arms": arms}


HOLDS = made()
FAILS = [made(orthogonal=0.5), made(Xavier=0.9)]


def test_arms_are_what_they_are_called():
    graphs = critical_depth.arms()
    assert list(graphs) == list(HOLDS["arms"])
    assert all(graph.cost().depth == 301 for graph in graphs.values())
