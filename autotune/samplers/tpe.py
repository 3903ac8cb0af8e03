"""The tree-structured Parzen estimator at a cost that does not grow with the study."""

from __future__ import annotations

from typing import Any

from optuna.samplers import TPESampler

from autotune.errors import UserError
from autotune.samplers.bounded import Bounded
from autotune.samplers.grouped import GroupedTPE

# Fewer than these hold no 10 that are told from the others.
FEWEST = 100


class TPE(Bounded):
    """`optuna.samplers.TPESampler` on at most `learns_from` trials (Bergstra et al. 2011; Falkner et al. 2018).

    Until there are more trials than that it estimates what Optuna's does. Of more it tells the same best ones from the
    others; of the others it only estimates where they lie, for which a sample does (benchmarks/suggestions.py).

    Args:
        learns_from: How many trials that are over it learns from, at least 100; None for all.
        n_startup_trials: How many are drawn by chance first.
        n_ei_candidates: Of how many draws the most promising is taken.
        multivariate: Whether parameters are modelled together.
        group: Whether the parameters of a branch are.
        constant_liar: Whether trials in training count, as bad ones.
        seed: Of all draws.

    Raises:
        UserError: So few trials teach nothing.
    """

    def __init__(
        self,
        learns_from: int | None = 300,
        n_startup_trials: int = 10,
        n_ei_candidates: int = 24,
        multivariate: bool = True,
        group: bool = True,
        constant_liar: bool = True,
        seed: int | None = None,
    ) -> None:
        is_count = isinstance(learns_from, int) and not isinstance(learns_from, bool)
        if learns_from is not None and not (is_count and learns_from >= FEWEST):
            raise UserError(
                "sampler.learns_from", f"{learns_from} is too little to learn from", f"give {FEWEST} or more, or null"
            )
        settings: dict[str, Any] = {
            "n_startup_trials": n_startup_trials,
            "n_ei_candidates": n_ei_candidates,
            "constant_liar": constant_liar,
            "seed": seed,
        }
        if multivariate and group:
            sampler: TPESampler = GroupedTPE(**settings)
        else:
            sampler = TPESampler(multivariate=multivariate, group=group, **settings)
        super().__init__(sampler, learns_from, seed)
