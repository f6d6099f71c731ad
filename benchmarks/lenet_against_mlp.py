"""LeNet-5 (61,706 parameters) against an MLP of more than twice its size, trained for the same time on MNIST.

    DEPTHSCALE_DATA=... python benchmarks/lenet_against_mlp.py --seconds 60 --seeds 3

Prints test accuracy per seed and the mean difference; both get the same optimiser, schedule, batch and threads.
"""

import argparse
import platform
import statistics

import torch

from depthscale import zoo
from depthscale.build import build
from depthscale.data import load
from depthscale.train import Budget, TrainConfig, Trainer, evaluate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="training time of each network")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    networks = {"LeNet-5": zoo.lenet5(), "MLP 784-160-10": zoo.mlp((784, 160, 10), input_shape=(1, 28, 28))}
    print(f"torch {torch.__version__}, {platform.machine()}, {args.threads} thread(s), {args.seconds:g} s each")
    accuracy: dict[str, list[float]] = {name: [] for name in networks}
    for seed in range(args.seeds):
        data = load("mnist", seed=seed)
        for name, graph in networks.items():
            config = TrainConfig(budget=Budget(seconds=args.seconds), seed=seed)
            trainer = Trainer(build(graph, seed), data, config, progress=False)
            result = trainer.run()
            metrics = evaluate(result.model, data.test(), data.task)
            accuracy[name].append(metrics.accuracy)
            print(
                f"seed {seed}  {name:15s} {graph.cost().parameters:8,} parameters  "
                f"{result.epochs:5.1f} epochs  test accuracy {metrics.accuracy:.4f}",
                flush=True,
            )
    lenet, mlp = accuracy.values()
    differences = [a - b for a, b in zip(lenet, mlp, strict=True)]
    print(f"mean accuracy: LeNet-5 {statistics.mean(lenet):.4f}, MLP {statistics.mean(mlp):.4f} (n={args.seeds} seeds)")
    print(
        f"LeNet-5 ahead by {statistics.mean(differences):+.4f} on average, in {sum(d > 0 for d in differences)} seeds"
    )


if __name__ == "__main__":
    main()
