"""A trial's state between two epochs, in a file: written whole, and refused where it is not what was written.

The file begins with what it is, its format, its length and the SHA-256 of all that follows: a line of JSON that says
what the state belongs to, and the state as `torch.save` writes it. Nothing of it is read before the digest is right,
and the state is read with ``weights_only=True``, which makes no objects and calls nothing.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import math
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import nn
from torch.nn.parameter import is_lazy

from autotune import __version__
from autotune.errors import UserError, first_line
from autotune.kept.whole import write_whole
from autotune.settings import LARGEST
from autotune.trial import Epoch, Trial, add_epoch

_log = logging.getLogger(__name__)

MAGIC = b"autotune checkpoint\n"
FORMAT = 1
_FRONT = struct.Struct("<20sIQ32s")  # MAGIC, FORMAT, the bytes and the SHA-256 of what follows
_VERSIONS = f"autotune {__version__}, torch {torch.__version__}, lightning {lightning.__version__}"


class Refused(Exception):  # noqa: N818 - it says what is wrong with a file, or with a state
    """A checkpoint is not written, or not taken up; says why."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a state belongs to.

    Attributes:
        trial: Which trial, as its file is named: the number, of a confirmation the seed too.
        config: The SHA-256 of its resolved config.
        model: For each parameter and buffer of its module, as it was built, the name to the shape and the dtype.
        trained_by: What trains it, and on which kind of device.
        versions: Of what the numbers of a training depend on.
    """

    trial: str
    config: str
    model: Mapping[str, str]
    trained_by: str
    versions: str = _VERSIONS

    @classmethod
    def of(cls, trial: Trial, module: nn.Module, trained_by: str) -> Identity:
        """The identity of a trial's state."""
        assert trial.checkpoint is not None
        config = json.dumps(trial.config, sort_keys=True, default=str)
        tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        model = {name: _described(tensor) for name, tensor in tensors.items()}
        return cls(trial.checkpoint.stem, hashlib.sha256(config.encode()).hexdigest(), model, trained_by)

    def check(self, found: Mapping[str, Any]) -> None:
        """Compare with what a file says.

        Raises:
            Refused: It belongs to something else.
        """
        if found.get("versions") != self.versions:
            raise Refused(f"was written by {found.get('versions')}, and this is {self.versions}")
        if found.get("trial") != self.trial:
            raise Refused(f"is of trial {found.get('trial')}")
        if found.get("config") != self.config:
            raise Refused("is of another config")
        if found.get("trained_by") != self.trained_by:
            raise Refused(f"was written by {found.get('trained_by')}, and this is {self.trained_by}")
        model = found.get("model", {})
        for name in {**self.model, **model}:
            was, now = model.get(name, "not there"), self.model.get(name, "not there")
            if was != now:
                raise Refused(f"is of another model: {name} was {was} and is {now}")


def _described(tensor: torch.Tensor) -> str:
    shape = "?" if is_lazy(tensor) else list(tensor.shape)
    return f"{shape} {str(tensor.dtype).removeprefix('torch.')}"


def write(path: Path, state: Mapping[str, Any], identity: Identity, is_tried: bool = True) -> None:
    """Write a state to its file, in place of what is there, and wait until the disk has it.

    Args:
        path: The file; its folder is made where it is missing.
        state: Tensors, plain values and containers of them.
        identity: What it belongs to.
        is_tried: Whether a state of its kind was read back before.

    Raises:
        Refused: It holds what cannot be read back.
        OSError: The disk does not take it.
    """
    buffer = io.BytesIO()
    buffer.write(bytes(_FRONT.size))
    buffer.write(json.dumps(asdict(identity)).encode() + b"\n")
    begins = buffer.tell()
    try:
        torch.save(state, buffer)
        if not is_tried:
            torch.load(io.BytesIO(buffer.getbuffer()[begins:]), weights_only=True)
    except Exception as error:  # pickle's, and whatever the state's own objects raise
        raise Refused(f"its state cannot be read back ({first_line(error)})") from error
    content = buffer.getbuffer()
    body = content[_FRONT.size :]
    _FRONT.pack_into(content, 0, MAGIC, FORMAT, len(body), hashlib.sha256(body).digest())
    path.parent.mkdir(exist_ok=True)
    write_whole(path, content)


def read(path: Path, identity: Identity) -> dict[str, Any]:
    """The state in a file, its tensors on the CPU.

    Args:
        path: The file.
        identity: What the state must belong to.

    Raises:
        FileNotFoundError: There is no file.
        Refused: It is not what was written, or belongs to something else.
    """
    try:
        content = memoryview(path.read_bytes())
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Refused(f"cannot be read ({first_line(error)})") from error
    if content[: len(MAGIC)] != MAGIC[: len(content)] or not content:
        raise Refused("is no checkpoint")
    if len(content) < _FRONT.size:
        raise Refused("is cut off")
    _, version, length, digest = _FRONT.unpack_from(content)
    body = content[_FRONT.size :]
    if version != FORMAT:
        raise Refused(f"has format {version}, and this version reads format {FORMAT}")
    if len(body) < length:
        raise Refused(f"is cut off: {len(body)} of {length} bytes are there")
    if len(body) > length or hashlib.sha256(body).digest() != digest:
        raise Refused("is damaged: its content is not what was written")
    try:
        head, _, _ = bytes(body).partition(b"\n")
        identity.check(json.loads(head))
        state: dict[str, Any] = torch.load(io.BytesIO(body[len(head) + 1 :]), map_location="cpu", weights_only=True)
    except Refused:
        raise
    except Exception as error:  # the digest is right, so whoever wrote it wrote what this does not understand
        raise Refused(f"cannot be read ({first_line(error)})") from error
    return state


def checked(seconds: Any) -> float | None:
    """``executor.checkpoint_seconds``. Raises UserError."""
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if seconds is not None and (not is_number or not 0 <= seconds <= LARGEST):
        remedy = "give a number from 0 on, or null for no checkpoints"
        raise UserError("executor.checkpoint_seconds", f"{seconds} is no number of seconds", remedy)
    return None if seconds is None else float(seconds)


class Keeper:
    """Keeps a trial's state from time to time, and finds what an earlier run kept.

    Args:
        trial: The trial, with a place for its checkpoint.
        seconds: It is kept each time it has been trained for so long.
        module: The trial's, as it is built.
        trained_by: What trains it, and on which kind of device.

    Attributes:
        path: The trial's checkpoint.
    """

    def __init__(self, trial: Trial, seconds: float, module: nn.Module, trained_by: str) -> None:
        assert trial.checkpoint is not None
        self.path = trial.checkpoint
        self._number = trial.number
        self._seconds = seconds
        self._identity = Identity.of(trial, module, trained_by)
        self._curves: dict[str, list[float]] = {}
        self._trained = 0.0
        self._is_tried = self._has_complained = False

    @classmethod
    def of(cls, trial: Trial, seconds: float | None, module: nn.Module, trained_by: str) -> Keeper | None:
        """The keeper of a trial; None where nothing is kept."""
        return None if seconds is None or trial.checkpoint is None else cls(trial, seconds, module, trained_by)

    def found(self) -> dict[str, Any] | None:
        """The state that an earlier run kept last; None where there is none that holds, which is said."""
        try:
            kept = read(self.path, self._identity)
        except FileNotFoundError:
            return None
        except Refused as why:
            _log.warning("%s", self.refusal(str(why)))
            return None
        self._curves = {name: curve.tolist() for name, curve in kept["curves"].items()}
        state: dict[str, Any] = kept["state"]
        return state

    def refusal(self, why: str) -> str:
        """What is said where the checkpoint is not gone on with."""
        return f"{self.path} {why}; trial {self.path.stem} is trained from the start"

    def goes_on(self) -> list[Epoch]:
        """Say that the trial goes on with the state found; returns what it measured until then."""
        epochs = [
            Epoch(self._number, epoch, dict(zip(self._curves, values, strict=True)))
            for epoch, values in enumerate(zip(*self._curves.values(), strict=True))
        ]
        _log.info("trial %s goes on after %d epochs, kept in %s", self.path.stem, len(epochs), self.path)
        return epochs

    def hear(self, metrics: Mapping[str, float]) -> None:
        """Hear what the next epoch measured."""
        epochs = max(map(len, self._curves.values()), default=0)
        add_epoch(self._curves, Epoch(self._number, epochs, metrics))

    def is_due(self, seconds: float) -> bool:
        """Hear that the trial was trained for some more seconds; whether it is to be kept now."""
        self._trained += seconds
        return self._trained >= self._seconds

    def keep(self, state: Mapping[str, Any]) -> None:
        """Write the state down; where that cannot be, it is said once and the training goes on."""
        self._trained = 0.0
        curves = {name: torch.tensor(values, dtype=torch.float64) for name, values in self._curves.items()}
        try:
            write(self.path, {"curves": curves, "state": state}, self._identity, self._is_tried)
            self._is_tried = True
        except (OSError, Refused) as why:
            if isinstance(why, Refused):
                self._seconds = math.inf
            if not self._has_complained:
                _log.warning("trial %s trains on without a checkpoint: %s", self.path.stem, first_line(why))
                self._has_complained = True
