"""What a search changes in the process of the program that called it is put back."""

from __future__ import annotations

import logging
import multiprocessing
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
from lightning.pytorch import seed_everything

from autotune.logs import hush_libraries, libraries_hushed, logging_to
from autotune.process_state import process_state_kept


def state() -> dict[str, Any]:
    optuna = logging.getLogger("optuna")
    return {
        "random": random.getstate(),
        "numpy": repr(np.random.get_state()),
        "torch": torch.get_rng_state().tolist(),
        "switches": (
            torch.get_deterministic_debug_mode(),
            torch.backends.cudnn.benchmark,
            torch.backends.cudnn.deterministic,
            torch.get_float32_matmul_precision(),
            torch.get_default_dtype(),
            torch.get_num_threads(),
            torch.is_grad_enabled(),
            torch.is_anomaly_enabled(),
            torch.utils.deterministic.fill_uninitialized_memory,
        ),
        "environment": dict(os.environ),
        "warnings": (list(warnings.filters), warnings.showwarning),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "start method": multiprocessing.get_start_method(allow_none=True),
        "optuna": (optuna.level, optuna.propagate, list(optuna.handlers)),
        "mlflow": (mlflow.get_tracking_uri(), mlflow.tracking.fluent._active_experiment_id),
    }


def change_everything() -> None:
    seed_everything(3, workers=True, verbose=False)
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = not torch.backends.cudnn.benchmark
    torch.backends.cudnn.deterministic = True
    torch.set_float32_matmul_precision("medium")
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(torch.get_num_threads() + 1)
    torch.set_grad_enabled(False)
    torch.autograd.set_detect_anomaly(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    os.environ.pop("KEPT_BY_THE_CALLER")
    warnings.simplefilter("ignore")
    logging.captureWarnings(True)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    multiprocessing.get_start_method()
    hush_libraries()
    mlflow.set_tracking_uri("sqlite:///another.db")
    mlflow.tracking.fluent._active_experiment_id = "7"


@pytest.mark.parametrize("raised", [None, LookupError, KeyboardInterrupt])
def test_everything_is_put_back_however_it_ends(
    raised: type[BaseException] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEPT_BY_THE_CALLER", "yes")
    monkeypatch.setattr(logging.getLogger("optuna"), "handlers", [logging.StreamHandler()])
    before = state()
    try:
        with process_state_kept():
            change_everything()
            changed = state()
            if raised is not None:
                raise raised
    except BaseException as error:
        assert type(error) is raised  # noqa: PT017
    finally:
        logging.captureWarnings(False)
    assert {name for name, value in before.items() if changed[name] == value} <= {"start method"}
    assert state() == before


def test_a_generator_that_waits_for_its_device_gets_the_callers_seed() -> None:
    seeded: list[int] = []
    torch.manual_seed(11)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "manual_seed_all", seeded.append)
        with process_state_kept():
            seed_everything(3, verbose=False)
    assert seeded[-1] == 11


def test_matmul_precision_may_be_set_by_either_name() -> None:
    matmul: Any = torch.backends.cuda.matmul
    if not hasattr(matmul, "fp32_precision"):
        pytest.skip("this torch has one name for it")
    before = matmul.fp32_precision
    try:
        matmul.fp32_precision = "tf32"
        with process_state_kept():
            matmul.fp32_precision = "ieee"
        assert matmul.fp32_precision == "tf32"
    finally:
        matmul.fp32_precision = before
    with process_state_kept():
        torch.set_float32_matmul_precision("medium")
    assert torch.get_float32_matmul_precision() == "highest"


def test_one_inside_another_and_one_in_a_thread() -> None:
    inside, order = threading.Event(), []

    def wait_for_it(what: Callable[[], object]) -> None:
        with process_state_kept():
            what()

    with process_state_kept(), process_state_kept():
        thread = threading.Thread(target=wait_for_it, args=(lambda: (inside.set(), order.append("thread")),))
        thread.start()
        order.append("main")
        assert not inside.is_set()
    thread.join()
    assert order == ["main", "thread"]


def test_a_program_that_captures_warnings_goes_on_to() -> None:
    logging.captureWarnings(True)
    try:
        with process_state_kept(), logging_to(None):
            pass
        captured = warnings.showwarning.__module__
    finally:
        logging.captureWarnings(False)
    assert captured == "logging"
    assert warnings.showwarning.__module__ != "logging"


def test_libraries_speak_again_once_they_are_no_more_hushed(capsys: pytest.CaptureFixture[str]) -> None:
    lightning = logging.getLogger("lightning.pytorch")
    handler = logging.StreamHandler(sys.stderr)
    lightning.addHandler(handler)
    level = lightning.level
    lightning.setLevel(logging.INFO)
    try:
        with libraries_hushed():
            lightning.info("chatter")
        lightning.info("news")
    finally:
        lightning.removeHandler(handler)
        lightning.setLevel(level)
    assert capsys.readouterr().err == "news\n"
