from __future__ import annotations

import pytest

from autotune.tracking import remote

from ..tracking.conftest import WriterThread, schema

__all__ = ["schema", "thread"]


@pytest.fixture
def thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have searches in this process write their runs by a thread, which need not import MLflow again."""
    monkeypatch.setattr(remote, "start_process", WriterThread)
