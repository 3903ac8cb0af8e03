from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image

from autotune.data.images import Images, read_image
from autotune.data.source import LazyPart, Part, held_out, split
from autotune.errors import UserError


def picture(path: Path, pixels: Any, mode: str = "RGB", **how: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(numpy.asarray(pixels, "u1")).convert(mode).save(path, **how)
    return path


def folder(tmp_path: Path, classes: dict[str, int] | None = None) -> Path:
    """Pictures of different sizes and kinds in a folder for each class."""
    random = numpy.random.default_rng(0)
    for name, samples in (classes or {"cat": 12, "dog": 8}).items():
        for number in range(samples):
            kind = ("a.png", "b.jpg", "c.BMP")[number % 3]
            pixels = random.integers(0, 256, (6 + number, 9, 3), "u1")
            picture(tmp_path / "photos" / name / f"{number}{kind}", pixels)
    return tmp_path / "photos"


def source(path: Path, **settings: Any) -> Images:
    return Images(path=str(path), **{"size": 4, **settings})


def features(part: Part | LazyPart) -> torch.Tensor:
    return part.features if isinstance(part, Part) else part.read(numpy.arange(len(part)))


def test_a_folder_for_each_class_becomes_images_of_one_size(tmp_path: Path) -> None:
    made = split(source(folder(tmp_path)))
    assert made.input_shape == (3, 4, 4)
    assert (made.task, made.outputs, made.class_names) == ("binary", 1, ("cat", "dog"))
    assert (len(made.train), len(made.val), len(held_out(source(tmp_path / "photos")))) == (12, 4, 4)
    assert float(features(made.train).mean()) == pytest.approx(0.0, abs=1e-5)
    assert float(features(made.train).std(correction=0)) == pytest.approx(1.0, abs=1e-5)
    assert made.val.target.sum() in (1, 2)


def test_images_may_be_grey(tmp_path: Path) -> None:
    assert split(source(folder(tmp_path), channels=1)).input_shape == (1, 4, 4)


def test_more_than_two_classes_are_multiclass(tmp_path: Path) -> None:
    path = folder(tmp_path, {"a": 6, "b": 5, "c": 5})
    made = split(source(path))
    assert (made.task, made.outputs, made.class_names) == ("multiclass", 3, ("a", "b", "c"))
    assert split(source(folder(tmp_path / "two"), task="multiclass")).outputs == 2


@pytest.mark.parametrize("channels", [1, 3])
def test_read_lazily_they_are_the_same(tmp_path: Path, channels: int) -> None:
    path = folder(tmp_path)
    there = split(source(path, channels=channels))
    lazy = split(source(path, channels=channels, in_memory_limit=4 * 20 * channels * 16 - 1))
    assert isinstance(there.train, Part)
    assert isinstance(lazy.train, LazyPart)
    assert torch.equal(features(lazy.train), features(there.train))
    assert torch.equal(features(lazy.val), features(there.val))
    assert torch.equal(lazy.examples, there.examples)


def test_a_changed_folder_is_read_again(tmp_path: Path) -> None:
    path = folder(tmp_path)
    first = source(path)
    assert source(path) == first
    picture(path / "cat" / "more.png", numpy.zeros((5, 5, 3)))
    assert source(path) != first


# One image.


def test_the_shorter_side_is_resized_and_the_longer_one_cut_at_both_ends(tmp_path: Path) -> None:
    # Half of the width is black, a quarter at each end: squeezed together it would be 45 on average.
    wide = numpy.zeros((16, 32, 3))
    wide[:, 8:24] = 90
    for name, pixels in (("wide.png", wide), ("high.png", wide.transpose(1, 0, 2))):
        made = read_image(picture(tmp_path / name, pixels), 4, "RGB")
        assert made.min() > 75
        assert made.max() == 90


def test_an_image_of_the_right_size_stays_as_it_is(tmp_path: Path) -> None:
    pixels = numpy.random.default_rng(0).integers(0, 256, (4, 4, 3), "u1")
    made = read_image(picture(tmp_path / "x.png", pixels), 4, "RGB")
    assert numpy.array_equal(made, pixels.transpose(2, 0, 1))


def test_a_photo_is_turned_upright(tmp_path: Path) -> None:
    pixels = numpy.zeros((4, 4), "u1")
    pixels[0] = 200
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to see it
    path = tmp_path / "x.png"
    Image.fromarray(pixels).save(path, exif=exif)
    assert read_image(path, 4, "L")[0, :, 3].tolist() == [200] * 4


@pytest.mark.parametrize(
    "image",
    [
        Image.new("P", (4, 4), 1),
        Image.new("RGBA", (4, 4), (1, 2, 3, 0)),
        Image.new("1", (4, 4), 1),
        Image.new("CMYK", (4, 4)),
        Image.new("LA", (4, 4)),
    ],
    ids=lambda image: image.mode,
)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_images_of_any_mode_are_read(tmp_path: Path, image: Image.Image, mode: str) -> None:
    path = tmp_path / ("x.tiff" if image.mode == "CMYK" else "x.png")
    image.save(path)
    assert read_image(path, 4, mode).shape == (1 if mode == "L" else 3, 4, 4)


def test_of_16_bits_the_higher_8_count(tmp_path: Path) -> None:
    Image.fromarray(numpy.full((4, 4), 0x7FFF, "u2")).save(tmp_path / "x.png")
    assert (read_image(tmp_path / "x.png", 4, "L") == 0x7F).all()


# What a user can get wrong.


def mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> str:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        split(source(Path("photos"), **settings))
    return str(caught.value)


@pytest.mark.parametrize("limit", [2**31, 0], ids=["in memory", "lazy"])
@pytest.mark.parametrize("content", [b"", b"no image", None], ids=["empty", "text", "torn"])
def test_a_corrupt_image_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, limit: int
) -> None:
    path = folder(tmp_path)
    for torn in path.rglob("*.png"):  # whichever part they fall into
        torn.write_bytes(torn.read_bytes()[:-60] if content is None else content)
    said = mistake(tmp_path, monkeypatch, in_memory_limit=limit)
    assert re.fullmatch(r"data.path: photos/\w+/\d+a.png is no image that can be read \(.+\); mend or remove it", said)


@pytest.mark.parametrize(
    ("classes", "settings", "message"),
    [
        (
            {"cat": 5, "dog": 2},
            {},
            "data.path: class dog has 2 samples, and each part of the data needs one; "
            "give at least 3, or leave the class out",
        ),
        ({"cat": 5}, {}, "data.path: there is one class only (cat); give samples of two or more"),
        (
            {"train": 4, "test": 4},
            {},
            "data.path: the folders of photos are parts (test, train), not classes; "
            "give one of them: data.path=photos/test",
        ),
        ({"a": 3, "b": 3}, {"channels": 2}, "data.channels: 2 is not right here; give 3 for colour, 1 for grey"),
        (
            {"a": 3, "b": 3},
            {"task": "regression"},
            "data.task: regression is no task of images in folders; give binary or multiclass",
        ),
        ({"a": 3, "b": 3, "c": 3}, {"task": "binary"}, "data.task: binary has two classes, and photos 3; leave it out"),
    ],
)
def test_mistakes_are_one_line_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, classes: dict[str, int], settings: dict[str, Any], message: str
) -> None:
    folder(tmp_path, classes)
    assert mistake(tmp_path, monkeypatch, **settings) == message


def test_a_folder_without_images_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photos").mkdir()
    expected = "data.path: photos has no folders; give a folder with a folder for each class"
    assert mistake(tmp_path, monkeypatch) == expected
    (tmp_path / "photos" / "cat").mkdir()
    (tmp_path / "photos" / "cat" / "notes.txt").write_text("none yet")
    expected = "data.path: there is no image in the folders of photos; give a folder of images"
    assert mistake(tmp_path, monkeypatch) == expected


def test_what_is_no_image_by_its_name_is_left_alone(tmp_path: Path) -> None:
    path = folder(tmp_path)
    before = len(split(source(path)).train)
    (path / "cat" / "notes.txt").write_text("nice ones")
    (path / "cat" / ".hidden.png").write_bytes(b"")
    (path / ".cache").mkdir()
    picture(path / "cat" / "older" / "deep.png", numpy.zeros((5, 5, 3)))
    assert len(source(path).load().target) == 21
    assert before == 12
