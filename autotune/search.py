"""The search: ``python -m autotune.search [key=value ...]``."""

from __future__ import annotations

import itertools
import json
import logging
import shlex
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from autotune import naming, report
from autotune.compose import EXIT_CODES, check_sections, handling_signals, plain, run_command, section, setting
from autotune.construct import construct
from autotune.errors import UserError, nearest
from autotune.imports import uncollected
from autotune.ledger import Ledger
from autotune.logs import hush_libraries, logging_to
from autotune.origin import GROUPS
from autotune.settings import Settings, complete_objective, discard
from autotune.space import Space, check
from autotune.steering import build_pruner, build_sampler, remark
from autotune.storage import StudyLock, open_storage
from autotune.study import Coordinator, Outcome, TrialCodeError
from autotune.tracking import Tracker
from autotune.trial import Executor, State

_log = logging.getLogger("autotune.search")  # not __name__, which is __main__ where it is run as a command

REHEARSED = 50
SECTIONS = ("study", "budget", "objective", "sampler", "pruner", "storage", "executor", "tracking")


class RehearsalError(Exception):
    """The user's code raised while the parts of a trial were built, before anything was trained.

    Args:
        config: The resolved config they were built from.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config
        super().__init__("the parts cannot be built")


def main() -> None:
    """Run the command."""
    run_command("search", check_config, search)


def check_config(config: DictConfig) -> tuple[Settings, Space]:
    """Find out what is wrong with a composed config before anything is written or torch is imported.

    Raises:
        UserError: The first thing found.
    """
    check_sections(config, GROUPS)
    config.objective = complete_objective(section(config, "objective"))
    sections = {key: section(config, key) for key in SECTIONS}
    settings = Settings.of({**sections, "home": setting(config, "home")})
    _check_starting_points(settings, config)
    space = Space(config)
    check(space)
    for point in itertools.islice(space.tour(), REHEARSED):
        space.resolve(point)
    build_sampler(sections["sampler"], space, 0)
    build_pruner(sections["pruner"], settings.objective)
    return settings, space


def _check_starting_points(settings: Settings, config: DictConfig) -> None:
    """Refuse names that no space could have; points that lie outside this one are left out when it begins."""
    known = [str(key) for key in config if key != "hydra"]
    for point in settings.enqueue:
        for name in point:
            if str(name).partition(".")[0] not in known:
                raise UserError("study.enqueue", f"{name} is no parameter", nearest(str(name).partition(".")[0], known))


def search(config: DictConfig) -> int:
    """Search; returns the exit code: 0 done, 1 nothing completed or the user's code broke, 130 and 143 interrupted."""
    settings, space = check_config(config)
    settings.folder.mkdir(parents=True, exist_ok=True)
    with StudyLock(settings.folder):
        is_new = [path.name for path in settings.folder.iterdir()] == [StudyLock.FILE]
        try:
            with logging_to(settings.folder / "search.log"):
                return _search(config, settings, space)
        except (UserError, KeyboardInterrupt):
            if is_new and not _has_ended(settings.folder):
                discard(settings.folder, settings.home)
            raise
        except RehearsalError as error:
            if is_new:
                discard(settings.folder, settings.home)
            return _say_broken("the code of the parts raised; they were built from", error.config, error)
        except TrialCodeError as error:
            record = error.record
            return _say_broken(
                f"the trial's code raised; trial {record.number} ({record.name}) was trained with", record.config, error
            )


def _search(config: DictConfig, settings: Settings, space: Space) -> int:
    composed = plain(config)
    composed["study"]["name"] = settings.name
    with uncollected():
        tracker: Tracker = construct("tracking", section(config, "tracking"), home=settings.home)
        executor: Executor = construct("executor", section(config, "executor"), trials=settings.budget.trials)
    hush_libraries()
    _rehearse(space, executor)
    storage, journal = open_storage(section(config, "storage"), settings.folder)
    ledger = Ledger(storage, journal, settings.name, settings.objective.direction)
    (settings.folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(composed)))
    begun = len(ledger.trials())
    seed = int(numpy.random.SeedSequence([settings.seed, begun]).generate_state(1)[0])
    sampler = build_sampler(section(config, "sampler"), space, seed)
    pruner = build_pruner(section(config, "pruner"), settings.objective)
    coordinator = Coordinator(settings, space, ledger, executor, tracker, sampler, pruner)
    tracker.search_started(settings.name, composed, _description(settings), resumed=begun > 0)
    _log.info("search %s: %s, at most %s", settings.name, settings.objective.metric, _limits(settings))
    if known := remark(sampler, pruner):
        _log.info("%s", known)
    status = "FAILED"
    received: list[signal.Signals] = []

    def interrupt(by: signal.Signals) -> None:
        """The first ends the search in good order, the second at once."""
        received.append(by)
        if len(received) > 1:
            raise KeyboardInterrupt
        coordinator.interrupt(f"interrupted by {by.name}")

    try:
        with handling_signals(interrupt):
            coordinator.run()
        status = "KILLED" if received else "FINISHED"
    except KeyboardInterrupt:
        if not received:
            raise
        status = "KILLED"
    finally:
        outcome = coordinator.outcome()
        _write_report(config, settings, coordinator, outcome, executor.name, tracker, status)
        ledger.close()
    if received:
        _log.info("interrupted; the same command with study.name=%s goes on", settings.name)
        return EXIT_CODES[received[0]]
    return _say_best(settings, coordinator, outcome, tracker)


def _rehearse(space: Space, executor: Executor) -> None:
    """Build each branch once before anything is stored, so that what cannot be built at all is found first."""
    for point in itertools.islice(space.tour(), REHEARSED):
        config = space.resolve(point)
        try:
            if executor.refuses(config) is None:
                executor.rehearse(config)
        except UserError:
            raise
        except Exception as error:
            raise RehearsalError(config) from error


def _has_ended(folder: Path) -> bool:
    """Whether the study has a trial that is worth keeping: one that ended, or was interrupted in good order."""
    path = folder / "summary.json"
    return path.exists() and bool(json.loads(path.read_text())["states"].keys() - {State.RUNNING.value})


def _say_broken(what: str, config: Mapping[str, Any], error: Exception) -> int:
    """Show the user's code that raised, and what it was given."""
    print(what, file=sys.stderr)
    print(OmegaConf.to_yaml(OmegaConf.create(dict(config))), file=sys.stderr)
    assert error.__cause__ is not None
    traceback.print_exception(error.__cause__)
    return 1


def _write_report(
    config: DictConfig,
    settings: Settings,
    coordinator: Coordinator,
    outcome: Outcome,
    executor: str,
    tracker: Tracker,
    status: str,
) -> None:
    records, best, verdict = outcome.records, outcome.best, outcome.verdict
    files = [settings.folder / "config.yaml"]
    if best is not None:
        files.append(report.write_best(settings.folder, settings.name, best, settings.objective))
    files.append(report.write_trials(settings.folder, records))
    rest = {
        "refused": len(coordinator.refused),
        "duplicates": coordinator.duplicates,
        "seconds": round(coordinator.seconds, 3),
        "executor": executor,
        "sampler": _option("sampler", config.sampler),
        "pruner": _option("pruner", config.pruner),
        "finished": coordinator.finished,
        "learnt": None if verdict is None else verdict.learnt,
        "guessing": None if verdict is None else {"metric": verdict.chance.metric, "level": verdict.chance.level},
    }
    files.append(
        report.write_summary(settings.folder, report.summary(settings.name, settings.objective, records, best, rest))
    )
    states = Counter(record.state.value for record in records)
    tracker.search_ended(best, states, outcome.history, files, status)
    tracker.close()


def _say_best(settings: Settings, coordinator: Coordinator, outcome: Outcome, tracker: Tracker) -> int:
    if coordinator.finished:
        _log.info("ended: %s", coordinator.finished)
    if coordinator.refused:
        _log.info("refused before training: %d configurations", len(coordinator.refused))
    best, verdict = outcome.best, outcome.verdict
    if best is None:
        _log.error("no trial was trained to its end; see %s", settings.folder / "trials.csv")
        return 1
    _log.info("")
    is_noise = verdict is not None and not verdict.learnt
    if is_noise:
        _log.info("nothing learnable was found: %s", verdict)
    _log.info(
        "%s: %s with %s %.6g (trial %d)",
        "no winner; the luckiest draw" if is_noise else "best",
        naming.strategy(best.config),
        settings.objective.metric,
        best.objective,
        best.number,
    )
    for name, value in best.params.items():
        _log.info("  %s = %s", name, value)
    _log.info("its config:      %s", settings.folder / "best.yaml")
    if tracker.ui_command:
        _log.info("browse:          %s", tracker.ui_command)
    home = "" if settings.home == Path("mlruns") else f" {shlex.quote(f'home={settings.home}')}"
    _log.info("train the best:  python -m autotune.train from=%s%s", settings.name, home)
    return 0


def _option(group: str, section: Mapping[str, Any]) -> str:
    choice = HydraConfig.get().runtime.choices.get(group) if HydraConfig.initialized() else None
    return str(choice or section.get("name") or section["_target_"])


def _limits(settings: Settings) -> str:
    limits = {"trials": settings.budget.trials, "seconds": settings.budget.seconds, "epochs": settings.budget.epochs}
    return " or ".join(f"{value:g} {name}" for name, value in limits.items() if value is not None)


def _description(settings: Settings) -> str:
    objective = settings.objective
    return f"Search for the strategy that {objective.direction}s `{objective.metric}`, at most {_limits(settings)}."


if __name__ == "__main__":
    main()
