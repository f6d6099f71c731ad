"""A folder of images: one folder per class, perhaps below train/, val/ and test/.

Two passes over the files, both in a few threads (Pillow decodes without holding the interpreter): the first reads the
headers and settles one size and one mode for all, the second decodes into one array of bytes.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from depthscale.data.raw import PARTS, TEST, TRAIN, VAL, Raw
from depthscale.data.split import subsample
from depthscale.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

Progress = Callable[[int, int], None]

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
SPLITS = {"train": TRAIN, "training": TRAIN, "val": VAL, "valid": VAL, "validation": VAL, "test": TEST, "testing": TEST}
MAX_SIDE = 256  # longer sides are scaled down to this, unless image_size says otherwise
_GREY = ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L")
_BATCH = 64  # files a task, so that threads cost little against decoding
_COMMON = 0.05  # a size shared by fewer files than this is no common size; the median is taken instead


@dataclass
class _Files:
    """Image files in a fixed order, with their class and split, and what was wrong with some of them."""

    paths: list[Path]
    y: NDArray[np.int64]
    part: NDArray[np.int8] | None
    classes: tuple[str, ...]
    bad: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_image_folder(
    folder: Path,
    *,
    skip_bad: bool = False,
    limit: int | None = None,
    seed: int = 0,
    image_size: int | tuple[int, int] | None = None,
    progress: Progress | None = None,
) -> tuple[Raw, bool]:
    """All images as (N, C, H, W) bytes with their classes, and whether any of them had to be resized.

    ``image_size`` (H, W), or one number for both, replaces the most frequent size. A file that cannot be decoded is a
    ``DataError`` that names it, or is left out and noted with ``skip_bad``.
    """
    files = _list_files(folder)
    if limit is not None:
        rows = subsample(files.y, files.part, limit, seed)
        files.paths, files.y = [files.paths[i] for i in rows], files.y[rows]
        files.part = None if files.part is None else files.part[rows]
    with warnings.catch_warnings(), ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        warnings.simplefilter("ignore")  # Pillow warns of odd metadata; what cannot be decoded raises
        probed = _probe_all(files, pool, progress)
        _settle_bad(files, folder, skip_bad, last=False)
        size = _target_size(probed, image_size, files.notes)
        channels = 1 if all(grey for _, grey in probed.values()) else 3
        _check_memory(len(files.paths), channels, size)
        x = _decode_all(files, pool, (channels, *size), progress)
    _settle_bad(files, folder, skip_bad, last=True)
    good = np.array([i for i in range(len(files.paths)) if i not in files.bad], dtype=np.int64)
    if len(good) < len(x):
        x, files.y = x[good], files.y[good]
        files.part = None if files.part is None else files.part[good]
    resized = any(shape != size for shape, _ in probed.values())
    return Raw(folder.name, x, files.y, ("class",), files.classes, files.part, files.notes), resized


def read_images(paths: list[Any], shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """The image files as (N, C, H, W) bytes, resized to ``shape`` (C, H, W) as a folder's images are."""
    out = np.empty((len(paths), *shape), np.uint8)
    for i, path in enumerate(paths):
        try:
            out[i] = _decode(Path(path), shape)
        except MemoryError:
            raise
        except Exception as error:  # decoders raise nearly anything on broken files
            raise DataError(f"{path} cannot be read as an image ({_reason(error)}).") from error
    return out


def _list_files(folder: Path) -> _Files:
    """The image files in sorted order, by split where the folder has train/ and test/, and by class."""
    below = _subfolders(folder)
    splits = {name: SPLITS[name.lower()] for name in below if name.lower() in SPLITS}
    if len(splits) != len(below) or TRAIN not in splits.values():
        return _list_classes({TRAIN: folder}, folder)
    if len(set(splits.values())) < len(splits):
        raise DataError(f"{folder} has two folders for one split among {', '.join(splits)}; keep one of each.")
    return _list_classes({part: folder / name for name, part in splits.items()}, folder)


def _list_classes(roots: dict[int, Path], folder: Path) -> _Files:
    classes = tuple(_subfolders(roots[TRAIN]))
    if not classes:
        found = "images but no folders" if any(_is_image(p) for p in roots[TRAIN].iterdir()) else "no folders"
        raise DataError(f"{roots[TRAIN]} must hold one folder of images per class, but holds {found}.")
    paths, labels, parts, other = [], [], [], 0
    for part, root in sorted(roots.items()):
        present = _subfolders(root)
        unknown = sorted(set(present) - set(classes))
        if unknown:
            raise DataError(f"{root / unknown[0]} is a class that {roots[TRAIN]} does not have; add it there.")
        for name in present:
            images, rest = _images_below(root / name)
            other += rest
            if not images and part == TRAIN:
                inner = _subfolders(root / name)
                raise DataError(
                    f"The class folder {root / name} holds no images ({', '.join(SUFFIXES)})"
                    f"{f', only folders such as {inner[0]}' if inner else ''}; fill it or remove it."
                )
            paths += images
            labels += [classes.index(name)] * len(images)
            parts += [part] * len(images)
    if len(classes) == 1:
        inner = _subfolders(roots[TRAIN] / classes[0])
        hint = f"; if the classes are below it, give {roots[TRAIN] / classes[0]}" if inner else ""
        raise DataError(f"{folder} has one class only, {classes[0]!r}; at least two folders are needed{hint}.")
    files = _Files(paths, np.array(labels, np.int64), None, classes)
    if len(roots) > 1:
        files.part = np.array(parts, np.int8)
        names = " and ".join(PARTS[p] for p in sorted(roots))
        files.notes.append(f"{folder.name} has its own {names} folders, which are kept as splits.")
    if other:
        files.notes.append(f"{other} file(s) that are not images left aside.")
    return files


def _subfolders(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith((".", "__")))


def _images_below(folder: Path) -> tuple[list[Path], int]:
    """All images at any depth in sorted order, and the number of other visible files."""
    images, other = [], 0
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if _is_image(Path(name)):
                images.append(Path(root, name))
            elif not name.startswith(".") and name.lower() not in ("thumbs.db", "desktop.ini"):
                other += 1
    return sorted(images), other


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _batches(files: _Files) -> Iterator[range]:
    for start in range(0, len(files.paths), _BATCH):
        yield range(start, min(start + _BATCH, len(files.paths)))


def _probe_all(
    files: _Files, pool: ThreadPoolExecutor, progress: Progress | None
) -> dict[int, tuple[tuple[int, int], bool]]:
    """(H, W) and greyness by index of file; what fails goes to ``files.bad``."""
    found: dict[int, tuple[tuple[int, int], bool]] = {}

    def work(batch: range) -> int:
        for i in batch:
            if (result := _guarded(files, i, _probe, files.paths[i])) is not None:
                found[i] = result
        return len(batch)

    _follow([pool.submit(work, batch) for batch in _batches(files)], 0, len(files.paths), progress)
    return found


def _decode_all(
    files: _Files, pool: ThreadPoolExecutor, shape: tuple[int, int, int], progress: Progress | None
) -> NDArray[np.uint8]:
    out = np.zeros((len(files.paths), *shape), np.uint8)

    def work(batch: range) -> int:
        for i in batch:
            if i not in files.bad and (image := _guarded(files, i, _decode, files.paths[i], shape)) is not None:
                out[i] = image
        return len(batch)

    _follow([pool.submit(work, batch) for batch in _batches(files)], len(out), len(out), progress)
    return out


def _follow(futures: list[Future[int]], before: int, total: int, progress: Progress | None) -> None:
    """Wait for all tasks; each of the two passes is half of the progress. Ctrl-C drops what has not begun."""
    done = before
    try:
        for future in as_completed(futures):
            done += future.result()
            if progress is not None:
                progress(done // 2, total)
    except BaseException:
        for future in futures:
            future.cancel()
        raise


def _guarded(files: _Files, i: int, work: Callable[..., Any], *args: Any) -> Any:
    try:
        return work(*args)
    except MemoryError:
        raise
    except Exception as error:  # decoders raise nearly anything on broken files
        files.bad[i] = _reason(error)
        return None


def _settle_bad(files: _Files, folder: Path, skip_bad: bool, *, last: bool) -> None:
    """Raise for unreadable files, or note them once at the end; no class may lose all its images."""
    if not files.bad:
        return
    first = min(files.bad)
    if not skip_bad:
        many = f" (and {len(files.bad) - 1} more)" if len(files.bad) > 1 else ""
        raise DataError(
            f"{files.paths[first]}{many} cannot be read as an image ({files.bad[first]}); mend or remove it, or go on "
            "without such files with --skip-bad (skip_bad=True)."
        )
    left = np.delete(files.y, list(files.bad))
    lost = sorted(set(files.y.tolist()) - set(left.tolist()))
    if lost:
        raise DataError(f"No image of the class {files.classes[lost[0]]!r} in {folder} can be read.")
    if last:
        shown = ", ".join(str(files.paths[i].relative_to(folder)) for i in sorted(files.bad)[:5])
        more = f" and {len(files.bad) - 5} more" if len(files.bad) > 5 else ""
        files.notes.append(f"{len(files.bad)} unreadable image(s) skipped: {shown}{more}.")


def _target_size(
    probed: dict[int, tuple[tuple[int, int], bool]], wanted: int | tuple[int, int] | None, notes: list[str]
) -> tuple[int, int]:
    """(H, W) for all: what was asked for, else the most frequent size, else the median; long sides scaled down."""
    counts = Counter(size for size, _ in probed.values())
    if wanted is not None:
        pair = (wanted, wanted) if isinstance(wanted, int) else tuple(wanted)
        if len(pair) != 2 or not all(isinstance(s, int) and s > 0 for s in pair):
            raise DataError(f"image_size must be a positive number or a pair (height, width), but got {wanted!r}.")
        size = (pair[0], pair[1])
    else:
        size, often = min(counts.items(), key=lambda item: (-item[1], item[0]))
        if often < _COMMON * len(probed):
            sizes = np.array([size for size, _ in probed.values()])
            size = (int(np.median(sizes[:, 0])), int(np.median(sizes[:, 1])))
        if max(size) > MAX_SIDE:
            scale = MAX_SIDE / max(size)
            size = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
    others = len(probed) - counts[size]
    if others:
        notes.append(
            f"{others} of {len(probed)} images have another size than {size[0]} x {size[1]} (height x width): scaled "
            "to cover it and cropped at the centre; image_size= chooses another."
        )
    return size


def _check_memory(count: int, channels: int, size: tuple[int, int]) -> None:
    """Raise before memory is touched: bytes while reading, then four-byte floats."""
    import psutil

    need, free = count * channels * size[0] * size[1] * 5, psutil.virtual_memory().available
    if need > 0.9 * free:
        raise DataError(
            f"{count} images of {size[0]} x {size[1]} need {need / 2**30:.1f} GiB, but {free / 2**30:.1f} GiB are "
            "free; load fewer (limit=) or smaller ones (image_size=)."
        )


def _probe(path: Path) -> tuple[tuple[int, int], bool]:
    """((H, W), grey) from the header, as it will be once it is turned upright."""
    from PIL import Image

    with Image.open(path) as image:
        width, height = image.size
        upright = (width, height) if _lies(image) else (height, width)
        return upright, image.mode in _GREY


def _decode(path: Path, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """One image upright, in the mode and size asked for: (C, H, W) bytes."""
    from PIL import Image, ImageOps

    channels, height, width = shape
    with Image.open(path) as image:
        if image.format == "JPEG" and image.size != (width, height):
            image.draft(None, (2 * max(width, height),) * 2)  # decode a large photograph at a fraction of its size
        picture: Image.Image = ImageOps.exif_transpose(image) if _lies(image, flips=True) else image
        if picture.mode.startswith("I"):  # 16-bit grey, which Pillow would clip
            deep = np.asarray(picture).astype(np.float64) / 257.0
            picture = Image.fromarray(np.clip(np.rint(deep), 0, 255).astype(np.uint8))
        mode = "L" if channels == 1 else "RGB"
        if picture.mode != mode:
            picture = picture.convert(mode)
        if picture.size != (width, height):
            picture = ImageOps.fit(picture, (width, height), Image.Resampling.BILINEAR)
        pixels = np.asarray(picture)
    return pixels[None] if channels == 1 else np.moveaxis(pixels, -1, 0)


def _lies(image: Image.Image, *, flips: bool = False) -> bool:
    """True where the camera's orientation tag says that width and height are exchanged (or, asked so, any tag)."""
    if "exif" not in image.info:
        return False
    orientation = image.getexif().get(0x0112, 1)
    return orientation in ((2, 3, 4, 5, 6, 7, 8) if flips else (5, 6, 7, 8))


def _reason(error: Exception) -> str:
    if type(error).__name__ == "UnidentifiedImageError":
        return "not an image, or its header is broken"
    return " ".join(str(error).split())[:120] or type(error).__name__
