"""The search grammar: from a composed config to Optuna's distributions and back to resolved configs."""

from autotune.space.rules import check
from autotune.space.tree import SETTINGS, Space, suggest
from autotune.space.values import SearchValue, parse

__all__ = ["SETTINGS", "SearchValue", "Space", "check", "parse", "suggest"]
