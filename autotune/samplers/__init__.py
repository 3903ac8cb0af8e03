"""Samplers of our own, beside Optuna's."""

from autotune.samplers.grid import Grid, UsedUp

__all__ = ["Grid", "UsedUp"]
