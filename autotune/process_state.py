"""State of the whole process that a search or a training changes: random generators, switches, environment, loggers.

A command's process ends with its work. A program that calls `autotune.run_search` goes on, and finds its process as it
left it.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from autotune.logs import libraries_heard_again

# Seeds, switches and the environment are the process's: two searches in two threads would draw from one generator.
_one_at_a_time = threading.RLock()

# Module and name: MLflow's fluent functions have no way to take back what they were told.
_FLUENT = (
    ("mlflow.tracking._tracking_service.utils", "_tracking_uri"),
    ("mlflow.tracking.fluent", "_active_experiment_id"),
)


@contextmanager
def process_state_kept() -> Iterator[None]:
    """Put the state of the process back at the end, however that comes; one thread at a time is let in."""
    with _one_at_a_time, ExitStack() as stack:
        for keep in (
            warnings.catch_warnings,
            libraries_heard_again,
            _environment_kept,
            _fluent_kept,
            _signals_kept,
            _start_method_kept,
            _generators_kept,
            _torch_kept,
        ):
            stack.enter_context(keep())
        yield


@contextmanager
def _environment_kept() -> Iterator[None]:
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


@contextmanager
def _fluent_kept() -> Iterator[None]:
    def now() -> list[Any]:
        return [getattr(sys.modules.get(module), name, None) for module, name in _FLUENT]

    before = now()
    try:
        yield
    finally:
        uri, after = before[0], now()
        if after[0] != uri:
            sys.modules["mlflow"].set_tracking_uri(uri)
        if after[1] != before[1]:
            module, name = _FLUENT[1]
            setattr(sys.modules[module], name, before[1])


@contextmanager
def _signals_kept() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # no other may set them
        return
    before = {number: signal.getsignal(number) for number in signal.valid_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)


@contextmanager
def _start_method_kept() -> Iterator[None]:
    """A program may set the start method of its processes once, and not after somebody used the default."""
    before = multiprocessing.get_start_method(allow_none=True)
    try:
        yield
    finally:
        if multiprocessing.get_start_method(allow_none=True) != before:
            multiprocessing.set_start_method(before, force=True)


@contextmanager
def _generators_kept() -> Iterator[None]:
    import numpy as np
    import torch

    python, of_numpy, of_torch = random.getstate(), np.random.get_state(), torch.get_rng_state()
    seed = torch.initial_seed()
    is_begun: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    on_cuda = torch.cuda.get_rng_state_all() if is_begun else None
    on_mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(of_numpy)
        if on_cuda is None:
            torch.cuda.manual_seed_all(seed)  # which waits for whoever initializes CUDA
        else:
            torch.cuda.set_rng_state_all(on_cuda)
        if on_mps is not None:
            torch.mps.set_rng_state(on_mps)
        torch.set_rng_state(of_torch)


@contextmanager
def _torch_kept() -> Iterator[None]:
    import torch

    def attribute(owner: Any, name: str) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
        return lambda: getattr(owner, name), lambda value: setattr(owner, name, value)

    def precision() -> str | None:
        with suppress(RuntimeError):  # where it was set by `fp32_precision`
            return torch.get_float32_matmul_precision()
        return None

    backends: Any = torch.backends
    operations = [getattr(backends.cudnn, name, None) for name in ("conv", "rnn")]
    switches: list[tuple[Callable[[], Any], Callable[[Any], Any]]] = [
        (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
        (torch.get_default_dtype, torch.set_default_dtype),
        (torch.get_default_device, torch.set_default_device),
        (precision, lambda value: None if value is None else torch.set_float32_matmul_precision(value)),
        *(
            attribute(owner, "fp32_precision")
            for owner in (backends, backends.cuda.matmul, *operations)
            if hasattr(owner, "fp32_precision")  # from torch 2.9 on
        ),
        (torch.get_num_threads, torch.set_num_threads),
        (torch.is_grad_enabled, torch.set_grad_enabled),
        (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
        attribute(torch.utils.deterministic, "fill_uninitialized_memory"),
        *(attribute(backends.cudnn, name) for name in ("enabled", "benchmark", "deterministic")),
    ]
    before = [read() for read, _ in switches]
    try:
        yield
    finally:
        for (read, write), value in zip(switches, before, strict=True):
            if read() != value:
                write(value)
