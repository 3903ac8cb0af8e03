"""The search grammar: from a composed config to Optuna's distributions and back to resolved configs."""

from autotune.space.rules import check, check_whole
from autotune.space.template import literals
from autotune.space.tree import LITERAL, SETTINGS, Space, suggest
from autotune.space.values import EXAMPLE, SearchValue, as_grammar, parse

__all__ = [
    "EXAMPLE",
    "LITERAL",
    "SETTINGS",
    "SearchValue",
    "Space",
    "as_grammar",
    "check",
    "check_whole",
    "literals",
    "parse",
    "suggest",
]
