"""Every data source becomes one ``Dataset``: preprocessed, split by seed, its test split sealed until the end.

``load`` is the door. Importing this room loads NumPy and nothing heavier; pandas, scikit-learn and Pillow are
imported by the reader that needs them. Nothing here ever unpickles a file.
"""

from depthscale.data.dataset import Dataset, Split
from depthscale.data.preprocess import Preprocessing
from depthscale.data.sources import load

load_data = load

__all__ = ["Dataset", "Preprocessing", "Split", "load", "load_data"]
