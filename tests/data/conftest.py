"""Small sources that the tests of several readers share."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def write_image(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of twelve 6 x 5 colour PNGs each; the red channel tells the class, the green one the file."""
    for c, name in enumerate(("cat", "dog")):
        for i in range(12):
            pixels = np.zeros((6, 5, 3), np.uint8)
            pixels[..., 0], pixels[..., 1], pixels[0, 0, 2] = 100 + 50 * c, 10 * i, 255
            write_image(tmp_path / "pets" / name / f"{i:02}.png", pixels)
    return tmp_path / "pets"
