"""The logger of a user's module: `self.logger`, in the place of TensorBoard's or MLflow's.

It keeps what it is given until its executor takes it along with an epoch, so that logging waits for nobody.
"""

from __future__ import annotations

import logging
import re
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy
import torch
from lightning.pytorch.loggers import Logger
from PIL import Image
from torch import Tensor

from autotune.errors import first_line
from autotune.trial import Logged, LoggedValue

_log = logging.getLogger(__name__)

# Of each metric so many values an epoch, at equal distances where there are more; of a trial so many in all.
VALUES_AN_EPOCH = 100
VALUES_A_TRIAL = 20_000
# The newest of each name.
PICTURES = 10
HYPERPARAMETERS = 200

# What a metric of an epoch is called where the module also logs it within epochs.
BY_STEP = "steps"
# Lightning puts it beside whatever it logs.
EPOCH = "epoch"


class TrialLogger(Logger):
    """Takes what a module logs; `take` hands it on.

    Args:
        folder: Where pictures are written; made with the first. None leaves pictures out.
    """

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__()
        self._folder = folder
        self._values: dict[str, _Thinned] = defaultdict(_Thinned)
        self._hyperparameters: dict[str, str] = {}
        self._pictures: dict[str, deque[Path]] = defaultdict(deque)
        self._room = VALUES_A_TRIAL
        self._step = 0
        self._said: set[str] = set()
        self._experiment = Experiment(self)

    @property
    def name(self) -> str:
        """Empty, so that Lightning puts no folder of that name into `save_dir`."""
        return ""

    @property
    def version(self) -> str:
        """Empty, as `name` is."""
        return ""

    @property
    def save_dir(self) -> str | None:
        """The trial's folder, where a ModelCheckpoint writes if it has no folder of its own."""
        return None if self._folder is None else str(self._folder)

    @property
    def experiment(self) -> Experiment:
        """Takes the calls that TensorBoard's writer takes."""
        return self._experiment

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Take numbers; what is none is left out."""
        self._step = self._step if step is None else int(step)
        now = time.time_ns() // 1_000_000
        for name, value in metrics.items():
            if name == EPOCH:
                continue
            try:
                number = float(value)
            except (TypeError, ValueError, RuntimeError):  # a text, a tensor of several numbers
                self.leave_out(f"{name}, which is no number")
                continue
            self._values[str(name)].add(LoggedValue(str(name), number, self._step, now))

    def log_hyperparams(self, params: Any, *_: Any, **__: Any) -> None:
        """Take hyperparameters, those within others by the names of both."""
        for name, value in _leaves(params if isinstance(params, Mapping) else vars(params), ""):
            if len(self._hyperparameters) < HYPERPARAMETERS:
                self._hyperparameters[name] = value

    def take(self, of_epoch: Iterable[str]) -> Logged:
        """What was logged since it was last taken.

        Args:
            of_epoch: The metrics that are known of the epoch by themselves. What has one value since is that very
                metric; what has several is also logged by step, or by several validations in an epoch.
        """
        known = set(of_epoch)
        values: list[LoggedValue] = []
        for name, thinned in self._values.items():
            if name not in known:
                values += thinned.values
            elif len(thinned.values) > 1:
                values += (
                    LoggedValue(f"{BY_STEP}/{name}", each.value, each.step, each.time) for each in thinned.values
                )
        self._values.clear()
        if len(values) > self._room:
            self.leave_out(f"what is more than {VALUES_A_TRIAL:,} values of a trial")
        kept = tuple(sorted(values, key=lambda each: each.time)[: self._room])
        self._room -= len(kept)
        hyperparameters, self._hyperparameters = self._hyperparameters, {}
        files = {f"images/{name}/{path.name}": path for name, paths in self._pictures.items() for path in paths}
        return Logged(kept, hyperparameters, files)

    def keep_picture(self, name: str, step: int | None, write: Callable[[Path], object]) -> None:
        """Have a picture written into the trial's folder, in the place of the oldest of its name.

        Args:
            name: Slashes make folders of it.
            step: It is called by.
            write: Given the file.
        """
        if self._folder is None:
            return
        plain = "/".join(part for part in re.sub(r"[^\w/ .-]", "_", name).split("/") if part.strip(". ")) or "image"
        path = self._folder / "images" / plain / f"{self._step if step is None else int(step)}.png"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write(path)
        except Exception as error:  # a full disk, or no picture: training goes on
            self.leave_out(f"the picture {name} ({first_line(error)})")
            return
        pictures = self._pictures[plain]
        if path not in pictures:
            pictures.append(path)
        if len(pictures) > PICTURES:
            pictures.popleft().unlink(missing_ok=True)

    def leave_out(self, what: str) -> None:
        """Say once that something is not logged."""
        if what not in self._said:
            self._said.add(what)
            _log.debug("self.logger leaves out %s", what)

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("log_"):
            raise AttributeError(f"{type(self).__name__} has no {name}")
        return self._left_out(f"self.logger.{name}")

    def _left_out(self, call: str) -> Callable[..., None]:
        """What another kind of logger has, and this one takes for nothing."""

        def leave_out(*_: Any, **__: Any) -> None:
            self.leave_out(call)

        return leave_out


class Experiment:
    """Takes the calls of TensorBoard's writer, and wandb's `log`: numbers and pictures are kept, all else left out.

    Args:
        logger: Keeps them.
    """

    def __init__(self, logger: TrialLogger) -> None:
        self._logger = logger

    def add_scalar(self, tag: str, scalar_value: Any, global_step: int | None = None, *_: Any, **__: Any) -> None:
        """Keep a number."""
        self._logger.log_metrics({tag: scalar_value}, global_step)

    def add_scalars(
        self, main_tag: str, tag_scalar_dict: Mapping[str, Any], global_step: int | None = None, *_: Any, **__: Any
    ) -> None:
        """Keep several numbers."""
        named = {f"{main_tag}/{name}": value for name, value in tag_scalar_dict.items()}
        self._logger.log_metrics(named, global_step)

    def log(self, data: Mapping[str, Any], step: int | None = None, *_: Any, **__: Any) -> None:
        """Keep the numbers of what is given."""
        self._logger.log_metrics(data, step)

    def add_image(
        self,
        tag: str,
        img_tensor: Any,
        global_step: int | None = None,
        walltime: float | None = None,
        dataformats: str = "CHW",
    ) -> None:
        """Keep a picture: floats from 0 to 1, or bytes."""
        self._logger.keep_picture(tag, global_step, lambda path: picture(img_tensor, dataformats).save(path))

    def add_images(
        self,
        tag: str,
        img_tensor: Any,
        global_step: int | None = None,
        walltime: float | None = None,
        dataformats: str = "NCHW",
    ) -> None:
        """Keep several pictures, side by side in one."""
        self._logger.keep_picture(tag, global_step, lambda path: picture(img_tensor, dataformats).save(path))

    def add_figure(self, tag: str, figure: Any, global_step: int | None = None, *_: Any, **__: Any) -> None:
        """Keep what matplotlib drew."""
        self._logger.keep_picture(tag, global_step, figure.savefig)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)

        def leave_out(*_: Any, **__: Any) -> None:
            self._logger.leave_out(f"self.logger.experiment.{name}")

        return leave_out


class _Thinned:
    """The values of a metric, every second of them dropped whenever they are too many."""

    def __init__(self) -> None:
        self.values: list[LoggedValue] = []
        self._every, self._heard = 1, 0

    def add(self, value: LoggedValue) -> None:
        if self._heard % self._every == 0:
            self.values.append(value)
        self._heard += 1
        if len(self.values) > VALUES_AN_EPOCH:
            del self.values[1::2]
            self._every *= 2


def picture(pixels: Any, axes: str) -> Image.Image:
    """A picture of an array.

    Args:
        pixels: Floats from 0 to 1, or bytes.
        axes: What its axes are: some order of H, W, C and, for several side by side, N.
    """
    array = pixels.detach().float().cpu() if isinstance(pixels, Tensor) and pixels.is_floating_point() else pixels
    tensor = torch.as_tensor(numpy.asarray(array))
    if sorted(axes) == sorted("NCHW"):
        tensor = tensor.permute([axes.index(axis) for axis in "CHNW"]).flatten(2)
    elif sorted(axes) == sorted("CHW"):
        tensor = tensor.permute([axes.index(axis) for axis in "CHW"])
    else:
        tensor = tensor.permute([axes.index(axis) for axis in "HW"])[None]
    if tensor.is_floating_point():
        tensor = (tensor.nan_to_num() * 255).clamp(0, 255)
    found = tensor.to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    return Image.fromarray(found[:, :, 0] if found.shape[2] == 1 else found)


def _leaves(node: Any, name: str) -> Iterable[tuple[str, str]]:
    """The values of nested mappings as text; of what is no plain value, the kind."""
    if isinstance(node, Mapping):
        for last, inner in node.items():
            yield from _leaves(inner, f"{name}/{last}" if name else str(last))
    else:
        yield name, str(node) if _is_plain(node) else type(node).__name__


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float | Path)
