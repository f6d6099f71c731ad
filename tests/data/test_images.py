"""Folders of images."""

import shutil

import numpy as np
import pytest
from PIL import Image

from depthscale.data import load
from depthscale.data.images import read_image_folder
from depthscale.errors import DataError

from .conftest import write_image


def test_one_folder_per_class(folder):
    data = load(folder)
    assert (data.kind, data.task, data.input_shape) == ("image", "classification", (3, 6, 5))
    assert data.classes == ("cat", "dog")
    assert sum(data.sizes) == 24
    assert data.notes == ()
    raw, resized = read_image_folder(folder)
    assert not resized
    for row in range(24):  # sorted by class, then by file; every pixel as it was written
        assert raw.y[row] == row // 12
        assert (raw.x[row, 0] == 100 + 50 * (row // 12)).all()
        assert (raw.x[row, 1] == 10 * (row % 12)).all()
        assert raw.x[row, 2, 0, 0] == 255
        assert raw.x[row, 2].sum() == 255


def test_own_splits_are_kept(folder, tmp_path):
    for part, rows in (("train", range(8)), ("val", range(8, 10)), ("Test", range(10, 12))):
        for name in ("cat", "dog"):
            for i in rows:
                target = tmp_path / "split" / part / name / f"{i:02}.png"
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(folder / name / f"{i:02}.png", target)
    data = load(tmp_path / "split")
    assert data.sizes == (16, 4, 4)
    green = data.test().x[:, 1, 0, 0] * data.preprocessing.inputs.std[1] + data.preprocessing.inputs.mean[1]
    np.testing.assert_allclose(green, [100, 110, 100, 110], rtol=1e-5)
    shutil.rmtree(tmp_path / "split" / "val")
    data = load(tmp_path / "split", val=0.25)
    assert data.sizes == (12, 4, 4)
    assert "kept as splits" in data.notes[0]


def test_a_class_may_be_called_train(folder):
    (folder / "cat").rename(folder / "train")
    assert load(folder).classes == ("dog", "train")


def test_test_classes_must_be_known(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "s" / "train")
    shutil.copytree(folder, tmp_path / "s" / "test")
    (tmp_path / "s" / "test" / "dog").rename(tmp_path / "s" / "test" / "fox")
    with pytest.raises(DataError, match="fox is a class that"):
        load(tmp_path / "s")


def test_one_corrupt_file_is_named_and_can_be_skipped(folder):
    whole = (folder / "dog" / "05.png").read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"not an image"):
        (folder / "dog" / "05.png").write_bytes(content)
        with pytest.raises(DataError, match=r"dog/05\.png cannot be read as an image.*--skip-bad"):
            load(folder)
        data = load(folder, skip_bad=True)
        assert sum(data.sizes) == 23
        assert "1 unreadable image(s) skipped: dog/05.png" in " ".join(data.notes)
    (folder / "cat" / "03.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"cat/03\.png \(and 1 more\)"):
        load(folder)


def test_a_truncated_jpeg_is_bad(folder):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    path = folder / "cat" / "99.jpg"
    write_image(path, noise)
    path.write_bytes(path.read_bytes()[:900])  # the header is whole, so that only decoding finds out
    with pytest.raises(DataError, match=r"99\.jpg"):
        load(folder)
    assert sum(load(folder, skip_bad=True).sizes) == 24


def test_no_class_may_lose_all_its_images(folder):
    for path in (folder / "dog").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match="No image of the class 'dog'"):
        load(folder, skip_bad=True)


def test_mixed_sizes_take_the_most_frequent(folder):
    write_image(folder / "cat" / "big.png", np.full((60, 90, 3), 200, np.uint8))
    data = load(folder)
    assert data.input_shape == (3, 6, 5)
    assert "1 of 25 images have another size than 6 x 5" in data.notes[0]
    assert data.preprocessing.inputs.resize
    applied = data.preprocessing.apply(folder / "cat" / "big.png")
    expected = (200 - np.array(data.preprocessing.inputs.mean)) / np.array(data.preprocessing.inputs.std)
    np.testing.assert_allclose(applied[0, :, 3, 2], expected, rtol=1e-5)
    assert load(folder, image_size=(4, 8)).input_shape == (3, 4, 8)
    assert load(folder, image_size=7).input_shape == (3, 7, 7)


def test_large_photographs_are_scaled_down(tmp_path):
    for name in "ab":
        for i in range(4):
            write_image(tmp_path / "p" / name / f"{i}.jpg", np.full((300, 600, 3), 50 * i, np.uint8))
    data = load(tmp_path / "p")
    assert data.input_shape == (3, 128, 256)


def test_grey_images_have_one_channel_and_one_coloured_image_makes_all_coloured(tmp_path):
    for name in "ab":
        for i in range(6):
            write_image(tmp_path / "g" / name / f"{i}.png", np.full((4, 4), 20 * i, np.uint8))
    assert load(tmp_path / "g").input_shape == (1, 4, 4)
    write_image(tmp_path / "g" / "a" / "c.png", np.full((4, 4, 3), 9, np.uint8))
    assert load(tmp_path / "g").input_shape == (3, 4, 4)


def test_deep_grey_keeps_its_range(tmp_path):
    for name in "ab":
        for i in range(4):
            path = tmp_path / "d" / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((4, 4), 257 * 40 * i, np.uint16)).save(path)
    raw, _ = read_image_folder(tmp_path / "d")
    assert raw.x[:4, 0, 0, 0].tolist() == [0, 40, 80, 120]


def test_photographs_are_turned_upright(folder, tmp_path):
    pixels = np.zeros((5, 6, 3), np.uint8)
    pixels[0] = 250  # the camera's top row is the right column once the image is turned (tag 6)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(folder / "cat" / "turned.png", exif=exif)
    raw, resized = read_image_folder(folder)
    assert not resized
    turned = raw.x[12]
    assert (turned[:, :, -1] == 250).all()
    assert not turned[:, :, 0].any()


def test_paths_are_preprocessed_as_the_folder_was(folder):
    data = load(folder)
    paths = [folder / "cat" / "00.png", str(folder / "dog" / "11.png")]
    raw, _ = read_image_folder(folder)
    np.testing.assert_array_equal(data.preprocessing.apply(paths), data.preprocessing.apply(raw.x[[0, 23]]))
    (folder / "cat" / "00.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"00\.png cannot be read"):
        data.preprocessing.apply(paths)


def test_limit_reads_no_more_files_than_it_keeps(folder):
    seen = []
    data = load(folder, limit=10, progress=lambda done, total: seen.append((done, total)))
    assert sum(data.sizes) == 10
    assert seen[-1] == (10, 10)
    done = [d for d, _ in seen]
    assert done == sorted(done)


def test_other_files_are_left_aside_and_said(folder):
    (folder / "cat" / "readme.txt").write_text("x")
    (folder / "cat" / ".hidden.png").write_text("x")
    (folder / "readme.md").write_text("x")
    assert load(folder).notes == ("1 file(s) that are not images left aside.",)


def test_nested_folders_belong_to_their_class(folder):
    (folder / "cat" / "more").mkdir()
    (folder / "cat" / "00.png").rename(folder / "cat" / "more" / "00.png")
    assert sum(load(folder).sizes) == 24


def test_folders_without_classes_are_refused(folder, tmp_path):
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="one folder of images per class, but holds no folders"):
        load(tmp_path / "none")
    with pytest.raises(DataError, match="images but no folders"):
        load(folder / "cat")
    (tmp_path / "outer").mkdir()
    folder.rename(tmp_path / "outer" / "pets")
    with pytest.raises(DataError, match="one class only, 'pets'.*give"):
        load(tmp_path / "outer")
    (tmp_path / "outer" / "pets" / "eel").mkdir()
    with pytest.raises(DataError, match="eel holds no images"):
        load(tmp_path / "outer" / "pets")


@pytest.mark.parametrize("size", [0, (4,), (3, -1), "big"])
def test_bad_sizes_are_refused(folder, size):
    with pytest.raises(DataError, match="image_size must be"):
        load(folder, image_size=size)


def test_images_beyond_memory_are_refused_before_it_is_touched(folder):
    with pytest.raises(DataError, match="GiB are free"):
        load(folder, image_size=1_000_000)
