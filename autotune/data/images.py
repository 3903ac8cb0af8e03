"""Images in a folder for each class, read by Pillow."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
from PIL import Image, ImageOps

from autotune.data.files import FileSource, existing_folder
from autotune.data.preprocess import Preprocess, Standardize
from autotune.data.rows import SelectedRows
from autotune.data.source import Arrays
from autotune.data.target import check_classes
from autotune.errors import UserError

_log = logging.getLogger(__name__)

TASKS = ("binary", "multiclass")
MODES = {1: "L", 3: "RGB"}
FOR_PIXELS = 10_000  # images of the training part, which a split has shuffled, that the pixels' mean is taken of
FLOAT32 = 4

# Folders of these names are parts of a data set, not classes of it.
PARTS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing"})


@dataclass(frozen=True, kw_only=True)
class Images(FileSource):
    """A folder with a folder of images for each class; a class is called as its folder.

    Args:
        task: binary or multiclass; None goes by the number of classes.
        size: Height and width that all are brought to: the shorter side is resized to it, the longer one cut at both
            ends.
        channels: 3 for colour, 1 for grey.
    """

    task: str | None = None
    size: int = 32
    channels: int = 3

    def __post_init__(self) -> None:
        if self.channels not in MODES:
            raise UserError("data.channels", f"{self.channels} is not right here", "give 3 for colour, 1 for grey")
        if self.task not in (None, *TASKS):
            raise UserError("data.task", f"{self.task} is no task of images in folders", f"give {' or '.join(TASKS)}")
        super().__post_init__()

    def classes(self) -> list[str]:
        """The names of the classes: the folders that are not hidden."""
        folder = existing_folder(self.place)
        names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
        if not names:
            raise UserError("data.path", f"{folder} has no folders", "give a folder with a folder for each class")
        if set(map(str.lower, names)) <= PARTS:
            problem = f"the folders of {folder} are parts ({', '.join(names)}), not classes"
            raise UserError("data.path", problem, f"give one of them: data.path={folder / names[0]}")
        return names

    def files(self) -> Iterable[Path]:
        """The images of all classes."""
        return [file for name in self.classes() for file in _images(self.place / name)]

    def load(self) -> Arrays:
        """Images [n, channels, size, size] from 0 to 255, and their classes."""
        names, paths, classes = self.classes(), [], []
        for number, name in enumerate(names):
            found = list(_images(self.place / name))
            paths += found
            classes += [number] * len(found)
        target = numpy.array(classes, numpy.int64)
        if not paths:
            raise UserError("data.path", f"there is no image in the folders of {self.path}", "give a folder of images")
        check_classes("data.path", target, names)
        images = ImageFiles(paths, self.size, self.channels)
        task = self.task or ("binary" if len(names) == 2 else "multiclass")
        if task == "binary" and len(names) != 2:
            raise UserError("data.task", f"binary has two classes, and {self.path} {len(names)}", "leave it out")
        lazy = FLOAT32 * len(paths) * self.channels * self.size**2 > self.in_memory_limit
        _log.info("data: %d images in %d classes", len(paths), len(names))
        return Arrays(images if lazy else images[:], target, tuple(names), task, lazy)

    def prepare(self, arrays: Arrays, rows: numpy.ndarray) -> Preprocess:
        """All pixels share one mean and one standard deviation."""
        return Standardize.of_pixels(SelectedRows(arrays.features, rows[:FOR_PIXELS]))


class ImageFiles:
    """Images in their files, brought to one size when they are asked for.

    Args:
        paths: Of the files.
        size: Height and width.
        channels: 1 or 3.
    """

    def __init__(self, paths: Sequence[Path], size: int, channels: int) -> None:
        self.shape = (len(paths), channels, size, size)
        self._paths = numpy.array([str(path) for path in paths])
        self._size = size
        self._mode = MODES[channels]

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, rows: Any, /) -> numpy.ndarray:
        paths = self._paths[rows]
        pixels = numpy.empty((len(paths), *self.shape[1:]), numpy.uint8)
        for at, path in enumerate(paths):
            pixels[at] = read_image(Path(path), self._size, self._mode)
        return pixels


def read_image(path: Path, size: int, mode: str) -> numpy.ndarray:
    """An image of one size, [channels, size, size] from 0 to 255.

    Args:
        path: The file.
        size: Height and width.
        mode: Of Pillow: ``L`` or ``RGB``.

    Raises:
        UserError: It cannot be read.
    """
    try:
        with Image.open(path) as opened:
            upright = ImageOps.exif_transpose(opened)
            if upright.mode.startswith("I"):  # 16 bits a pixel, which Pillow would cut off at 255
                upright = Image.fromarray((numpy.asarray(upright) >> 8).astype(numpy.uint8))
            fitted = ImageOps.fit(upright.convert(mode), (size, size), Image.Resampling.BILINEAR)
    except Exception as error:  # what is wrong in a file can come up as any error of Pillow's parts
        said = " ".join(str(error).split())
        raise UserError("data.path", f"{path} is no image that can be read ({said})", "mend or remove it") from error
    pixels = numpy.asarray(fitted)
    return pixels[None] if mode == "L" else pixels.transpose(2, 0, 1)


def _images(folder: Path) -> Iterator[Path]:
    """The images in a folder and the folders in it, by their names' endings."""
    endings = Image.registered_extensions()
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in endings and not path.name.startswith(".") and path.is_file():
            yield path
