"""What a search is run by, read from the composed config and checked once."""

from __future__ import annotations

import math
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from autotune.divergence import divergence
from autotune.errors import UserError, first_line, nearest
from autotune.trust.config_files import conf_dir

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
DIRECTIONS = ("maximize", "minimize")
TRAINED_ON = ("train", "train+val")
RESUME = ("extend", "fresh")

LARGEST = sys.float_info.max  # whole numbers have no end of their own
MOST_CONFIRMED = 1000  # configurations, seeds

SECONDS = {"seconds": 1, "minutes": 60, "hours": 3600}
_UNITS = (86400, 3600, 60, 1)
_DURATION = re.compile(
    r"\s*".join(
        rf"(?:(\d+(?:\.\d*)?|\.\d+)\s*{unit})?"
        for unit in (r"d(?:ays?)?", r"h(?:ours?)?", r"m(?:in(?:utes?)?)?", r"s(?:ec(?:onds?)?)?")
    ),
    re.IGNORECASE,
)

# Words in a metric's name that say which way it is better; the first kind goes before the second (log_loss).
_SMALLER = {
    *("loss", "error", "err", "rmse", "mse", "mae", "mape", "smape", "msle", "rmsle", "nll", "perplexity", "ppl"),
    *("wer", "cer", "fid", "kid", "lpips", "brier", "divergence", "kld", "deviance", "distance", "cost"),
}
_LARGER = {
    *("accuracy", "acc", "f1", "auc", "auroc", "auprc", "r2", "precision", "recall", "iou", "miou", "score", "top"),
    *("map", "ndcg", "mrr", "dice", "jaccard", "kappa", "mcc", "matthews", "sensitivity", "specificity", "fbeta"),
    *("bleu", "rouge", "psnr", "ssim", "pearson", "spearman", "correlation", "similarity", "likelihood", "reward"),
}
# In front of another word they turn it round: neg_mean_squared_error.
_NEGATIVE = {"neg", "negative"}
_PARTS = ("training", "train", "validation", "valid", "val", "test", "eval", "dev")
# Words that say between which bounds a metric lies.
_SHARES = {"accuracy", "acc", "f1", "auc", "auroc", "precision", "recall", "iou"}
_NOT_NEGATIVE = {"rmse", "mse", "mae", "error", "err"}


@dataclass(frozen=True, slots=True)
class Objective:
    """What a trial is judged by.

    Attributes:
        metric: The name it is logged by.
        direction: maximize or minimize.
        worst: The finite value the sampler is told of a trial that diverged; None tells it one that is worse than all
            that were measured (`autotune.samplers.PenaltyStorage`).
        explodes_above: A loss more than so many times as large as in the first epochs has diverged; None: never.
    """

    metric: str
    direction: str
    worst: float | None
    explodes_above: float | None

    @classmethod
    def of(cls, section: Mapping[str, Any]) -> Objective:
        """Read the section ``objective``. Raises UserError."""
        metric, direction = section.get("metric"), section.get("direction")
        if not isinstance(metric, str) or not metric:
            raise UserError(
                "objective.metric", f"{metric} is no name of a metric", "give the name it is logged by: val/accuracy"
            )
        if direction not in DIRECTIONS:
            raise UserError("objective.direction", f"{direction} is no direction", nearest(str(direction), DIRECTIONS))
        worst, above = section.get("worst"), section.get("explodes_above")
        if above is not None and _number("objective.explodes_above", above) <= 1:
            problem = f"{above} would end a training whose loss is as it was at first"
            raise UserError("objective.explodes_above", problem, "give a number above 1, or null for no limit")
        return cls(
            metric,
            str(direction),
            None if worst is None else _number("objective.worst", worst),
            None if above is None else float(above),
        )

    def better(self, value: float, other: float) -> bool:
        """Whether a value is better than another."""
        return value > other if self.direction == "maximize" else value < other

    def divergence(self, metrics: Mapping[str, float], earlier: Mapping[str, Sequence[float]]) -> str | None:
        """What shows that a training has diverged in an epoch; None where nothing does. See `autotune.divergence`."""
        return divergence(metrics, earlier, self.explodes_above)

    def best(self, values: Sequence[float]) -> float:
        """The best of some values."""
        return max(values) if self.direction == "maximize" else min(values)

    def best_of(self, curve: Iterable[float]) -> float | None:
        """The best value of a curve, in which NaN is an epoch without one; None where no epoch has one."""
        values = [value for value in curve if math.isfinite(value)]
        return self.best(values) if values else None


@dataclass(frozen=True, slots=True)
class Budget:
    """What a study may cost in all; whichever ends first. None means no limit."""

    trials: int | None
    seconds: float | None
    epochs: int | None

    @property
    def words(self) -> str:
        """``200 trials or 3600 seconds``."""
        limits = {"trials": self.trials, "seconds": self.seconds, "epochs": self.epochs}
        return " or ".join(f"{value:.15g} {name}" for name, value in limits.items() if value is not None)

    @classmethod
    def of(cls, section: Mapping[str, Any]) -> Budget:
        """Read the section ``budget``. Raises UserError."""
        limits: dict[str, Any] = {"seconds": duration("budget", section)}
        for key in ("trials", "epochs"):
            value = limits[key] = section.get(key)
            if value is not None and (
                isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= LARGEST
            ):
                remedy = "give a whole number above 0, or null for none"
                raise UserError(f"budget.{key}", f"{value} is no limit", remedy)
        if not any(limits.values()):
            raise UserError("budget", "has no limit at all", "give budget.trials, budget.seconds or budget.epochs")
        return cls(**limits)


@dataclass(frozen=True, slots=True)
class Confirm:
    """How the best are trained again when the budget ends.

    Attributes:
        top: How many configurations; 0 confirms none.
        seeds: On how many seeds that are new to all of them.
        most_seeds: On how many at most, while the best cannot be told apart.
        seconds: How long it may take; None for as long as it takes.
    """

    top: int
    seeds: int
    most_seeds: int
    seconds: float | None = None

    @classmethod
    def of(cls, section: Mapping[str, Any]) -> Confirm:
        """Read the section ``confirm``. Raises UserError."""
        counts: dict[str, Any] = {}
        for key in ("top", "seeds", "most_seeds"):
            value = counts[key] = section.get(key)
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_CONFIRMED:
                problem = f"{value} is no number of them"
                raise UserError(f"confirm.{key}", problem, f"give a whole number from 0 to {MOST_CONFIRMED}")
        return cls(**counts, seconds=duration("confirm", {"seconds": section.get("seconds")}))


@dataclass(frozen=True, slots=True)
class Settings:
    """All that a search is run by besides its space.

    Attributes:
        name: The study's name and its folder's.
        seed: Of the sampler.
        enqueue: Points to ask first, as parameter names to values.
        folder: ``<home>/studies/<name>``.
        resume: What becomes of a study of that name that was begun with something else: ``extend`` or ``fresh``; None
            where nothing is said.
    """

    name: str
    seed: int
    enqueue: tuple[Mapping[str, Any], ...]
    home: Path
    budget: Budget
    objective: Objective
    confirm: Confirm
    resume: str | None = None

    @property
    def folder(self) -> Path:
        """The study's folder."""
        return self.home / "studies" / self.name

    def trial_folder(self, number: int, seed: int | None = None) -> Path:
        """Where files of a trial lie that the user's callbacks and loggers write; absolute.

        Args:
            number: The trial's.
            seed: The other seed that it is trained with again; None where it is the trial itself.
        """
        name = f"{number}" if seed is None else f"{number}-seed{seed}"
        return self.folder.absolute() / "trials" / name

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Settings:
        """Read a composed config, interpolations resolved in the sections read here. Raises UserError."""
        study = config.get("study") or {}
        name = folder_name("study.name", study.get("name"))
        return cls(
            name,
            _seed("study.seed", study.get("seed")),
            _points(study.get("enqueue")),
            home_folder(config.get("home"), f"studies/{name}"),
            Budget.of(config.get("budget") or {}),
            Objective.of(config.get("objective") or {}),
            Confirm.of(config.get("confirm") or {}),
            _resume("study.resume", study.get("resume")),
        )


def duration(name: str, section: Mapping[str, Any]) -> float | None:
    """The seconds that a section gives by one of the keys ``seconds``, ``minutes`` and ``hours``; None for no limit.

    A number counts what the key says; a text has units of its own, whichever key it is given by: ``1h30m``.

    Args:
        name: The section's, for mistakes.
        section: Its values.

    Raises:
        UserError: It is no duration, or several keys give one.
    """
    given = {key: section[key] for key in SECONDS if section.get(key) is not None}
    for key, value in given.items():
        if len(given) > 1:
            several = " and ".join(f"{name}.{each}={given[each]}" for each in given)
            raise UserError(f"{name}.{key}", f"{several} are one limit given twice", "give one of them")
        seconds = _duration(value, SECONDS[key])
        if seconds is None or not 0 < seconds <= LARGEST:
            remedy = "give a number above 0, one with its units (90s, 10m, 1h30m), or null for none"
            raise UserError(f"{name}.{key}", f"{value} is no limit", remedy)
        return seconds
    return None


def _duration(value: Any, unit: int) -> float | None:
    """The seconds of a number of units, or of a text with its own; None where it is neither."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value * unit
    parts = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if parts is None or not any(parts.groups()):
        return None
    return sum(float(count) * seconds for count, seconds in zip(parts.groups(), _UNITS, strict=True) if count)


def complete_objective(section: Mapping[str, Any]) -> dict[str, Any]:
    """The section ``objective`` with its direction, which follows the metric where it is null.

    Raises:
        UserError: The metric's name does not say which way it is better.
    """
    completed = dict(section)
    metric = completed.get("metric")
    if not isinstance(metric, str):
        return completed  # which `Objective.of` refuses
    words = _words(metric)
    if completed.get("direction") is None:
        if not words & (_SMALLER | _LARGER):
            problem = f"which way {metric} is better is not known"
            raise UserError("objective.direction", problem, "give maximize or minimize")
        is_smaller = bool(words & _SMALLER) != bool(words & _NEGATIVE)
        completed["direction"] = "minimize" if is_smaller else "maximize"
    return completed


def unmeasured(metric: str, logged: Collection[str]) -> UserError:
    """What is wrong where a training has no value of the objective's metric.

    Args:
        metric: Its name.
        logged: The names of all that was logged.
    """
    if metric in logged:
        problem = f"{metric} is no number in any epoch"
        return UserError("objective.metric", problem, "name a metric that can be measured")
    names = ", ".join(sorted(logged)) or "nothing"
    return UserError("objective.metric", f"{metric} is not logged; logged are {names}", "name one of those")


def bounds(metric: str) -> tuple[float, float]:
    """Between which two values a metric lies, as far as its name tells; infinite where it does not."""
    words = _words(metric)
    low, high = -math.inf, 1.0 if "r2" in words else math.inf
    if words & _SHARES:
        low, high = 0.0, 1.0
    elif words & _NOT_NEGATIVE:
        low = 0.0
    return (-high, -low) if words & _NEGATIVE else (low, high)


def _words(metric: str) -> set[str]:
    """The words of a metric's name: of its last part, between slashes, that says something.

    Lightning and its users put others behind it: ``val_acc/dataloader_idx_0``, ``val/f1/macro``. Written together are
    ``valAcc``, ``valacc`` and ``acc5``.
    """
    known = _SMALLER | _LARGER | _SHARES | _NOT_NEGATIVE
    words: set[str] = set()
    for part in reversed(metric.split("/")):
        apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", part)  # besides what is one word all the same: mAP
        words = {_plain(word, known) for word in re.split(r"[^a-z0-9]+", f"{part}_{apart}".lower())}
        if words & known:
            return words
    return words


def _plain(word: str, known: Collection[str]) -> str:
    """A word without the part of the data in front of it and a number behind it, where that is a known one."""
    shorter = [word.removeprefix(part) for part in _PARTS]
    forms = [word, *shorter, *(each.rstrip("0123456789") for each in (word, *shorter))]
    return next((each for each in forms if each in known), word)


def folder_name(key: str, name: Any) -> str:
    """Check a name that is a folder's too. Raises UserError."""
    if not isinstance(name, str | int) or isinstance(name, bool) or not _NAME.fullmatch(str(name)):
        raise UserError(
            key,
            f"{name} cannot name a folder",
            "use letters, digits, '.', '_' and '-', beginning with a letter or digit",
        )
    return str(name)


def home_folder(home: Any, within: str = "") -> Path:
    """Check the home, and a folder within it that is to be written. Raises UserError where it cannot be."""
    if not isinstance(home, str) or not home:
        raise UserError("home", f"{home} is no folder", "give a path: home=mlruns")
    check_folder("home", home, within)
    return Path(home)


def check_folder(key: str, folder: str, within: str = "") -> None:
    """Find out whether a folder can be written, made first where it is not there; nothing is left behind.

    Args:
        key: What the folder was said by.
        folder: As it was said.
        within: A path below it that is to be written.

    Raises:
        UserError: It cannot.
    """
    own = f"give a folder of your own: {key}=..."
    try:
        whole = Path(folder, within)
        dangling = next((path for path in (whole, *whole.parents) if path.is_symlink() and not path.exists()), None)
        whole = whole.resolve()
        there = next(path for path in (whole, *whole.parents) if path.exists())
        longest = os.pathconf(there, "PC_NAME_MAX")
    except OSError as error:
        raise UserError(key, f"{folder} cannot be used ({error.strerror})", own) from error
    except (ValueError, RuntimeError) as error:  # of a zero byte, of links in a circle
        raise UserError(key, f"{folder} is no path ({first_line(error)})", own) from error
    if dangling is not None:
        raise UserError(key, f"{dangling} is a link to nothing ({dangling.readlink()})", own)
    if not there.is_dir():
        raise UserError(key, f"{there} is a file", f"give a folder: {key}=mlruns")
    if any(len(os.fsencode(part)) > longest for part in whole.parts):
        raise UserError(key, f"{folder} has a name of more than {longest} bytes", own)
    try:
        # Not by its mode: whoever is root may write wherever it says otherwise, but not everywhere.
        with tempfile.TemporaryDirectory(prefix=".autotune-", dir=there):
            pass
    except OSError as error:
        raise UserError(key, f"{there} cannot be written to ({error.strerror})", own) from error


def address(key: str, value: Any) -> str | None:
    """Check the address of a store of runs; None stands for the usual one. Raises UserError."""
    if value is not None and not isinstance(value, str):
        raise UserError(key, f"{value} is no address", "give one as in sqlite:///mlflow.db or http://...")
    return value


def discard(folder: Path, home: Path) -> None:
    """Remove a folder of the home that was just made, and those above it that nothing is left in."""
    shutil.rmtree(folder, ignore_errors=True)
    discard_empty(folder.parent, home)


def discard_empty(folder: Path, home: Path) -> None:
    """Remove a folder of the home that nothing is in, and those above it that nothing is left in."""
    for above in (folder, *folder.parents):
        try:
            above.rmdir()
        except OSError:
            return
        if above == home:
            return


def _seed(key: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**32:
        raise UserError(key, f"{value} is no seed", "give a whole number from 0 to 4294967295")
    return value


def _resume(key: str, value: Any) -> str | None:
    if value is None:
        return None
    if value not in RESUME:
        raise UserError(key, f"{value} is no way to resume", nearest(str(value), RESUME))
    return str(value)


def _number(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST:
        raise UserError(key, f"{value} is no finite number", "give a finite number")
    return float(value)


@cache
def shipped_points() -> tuple[Mapping[str, Any], ...]:
    """The starting points that a search has where the user gives none: they are for any space."""
    return tuple(OmegaConf.to_container(OmegaConf.load(conf_dir() / "search.yaml").study.enqueue))  # type: ignore[arg-type]


def _points(points: Any) -> tuple[Mapping[str, Any], ...]:
    if points is None:
        return ()
    if not isinstance(points, list) or not all(isinstance(point, Mapping) for point in points):
        raise UserError(
            "study.enqueue", f"{points} is no list of points", "write [{optimizer: adam, optimizer.adam.lr: 0.001}]"
        )
    return tuple(points)
