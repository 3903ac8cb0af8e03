from __future__ import annotations

import pytest
import torch

from autotune import device
from autotune.device import default_generator, most_exact, synchronize


def test_a_device_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waited = []
    monkeypatch.setattr(device.torch.cuda, "synchronize", waited.append)
    monkeypatch.setattr(device.torch.mps, "synchronize", lambda: waited.append("mps"))
    for name in ("cpu", "cuda:1", "mps", "meta"):
        synchronize(torch.device(name))
    assert waited == [torch.device("cuda", 1), "mps"]


def test_apple_s_devices_know_no_double_precision() -> None:
    assert most_exact(torch.device("mps")) == torch.float32
    assert most_exact(torch.device("cpu")) == most_exact(torch.device("cuda")) == torch.float64


def test_what_a_processor_draws_from_is_torch_s_own_generator() -> None:
    assert default_generator(torch.device("cpu")) is torch.default_generator
