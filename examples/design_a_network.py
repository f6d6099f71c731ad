"""A network for a table, from Python: two trials, so that it takes seconds."""

import depthscale as ds

result = ds.design("wine", trials=2, seed=0)
print(result.winner.words)
print(f"test accuracy {result.metrics['accuracy']:.3f} on {result.score.n} rows")
for baseline in result.standings:
    print(f"    {baseline.name}: {baseline.score.metrics['accuracy']:.3f}")
print(result.graph.outline())
