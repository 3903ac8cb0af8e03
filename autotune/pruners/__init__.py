"""A pruner of our own, beside Optuna's, and whom any of them compares a trial with."""

from autotune.pruners.leagues import WOULD_STOP, Leagues, Pruning, horizon
from autotune.pruners.successive_halving import SuccessiveHalving

__all__ = ["WOULD_STOP", "Leagues", "Pruning", "SuccessiveHalving", "horizon"]
