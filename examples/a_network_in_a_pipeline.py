"""A critically initialised network where scikit-learn expects an estimator."""

from sklearn.datasets import load_wine
from sklearn.model_selection import cross_val_score

from depthscale.foundations import NetworkClassifier

x, y = load_wine(return_X_y=True)
scores = cross_val_score(NetworkClassifier(epochs=40), x, y, cv=3)
print(f"wine: {scores.mean():.3f} (3-fold cross-validation)")
assert scores.mean() > 0.9
