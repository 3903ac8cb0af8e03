"""What a model costs: time, memory and size, measured while and after it trains."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, nn

from autotune.allocator import give_back
from autotune.device import synchronize
from autotune.learner import Learner
from autotune.logs import measuring

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
LATENCY_SECONDS = 0.02  # how long each latency is measured at least twice within


class CostMeter(Callback):
    """Measures a training; `cost` says what it found.

    Args:
        samples: Training samples of an epoch; None where they are counted batch by batch.
    """

    def __init__(self, samples: int | None) -> None:
        self._samples = samples
        self._counted = 0
        self._epoch_seconds: list[float] = []
        self._validation_seconds = 0.0
        self._memory: PeakMemory | None = None
        self._calls: StepCalls | None = None

    @measuring("cost/peak_memory_bytes")
    def on_fit_start(self, trainer: Trainer, _: LightningModule) -> None:
        """Start from the memory in use now."""
        self._device = trainer.strategy.root_device
        self._memory = PeakMemory(self._device)

    def on_train_epoch_start(self, *_: Any) -> None:
        """Start the clock."""
        self._counted = 0
        self._validation_seconds = 0.0
        self._started = self._now()

    @measuring("cost/samples_per_second")
    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        """Count the samples of the user's own batches."""
        if self._samples is None:
            self._counted += _length(batch)

    def on_validation_start(self, *_: Any) -> None:
        """Validation is no training."""
        self._validation_started = self._now()

    @measuring("cost/latency_batch_seconds")
    def on_validation_batch_start(self, trainer: Trainer, module: LightningModule, batch: Any, *_: Any) -> None:
        """Record the forward passes of one step, to measure latency on."""
        if self._calls is None:
            self._calls = StepCalls(module, _length(batch), trainer.precision_plugin.val_step_context)

    @measuring("cost/latency_batch_seconds")
    def on_validation_batch_end(self, *_: Any) -> None:
        """One step is enough."""
        if self._calls is not None:
            self._calls.stop()

    def on_validation_end(self, *_: Any) -> None:
        """Validation is no training."""
        self._validation_seconds += self._now() - self._validation_started

    @measuring("cost/peak_memory_bytes")
    def on_train_epoch_end(self, *_: Any) -> None:
        """Stop the clock."""
        self._epoch_seconds.append(self._now() - self._started - self._validation_seconds)
        if self._memory is not None:
            self._memory.sample()

    def _now(self) -> float:
        """The time at which the device has done what it was given."""
        synchronize(self._device)
        return time.perf_counter()

    def cost(self, module: LightningModule, batch_size: int | None) -> dict[str, float]:
        """What was found; what could not be measured is left out.

        Args:
            module: The trained module.
            batch_size: Samples in the batch that latency is measured on; None for a whole validation batch.

        Returns:
            ``cost/epoch_seconds`` (median over the epochs, validation left out), ``cost/samples_per_second``,
            ``cost/latency_batch_seconds`` and ``cost/latency_sample_seconds`` (the forward passes that a validation
            step makes, of a batch and of a single sample), ``cost/peak_memory_bytes`` (device memory on CUDA, growth of
            the resident set elsewhere), ``cost/parameters``, ``cost/model_bytes`` (parameters and buffers).
        """
        found: dict[str, float] = {}
        with measuring("cost/parameters"):
            # A learner that averages its weights has them twice; the model is what is judged and kept.
            found |= size(module.judged_network if isinstance(module, Learner) else module)
        with measuring("cost/peak_memory_bytes"):
            if self._memory is not None:
                found["cost/peak_memory_bytes"] = float(self._memory.peak())
        if self._epoch_seconds:
            seconds = median(self._epoch_seconds)
            found["cost/epoch_seconds"] = seconds
            samples = self._samples or self._counted
            found |= {"cost/samples_per_second": samples / seconds} if samples else {}
        with measuring("cost/latency_batch_seconds"):
            if self._calls is not None and self._calls.device is not None:
                with _on(module, self._calls.device):
                    found |= self._calls.latencies(module, batch_size)
        return found


@dataclass(frozen=True, slots=True)
class Call:
    """A forward pass that a step made, to be made again.

    Attributes:
        forward: The part's own.
        given: Its arguments, those without a name and those with one.
    """

    forward: Callable[..., Any]
    given: tuple[tuple[Any, ...], dict[str, Any]]

    def __call__(self) -> None:
        """Make it again."""
        arguments, keywords = self.given
        self.forward(*arguments, **keywords)

    def is_of(self, samples: int) -> bool:
        """Whether it was given a batch of so many samples."""
        return any(each.ndim and len(each) == samples for each in tensors(self.given))

    def of(self, samples: int, whole: int) -> Call:
        """The same for the first samples of a batch of so many; nothing else than a batch is cut."""

        def cut(tensor: Tensor) -> Tensor:
            return tensor[:samples] if tensor.ndim and len(tensor) == whole else tensor

        return replace(self, given=apply_to_collection(self.given, Tensor, cut, allow_frozen=True))


class StepCalls:
    """The forward passes that a step of a module makes, recorded until `stop` and made again by `latencies`.

    They are those of the module itself or, where its step goes around it, of its parts; parts without parameters
    (losses, metrics) are no part of the model. For the time of recording their `forward` is another, and not hooked:
    torch computes some layers otherwise where they have hooks.

    Args:
        module: Its step is about to begin.
        samples: Of the batch that the step is given.
        context: The precision that the step is made in.
    """

    def __init__(self, module: nn.Module, samples: int, context: Callable[[], Any]) -> None:
        self._samples = samples
        self._context = context
        self._calls: list[Call] = []
        self._is_within = False
        self._before = {part: vars(part).get("forward") for part in _recordable(module)}
        for part in self._before:
            vars(part)["forward"] = self._recorded(part.forward)

    def _recorded(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(forward)
        def recorded(*arguments: Any, **keywords: Any) -> Any:
            if self._is_within:
                return forward(*arguments, **keywords)
            given = apply_to_collection((arguments, keywords), Tensor, Tensor.detach, allow_frozen=True)
            self._calls.append(Call(forward, given))
            self._is_within = True
            try:
                return forward(*arguments, **keywords)
            finally:
                self._is_within = False

        return recorded

    def stop(self) -> None:
        """Record no more, and leave the module as it was."""
        for part, own in self._before.items():
            if own is None:
                del vars(part)["forward"]
            else:
                vars(part)["forward"] = own
        self._before.clear()

    @property
    def device(self) -> torch.device | None:
        """Where the step was made; None where it made no forward pass of a tensor."""
        first = next(tensors([call.given for call in self._calls]), None)
        return None if first is None else first.device

    def latencies(self, module: nn.Module, batch_size: int | None) -> dict[str, float]:
        """``cost/latency_batch_seconds`` and ``cost/latency_sample_seconds``, on the device of the step.

        Args:
            module: Whose step it was.
            batch_size: Samples of a batch; None for as many as the step was given.
        """
        found = {"cost/latency_batch_seconds": self._latency(module, batch_size or self._samples)}
        if all(call.is_of(self._samples) for call in self._calls):
            found["cost/latency_sample_seconds"] = self._latency(module, 1)
        return found

    def _latency(self, module: nn.Module, samples: int) -> float:
        calls = [call.of(samples, self._samples) for call in self._calls]

        def again() -> None:
            with self._context():
                for call in calls:
                    call()

        device = self.device
        assert device is not None
        return latency(module, again, device)


class PeakMemory:
    """The most memory in use since it was made.

    On CUDA PyTorch counts it. On Linux the kernel keeps the high-water mark of the resident set, and lets it be reset;
    elsewhere it is sampled.

    Args:
        device: Where the model is.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._resettable = False
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            return
        give_back()  # or what is used would be hidden in what was freed before
        self._before = self._highest = psutil.Process().memory_info().rss
        try:
            _CLEAR_REFS.write_text("5")
            self._resettable = True
        except OSError:
            self._resettable = False

    def sample(self) -> None:
        """Look how much is in use, where nobody else keeps the peak."""
        if self._device.type != "cuda" and not self._resettable:
            self._highest = max(self._highest, psutil.Process().memory_info().rss)

    def peak(self) -> int:
        """Bytes: on CUDA all that was allocated, elsewhere what the resident set grew by."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        if self._resettable:
            line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM"))
            return max(0, int(line.split()[1]) * 1024 - self._before)
        self.sample()
        return self._highest - self._before


def size(model: nn.Module) -> dict[str, float]:
    """``cost/parameters`` and ``cost/model_bytes``."""
    parameters = list(model.parameters())
    return {
        "cost/parameters": float(sum(each.numel() for each in parameters)),
        "cost/model_bytes": float(sum(each.nbytes for each in [*parameters, *model.buffers()])),
    }


def latencies(module: nn.Module, batch: Tensor) -> dict[str, float]:
    """``cost/latency_batch_seconds`` of a batch of features and ``cost/latency_sample_seconds`` of its first sample."""
    return {
        "cost/latency_batch_seconds": latency(module, lambda: module(batch), batch.device),
        "cost/latency_sample_seconds": latency(module, lambda: module(batch[:1]), batch.device),
    }


def latency(module: nn.Module, forward: Callable[[], object], device: torch.device) -> float:
    """Seconds of one forward pass of a module in evaluation mode: the median of a few."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    seconds: list[float] = []
    until = time.perf_counter() + LATENCY_SECONDS
    try:
        with torch.no_grad():
            forward()
            synchronize(device)
            while len(seconds) < 2 or (len(seconds) < 10 and time.perf_counter() < until):
                started = time.perf_counter()
                forward()
                synchronize(device)
                seconds.append(time.perf_counter() - started)
    finally:
        for part in training:
            part.training = True
    return median(seconds)


@contextmanager
def _on(module: LightningModule, device: torch.device) -> Iterator[None]:
    """Within it the module is where it was trained; at the end of a training Lightning moves it to the CPU."""
    home = module.device
    module.to(device)
    try:
        yield
    finally:
        module.to(home)


def _recordable(module: nn.Module) -> Iterator[nn.Module]:
    """The module and its parts that have parameters, but for the insides of what is compiled: it would be again."""
    if module._compiled_call_impl is not None or next(module.parameters(), None) is None:
        return
    yield module
    if "_orig_mod" not in module._modules:  # torch.compile's
        for part in module.children():
            yield from _recordable(part)


def tensors(value: Any) -> Iterator[Tensor]:
    """Every tensor in a batch: in lists, mappings and dataclasses, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from tensors(list(value.values()))
    elif isinstance(value, list | tuple):
        for each in value:
            yield from tensors(each)
    elif is_dataclass(value):
        yield from tensors([getattr(value, each.name) for each in fields(value)])


def _length(batch: Any) -> int:
    """How many samples are in a batch: as many as its first tensor has rows; 0 where it has none."""
    return next((len(each) for each in tensors(batch) if each.ndim), 0)
