"""Samplers of our own, beside Optuna's."""

from autotune.samplers.grid import Grid, UsedUp
from autotune.samplers.penalty import PenaltyStorage
from autotune.samplers.tpe import TPE

__all__ = ["TPE", "Grid", "PenaltyStorage", "UsedUp"]
