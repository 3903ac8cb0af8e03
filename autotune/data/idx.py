"""Images in the format of MNIST: a folder of IDX files, gzipped or not."""

from __future__ import annotations

import gzip
import math
import shutil
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

import numpy
from sklearn.model_selection import train_test_split

from autotune.data.cache import cached
from autotune.data.files import FileSource, existing_folder
from autotune.data.preprocess import Preprocess, Standardize
from autotune.data.rows import MappedRows, Rows, SelectedRows
from autotune.data.source import Arrays
from autotune.data.target import check_classes
from autotune.errors import UserError

# What the test files are called: those of MNIST and Fashion-MNIST, those of EMNIST.
PARTS = {"train": ("train",), "test": ("t10k", "test")}
BYTES = 0x08  # the one type of number that MNIST uses
FLOAT32 = 4


@dataclass(frozen=True)
class Header:
    """The beginning of an IDX file: two zeros, the type, the number of dimensions, then each of them (LeCun)."""

    shape: tuple[int, ...]

    @property
    def length(self) -> int:
        """Bytes before the first number."""
        return 4 + 4 * len(self.shape)


@dataclass(frozen=True, kw_only=True)
class Idx(FileSource):
    """A folder with the four files of MNIST: images and labels, to train on and to test by.

    The files' own test part is the test part; validation is split off the training files.

    Args:
        limit: How many samples of the training files are used, each class by its share; None for all.
    """

    task: str = "multiclass"
    test: float = 0.0
    limit: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.test != 0:
            raise UserError("data.test", f"{self.path} has a test part of its own", "leave it out")

    @property
    def has_test(self) -> bool:
        """Always."""
        return True

    def files(self) -> Iterable[Path]:
        """The four files."""
        folder = existing_folder(self.place)
        return [_file(folder, part, kind) for part in PARTS for kind in ("images", "labels")]

    def load(self) -> Arrays:
        """Images of the training files, [n, 1, height, width] from 0 to 255, and their classes."""
        return self._load("train", self.limit)

    def load_test(self) -> Arrays:
        """Images of the test files and their classes."""
        return self._load("test", None)

    def prepare(self, arrays: Arrays, rows: numpy.ndarray) -> Preprocess:
        """All pixels share one mean and one standard deviation."""
        return Standardize.of_pixels(SelectedRows(arrays.features, rows))

    def _load(self, part: str, limit: int | None) -> Arrays:
        folder = self.place
        images, labels = (_file(folder, part, kind) for kind in ("images", "labels"))
        about, about_labels = _header(images, 3), _header(labels, 1)
        if about.shape[0] != about_labels.shape[0]:
            problem = f"{images} has {about.shape[0]} images and {labels} has {about_labels.shape[0]} labels"
            raise UserError("data.path", problem, "give files that belong together")
        target = _numbers(labels, about_labels).astype(numpy.int64)
        names = tuple(str(label) for label in range(int(target.max()) + 1))
        if part == "train":
            check_classes("data.path", target, names)
        kept = None if limit is None or limit >= len(target) else self._some(target, limit)
        samples = len(target) if kept is None else len(kept)
        lazy = FLOAT32 * samples * math.prod(about.shape[1:]) > self.in_memory_limit
        rows = self._mapped(images, about) if lazy else _numbers(images, about)[:, None]
        if kept is not None:
            rows, target = SelectedRows(rows, kept) if lazy else rows[kept], target[kept]
        return Arrays(rows, target, names, lazy=lazy)

    def _some(self, target: numpy.ndarray, limit: int) -> numpy.ndarray:
        try:
            kept, _ = train_test_split(
                numpy.arange(len(target)), train_size=limit, random_state=self.seed, stratify=target
            )
        except ValueError as error:
            said = " ".join(str(error).split())
            raise UserError("data.limit", f"{limit} samples cannot be chosen ({said})", "give more") from error
        return numpy.sort(kept)

    def _mapped(self, images: Path, about: Header) -> Rows:
        """The images in their file; a gzipped one is unpacked beside the system's other temporary files first."""
        shape = (about.shape[0], 1, *about.shape[1:])
        if not _is_gzipped(images):
            _check_length(images, images.stat().st_size - about.length, about)
            return MappedRows(images, "u1", shape, about.length)

        def unpack(folder: Path) -> None:
            with _opened(images) as packed, (folder / "images").open("wb") as file:
                shutil.copyfileobj(packed, file, 1 << 20)

        stamp = [each for each in self.stamp if each[0] == str(images.absolute())]
        unpacked = cached(images, stamp, "idx", unpack) / "images"
        _check_length(images, unpacked.stat().st_size - about.length, about)
        return MappedRows(unpacked, "u1", shape, about.length)


def _file(folder: Path, part: str, kind: str) -> Path:
    """The folder's one file of a part's images or labels, gzipped or not."""
    dimensions = {"images": 3, "labels": 1}[kind]
    found = sorted(
        file
        for name in PARTS[part]
        for mark in "-."
        for packed in ("", ".gz")
        for file in folder.glob(f"*{name}-{kind}{mark}idx{dimensions}-ubyte{packed}")
    )
    wanted = f"{PARTS[part][0]}-{kind}-idx{dimensions}-ubyte"
    if not found:
        raise UserError("data.path", f"{folder} has no {wanted}, gzipped or not", "give a folder in MNIST's format")
    if len({file.name.removesuffix(".gz") for file in found}) > 1:
        names = ", ".join(file.name for file in found)
        raise UserError(
            "data.path", f"{folder} has several files of that kind ({names})", "give a folder of one data set"
        )
    return found[0]


def _is_gzipped(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(2) == b"\x1f\x8b"


def _header(file: Path, dimensions: int) -> Header:
    start = _read(file, 4 + 4 * dimensions)
    if start[:4] != bytes((0, 0, BYTES, dimensions)) or len(start) < 4 + 4 * dimensions:
        problem = f"{file} is no IDX file of bytes in {dimensions} dimension{'s' if dimensions > 1 else ''}"
        raise UserError("data.path", problem, "give a folder in MNIST's format")
    shape = struct.unpack(f">{dimensions}I", start[4:])
    if 0 in shape:
        raise UserError("data.path", f"{file} is empty", "give a folder in MNIST's format")
    return Header(shape)


def _numbers(file: Path, about: Header) -> numpy.ndarray:
    content = _read(file, None)[about.length :]
    _check_length(file, len(content), about)
    return numpy.frombuffer(content, numpy.uint8).reshape(about.shape)


def _check_length(file: Path, length: int, about: Header) -> None:
    if length != math.prod(about.shape):
        problem = f"{file} has {length} numbers where its beginning says {math.prod(about.shape)}"
        raise UserError("data.path", problem, "get the file again")


def _read(file: Path, length: int | None) -> bytes:
    with _opened(file) as opened:
        return opened.read(-1 if length is None else length)


@contextmanager
def _opened(file: Path) -> Iterator[gzip.GzipFile | BufferedReader]:
    """A file's content, unpacked."""
    try:
        with gzip.open(file) if _is_gzipped(file) else file.open("rb") as opened:
            yield opened
    except (OSError, EOFError, zlib.error) as error:
        raise UserError("data.path", f"{file} cannot be unpacked ({error})", "get the file again") from error
