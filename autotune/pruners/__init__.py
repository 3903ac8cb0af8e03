"""Pruners of our own, beside Optuna's."""

from autotune.pruners.successive_halving import SuccessiveHalving

__all__ = ["SuccessiveHalving"]
