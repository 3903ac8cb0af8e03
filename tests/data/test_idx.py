from __future__ import annotations

import gzip
import re
import struct
from collections import Counter
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

from autotune.data import cache
from autotune.data.idx import Idx
from autotune.data.source import LazyPart, Part, held_out, split
from autotune.errors import UserError


def idx(numbers: numpy.ndarray) -> bytes:
    """As LeCun's page describes the format: two zeros, type 8 (unsigned byte), the dimensions, the numbers."""
    return struct.pack(f">HBB{numbers.ndim}I", 0, 8, numbers.ndim, *numbers.shape) + numbers.astype("u1").tobytes()


def images(samples: int, seed: int) -> numpy.ndarray:
    return numpy.random.default_rng(seed).integers(0, 256, (samples, 4, 5), "u1")


def folder(tmp_path: Path, packed: bool = False, train: int = 40, test: int = 20, **instead: bytes | None) -> Path:
    """A folder in MNIST's format, two classes in turn; `instead` replaces or leaves out files."""
    made = tmp_path / "idx"
    made.mkdir(exist_ok=True)
    for name, samples, seed in (("train", train, 0), ("t10k", test, 1)):
        contents = {
            f"{name}-images-idx3-ubyte": idx(images(samples, seed)),
            f"{name}-labels-idx1-ubyte": idx(numpy.arange(samples) % 2),
        }
        for file, content in contents.items():
            kept = instead.get(file.replace("-", "_"), content)
            if kept is not None:
                path = made / (f"{file}.gz" if packed else file)
                path.write_bytes(gzip.compress(kept) if packed else kept)
    return made


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = tmp_path / "temporary"
    made.mkdir()
    monkeypatch.setattr(cache.tempfile, "tempdir", str(made))
    return made


def source(path: Path, **settings: Any) -> Idx:
    return Idx(path=str(path), **settings)


def features(part: Part | LazyPart) -> torch.Tensor:
    return part.features if isinstance(part, Part) else part.read(numpy.arange(len(part)))


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzipped"])
@pytest.mark.parametrize("limit", [2**31, 0], ids=["in memory", "lazy"])
def test_images_are_those_of_the_files(tmp_path: Path, packed: bool, limit: int) -> None:
    made = split(source(folder(tmp_path, packed), in_memory_limit=limit))
    test = held_out(source(tmp_path / "idx", in_memory_limit=limit))
    assert isinstance(made.train, LazyPart if limit == 0 else Part)
    assert (len(made.train), len(made.val), len(test)) == (32, 8, 20)
    assert made.input_shape == (1, 4, 5)
    assert (made.task, made.outputs, made.class_names) == ("multiclass", 2, ("0", "1"))
    together = torch.cat([features(made.train), features(made.val)])
    raw = torch.tensor(images(40, 0), dtype=torch.float32)[:, None]
    expected = {row.numpy().tobytes() for row in made.preprocess(raw)}
    assert {row.numpy().tobytes() for row in together} == expected
    assert torch.equal(features(test), made.preprocess(torch.tensor(images(20, 1), dtype=torch.float32)[:, None]))
    assert test.target.tolist() == [0, 1] * 10


def test_all_pixels_share_the_mean_and_spread_of_the_training_part(tmp_path: Path) -> None:
    made = split(source(folder(tmp_path)))
    train = features(made.train)
    assert float(train.mean()) == pytest.approx(0.0, abs=1e-5)
    assert float(train.std(correction=0)) == pytest.approx(1.0, abs=1e-5)
    assert made.preprocess.mean.ndim == 0  # type: ignore[union-attr]


def test_validation_has_its_share_of_each_class(tmp_path: Path) -> None:
    made = split(source(folder(tmp_path), validation=0.25))
    assert Counter(made.val.target.tolist()) == {0: 5, 1: 5}
    both = split(source(folder(tmp_path), validation=0.25), "train+val")
    assert (len(both.train), len(both.val)) == (40, 0)


@pytest.mark.parametrize("limit", [2**31, 0], ids=["in memory", "lazy"])
def test_a_limit_takes_so_many_of_each_class_s_share(tmp_path: Path, limit: int) -> None:
    path = folder(tmp_path)
    made = split(source(path, limit=10, in_memory_limit=limit))
    assert Counter([*made.train.target.tolist(), *made.val.target.tolist()]) == {0: 5, 1: 5}
    assert len(held_out(source(path, limit=10, in_memory_limit=limit))) == 20
    assert torch.equal(features(made.train), features(split(source(path, limit=10)).train))
    assert not torch.equal(features(made.train), features(split(source(path, limit=10, seed=1)).train))
    assert len(split(source(path, limit=999)).train) == 32


def test_the_memory_that_counts_is_that_of_the_pixels_used(tmp_path: Path) -> None:
    path = folder(tmp_path)
    as_floats = 4 * 40 * 4 * 5
    assert isinstance(split(source(path, in_memory_limit=as_floats)).train, Part)
    assert isinstance(split(source(path, in_memory_limit=as_floats - 1)).train, LazyPart)
    assert isinstance(split(source(path, in_memory_limit=as_floats - 1, limit=20)).train, Part)


def test_files_may_be_called_as_those_of_emnist(tmp_path: Path) -> None:
    path = folder(tmp_path)
    for file in list(path.iterdir()):
        file.rename(path / f"emnist-letters-{file.name.replace('t10k', 'test')}")
    assert len(split(source(path)).train) == 32


TRAIN = "train_images_idx3_ubyte"


@pytest.mark.parametrize(
    ("instead", "message"),
    [
        (
            {"t10k_labels_idx1_ubyte": None},
            "data.path: idx has no t10k-labels-idx1-ubyte, gzipped or not; give a folder in MNIST's format",
        ),
        (
            {TRAIN: b"\x89PNG\r\n\x1a\n" + bytes(20)},
            "data.path: idx/train-images-idx3-ubyte is no IDX file of bytes in 3 dimensions; "
            "give a folder in MNIST's format",
        ),
        (
            {TRAIN: b""},
            "data.path: idx/train-images-idx3-ubyte is no IDX file of bytes in 3 dimensions; "
            "give a folder in MNIST's format",
        ),
        (
            {TRAIN: idx(images(40, 0))[:-3]},
            "data.path: idx/train-images-idx3-ubyte has 797 numbers where its beginning says 800; get the file again",
        ),
        (
            {TRAIN: idx(images(39, 0))},
            "data.path: idx/train-images-idx3-ubyte has 39 images and idx/train-labels-idx1-ubyte has 40 labels; "
            "give files that belong together",
        ),
        (
            {TRAIN: idx(numpy.zeros((0, 4, 5)))},
            "data.path: idx/train-images-idx3-ubyte is empty; give a folder in MNIST's format",
        ),
        (
            {"train_labels_idx1_ubyte": idx(numpy.zeros(40))},
            "data.path: there is one class only (0); give samples of two or more",
        ),
    ],
)
def test_files_that_are_not_right_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, instead: dict[str, bytes | None], message: str
) -> None:
    folder(tmp_path, **instead)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        split(source(Path("idx")))


@pytest.mark.parametrize("limit", [2**31, 0], ids=["in memory", "lazy"])
def test_a_torn_archive_is_named(tmp_path: Path, limit: int) -> None:
    path = folder(tmp_path, packed=True)
    torn = path / "train-images-idx3-ubyte.gz"
    torn.write_bytes(torn.read_bytes()[:-40])
    with pytest.raises(UserError, match=r"^data.path: .*train-images-idx3-ubyte.gz cannot be unpacked \(.*\); get"):
        split(source(path, in_memory_limit=limit))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"limit": 1}, "data.limit: 1 samples cannot be chosen ("),
        ({"test": 0.3}, "data.test: idx has a test part of its own; leave it out"),
        ({"path": "nowhere"}, "data.path: there is no folder nowhere; give one that is there"),
        ({"path": "idy"}, "data.path: there is no folder idy; did you mean idx?"),
        ({"path": "idx/t10k-labels-idx1-ubyte"}, "data.path: idx/t10k-labels-idx1-ubyte is a file; give the path of a"),
    ],
)
def test_settings_that_are_not_right_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], message: str
) -> None:
    folder(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        split(Idx(**{"path": "idx", **settings}))


def test_two_files_of_one_kind_are_refused(tmp_path: Path) -> None:
    path = folder(tmp_path)
    (path / "emnist-train-images-idx3-ubyte").write_bytes(b"")
    with pytest.raises(UserError, match=r"several files of that kind \(emnist-train-images-idx3-ubyte, train-images"):
        source(path)
