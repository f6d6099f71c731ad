"""The few kinds of error that depthscale raises at its user.

Every message is one sentence that says what was expected, what arrived and how to mend it. All of them are
``ValueError``s, so code that does not know this package can still catch them; the command prints them and exits 2.
"""


class DepthscaleError(ValueError):
    """Something the user gave cannot be used; the message says what, why and how to mend it."""


class GraphError(DepthscaleError):
    """A graph is malformed, or its shapes do not fit; the message names the node and the shapes."""


class MissingRuleError(GraphError):
    """No rule is registered for an op; the message names the op and the rule."""


class DataError(DepthscaleError):
    """A data source cannot be read or cannot be learned from."""


class TheoryError(DepthscaleError):
    """A quantity of the theory does not exist or cannot be computed for what was given."""


class TrainingError(DepthscaleError):
    """Training cannot start or go on as asked."""


class SearchError(DepthscaleError):
    """A search space, a strategy or a table cannot be used as asked."""


class CaptureError(GraphError):
    """A torch model cannot be read as a graph; the message names the operation and the place."""
