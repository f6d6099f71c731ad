from depthscale.figures import lenet_mlp

HOLDS = {
    "network": ["LeNet-5", "MLP 16", "MLP 300-100"],
    "parameters": [61706, 12730, 266610],
    "accuracy": [0.985, 0.93, 0.97],
    "epochs": 4,
    "test_rows": 10000,
    "training_rows": 15000,
    "best_mlp": "MLP 300-100",
    "only_lenet_right": 220,
    "only_mlp_right": 70,
}
FAILS = [HOLDS | {"only_lenet_right": 70, "only_mlp_right": 220, "accuracy": [0.95, 0.93, 0.97]}]


def test_what_is_too_close_to_call():
    assert lenet_mlp.judge(HOLDS | {"only_lenet_right": 102, "only_mlp_right": 98}).kind == "undecided"
    assert lenet_mlp.judge(HOLDS | {"parameters": [61706, 12730, 50000]}).kind == "undecided"
