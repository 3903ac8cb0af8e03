"""What the pruner saved, and what it may have cost: trials that it would have stopped, trained on to find out."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from autotune.kept.outcome import Outcome
from autotune.report.ends import measured
from autotune.standing import CONFIDENCE
from autotune.trial import Reason, Record

BEST = 0.1  # the share of the trials that counts as the best


@dataclass(frozen=True, slots=True)
class Errs:
    """How often the pruner is wrong, by the trials that it would have stopped and that were trained to their end.

    Attributes:
        audited: How many there are.
        among_best: How many of them ended among the best tenth of all trials.
        beat_winner: How many of them ended better than the winner did in the search.
    """

    audited: int
    among_best: int
    beat_winner: int

    @property
    def interval(self) -> tuple[float, float]:
        """In which the share of those among the best lies: exact 95 % interval (Clopper and Pearson 1934)."""
        from scipy.stats import beta

        tail, right, wrong = (1 - CONFIDENCE) / 2, self.among_best, self.audited - self.among_best
        low = 0.0 if right == 0 else float(beta.ppf(tail, right, wrong + 1))
        high = 1.0 if wrong == 0 else float(beta.ppf(1 - tail, right + 1, wrong))
        return low, high


@dataclass(frozen=True, slots=True)
class Savings:
    """What was trained of what training every trial to its end would have taken.

    Attributes:
        trained: Epochs that were trained.
        full: Epochs that all those trials have by their configs.
        stopped: How many trials were stopped by the pruner.
        saved: Epochs that the pruner saved, those that the audit cost taken off.
        diverged: How many trials ended because their loss did.
        audit_epochs: Epochs that were trained beyond where the pruner would have stopped.
        errs: How often it is wrong; None where nothing was audited.
        by_family: The same of each family.
        regret: By how much the best audited trial is better than the winner; 0 where none is, None without an audit.
        best_from: What a trial must have reached to be among the best tenth.
    """

    trained: int
    full: int
    stopped: int
    saved: int
    diverged: int
    audit_epochs: int
    errs: Errs | None
    by_family: dict[str, Errs]
    regret: float | None
    best_from: float | None

    @property
    def share(self) -> float:
        """Which part of the epochs was not trained."""
        return 0.0 if self.full == 0 else 1 - self.trained / self.full


def savings(outcome: Outcome) -> Savings:
    """What the pruner saved and cost."""
    ended = [record for record in outcome.records if record.ended is not None]
    longest = max((record.epochs for record in ended), default=0)
    stopped = [record for record in ended if record.reason == Reason.PRUNED]
    audited = [record for record in ended if record.would_stop is not None and measured(record)]
    left = sum(max(0, _horizon(record, longest) - record.epochs) for record in stopped)
    audit_epochs = sum(record.epochs - (record.would_stop or 0) for record in audited)
    best_from = _best_from(outcome, ended)
    by_family: dict[str, list[Record]] = defaultdict(list)
    for record in audited:
        by_family[record.family].append(record)
    judged = [record for record in ended if record.reason in (Reason.COMPLETED, Reason.PRUNED, Reason.DIVERGED)]
    return Savings(
        sum(record.epochs for record in judged),
        sum(max(record.epochs, _horizon(record, longest)) for record in judged),
        len(stopped),
        left - audit_epochs,
        sum(record.reason == Reason.DIVERGED for record in ended),
        audit_epochs,
        _errs(outcome, audited, best_from) if audited else None,
        {family: _errs(outcome, records, best_from) for family, records in sorted(by_family.items())},
        _regret(outcome, audited) if audited else None,
        best_from,
    )


def _horizon(record: Record, longest: int) -> int:
    """How many epochs a trial had by its config; as many as the longest where that says nothing."""
    epochs: Any = record.config["trainer"].get("max_epochs")
    return epochs if isinstance(epochs, int) and not isinstance(epochs, bool) and epochs > 0 else longest


def _best_from(outcome: Outcome, ended: Sequence[Record]) -> float | None:
    """The value of the last of the best tenth of all trials; those that were stopped are not among them."""
    values = sorted(
        (float(record.objective or 0.0) for record in ended if measured(record)),
        reverse=outcome.objective.direction == "maximize",
    )
    tenth = math.ceil(BEST * len(ended))
    return values[min(tenth, len(values)) - 1] if values else None


def _errs(outcome: Outcome, audited: Sequence[Record], best_from: float | None) -> Errs:
    values = [float(record.objective or 0.0) for record in audited]
    better = outcome.objective.better
    among = 0 if best_from is None else sum(not better(best_from, value) for value in values)
    winner = outcome.winner
    beat = 0 if winner is None or winner.objective is None else sum(better(each, winner.objective) for each in values)
    return Errs(len(audited), among, beat)


def _regret(outcome: Outcome, audited: Sequence[Record]) -> float | None:
    others = [
        float(record.objective or 0.0) for record in outcome.records if measured(record) and record.would_stop is None
    ]
    if not others:
        return None
    best, found = outcome.objective.best(others), outcome.objective.best([float(r.objective or 0.0) for r in audited])
    return abs(found - best) if outcome.objective.better(found, best) else 0.0
