"""autotune: find how to train a network, and prove it.

import autotune

result = autotune.run_search(["optimizer=sweep", "budget.trials=50"])
final = autotune.run_train(result, ["train.seeds=5"])
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from autotune import interrupts

if TYPE_CHECKING:
    from autotune.api import SearchResult, load_study, run_search, run_train

__version__ = "0.1.0"
__all__ = ["SearchResult", "load_study", "run_search", "run_train"]


if sys.argv[:1] == ["-m"]:  # python -m autotune.<command>, which is yet to be imported
    interrupts.leave_at_once()


def __getattr__(name: str) -> Any:
    """The Python API, imported when it is first asked for: importing autotune stays light."""
    if name in __all__:
        from autotune import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__} has no attribute {name}")
