"""``openml:NAME`` and ``openml:NAME:VERSION``: fetched by scikit-learn, which caches them for the next time."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence

from depthscale.data.raw import Raw
from depthscale.data.tables import pixels_as_images, raw_from_frame
from depthscale.errors import DataError

_SOURCE = re.compile(r"openml:([\w.()-]+)(?::(\d+))?", re.IGNORECASE)


def read_openml(source: str, target: str | Sequence[str] | None, task: str | None) -> Raw:
    """An OpenML data set, with its default target unless another column is named."""
    match = _SOURCE.fullmatch(source)
    if match is None:
        raise DataError(f'Expected "openml:NAME" or "openml:NAME:VERSION", but got {source!r}.')
    name, version = match[1], match[2]
    from sklearn.datasets import fetch_openml

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a cache that is stale or a data set with several versions
            bunch = fetch_openml(name, version=int(version) if version else "active", as_frame=True, parser="auto")
    except ImportError as error:
        raise DataError(f"Reading {source} needs pandas, which is not installed: pip install pandas.") from error
    except Exception as error:  # the network fails in many ways, and every one of them ends in the same advice
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        raise DataError(
            f"{source} cannot be fetched from OpenML ({reason}); check the name on openml.org and the network, or "
            "download the data as a CSV file and give its path."
        ) from error
    default = [str(column) for column in bunch.target_names]
    notes = [f"{source}: version {bunch.details.get('version', '?')}."]
    return pixels_as_images(raw_from_frame(bunch.frame, target or default, name=source, task=task, notes=notes))
