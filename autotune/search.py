"""The search: ``python -m autotune.search [key=value ...]``."""

from __future__ import annotations

import logging
import shutil
import signal
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy
import optuna
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from autotune import naming, report
from autotune.compose import plain, run_command
from autotune.construct import construct
from autotune.errors import UserError
from autotune.ledger import Ledger
from autotune.logs import hush_libraries, logging_to
from autotune.settings import Settings
from autotune.space import Space, check
from autotune.storage import StudyLock, open_storage
from autotune.study import Coordinator, TrialCodeError
from autotune.tracking import Tracker
from autotune.trial import Executor

_log = logging.getLogger("autotune.search")  # not __name__, which is __main__ where it is run as a command

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


def main() -> None:
    """Run the command."""
    run_command("search", check_config, search)


def check_config(config: DictConfig) -> tuple[Settings, Space]:
    """Find out what is wrong with a composed config before anything is written or torch is imported.

    Raises:
        UserError: The first thing found.
    """
    sections = {
        key: OmegaConf.to_container(config[key], resolve=True) if OmegaConf.is_config(config[key]) else config[key]
        for key in ("study", "budget", "objective", "home")
    }
    settings = Settings.of(sections)
    space = Space(config)
    check(space)
    with_seed("sampler", _section(config.sampler), 0)
    with_seed("pruner", _section(config.pruner), 0)
    return settings, space


def search(config: DictConfig) -> int:
    """Search; returns the exit code: 0 done, 1 nothing completed or the user's code broke, 130 and 143 interrupted."""
    settings, space = check_config(config)
    is_new = not any(settings.folder.iterdir()) if settings.folder.is_dir() else True
    settings.folder.mkdir(parents=True, exist_ok=True)
    try:
        with StudyLock(settings.folder), logging_to(settings.folder / "search.log"):
            return _search(config, settings, space)
    except UserError:
        if is_new and not (settings.folder / "summary.json").exists():
            shutil.rmtree(settings.folder)
        raise
    except TrialCodeError as error:
        print(
            f"the trial's code raised; trial {error.record.number} ({error.record.name}) was trained with",
            file=sys.stderr,
        )
        print(OmegaConf.to_yaml(OmegaConf.create(dict(error.record.config))), file=sys.stderr)
        cause = error.__cause__
        assert cause is not None
        traceback.print_exception(cause)
        return 1


def _search(config: DictConfig, settings: Settings, space: Space) -> int:
    composed = plain(config)
    composed["study"]["name"] = settings.name
    (settings.folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(composed)))
    tracker: Tracker = construct("tracking", _section(config.tracking), home=settings.home)
    executor: Executor = construct("executor", _section(config.executor))
    hush_libraries()
    _rehearse(space, executor, settings.seed)
    storage, journal = open_storage(_section(config.storage), settings.folder)
    ledger = Ledger(storage, journal, settings.name, settings.objective.direction)
    begun = len(ledger.trials())
    seed = int(numpy.random.SeedSequence([settings.seed, begun]).generate_state(1)[0])
    coordinator = Coordinator(
        settings,
        space,
        ledger,
        executor,
        tracker,
        with_seed("sampler", _section(config.sampler), seed),
        with_seed("pruner", _section(config.pruner), seed),
    )
    tracker.search_started(settings.name, composed, _description(settings), resumed=begun > 0)
    _log.info("search %s: %s, at most %s", settings.name, settings.objective.metric, _limits(settings))
    status = "FAILED"
    received: list[signal.Signals] = []
    try:
        with _interruptible(coordinator, received):
            coordinator.run()
        status = "KILLED" if received else "FINISHED"
    finally:
        _write_report(config, settings, coordinator, ledger, tracker, status)
        ledger.close()
    if received:
        _log.info("interrupted; the same command with study.name=%s goes on", settings.name)
        return EXIT_CODES[received[0]]
    return _say_best(settings, coordinator, tracker)


def _rehearse(space: Space, executor: Executor, seed: int) -> None:
    """Build one configuration before anything is stored, so that what cannot be built at all is found first."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    executor.refuses(space.resolve(space.suggest(study.ask())))


def _write_report(
    config: DictConfig, settings: Settings, coordinator: Coordinator, ledger: Ledger, tracker: Tracker, status: str
) -> None:
    records = ledger.records()
    best = coordinator.best()
    files = [settings.folder / "config.yaml"]
    if best is not None:
        files.append(report.write_best(settings.folder, settings.name, best, settings.objective))
    files.append(report.write_trials(settings.folder, records))
    rest = {
        "refused": len(coordinator.refused),
        "duplicates": coordinator.duplicates,
        "seconds": round(coordinator.seconds, 3),
        "executor": _option("executor", config.executor),
        "sampler": _option("sampler", config.sampler),
        "pruner": _option("pruner", config.pruner),
        "finished": coordinator.finished,
    }
    files.append(
        report.write_summary(settings.folder, report.summary(settings.name, settings.objective, records, best, rest))
    )
    states = Counter(record.state.value for record in records)
    tracker.search_ended(best, states, report.best_history(records, settings.objective), files, status)
    tracker.close()


def _say_best(settings: Settings, coordinator: Coordinator, tracker: Tracker) -> int:
    if coordinator.finished:
        _log.info("ended: %s", coordinator.finished)
    if coordinator.refused:
        _log.info("refused before training: %d configurations", len(coordinator.refused))
    best = coordinator.best()
    if best is None:
        _log.error("no trial was trained to its end; see %s", settings.folder / "trials.csv")
        return 1
    _log.info("")
    _log.info(
        "best: %s with %s %.6g (trial %d)",
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
    home = "" if settings.home == Path("mlruns") else f" home={settings.home}"
    _log.info("train the best:  python -m autotune.train from=%s%s", settings.name, home)
    return 0


@contextmanager
def _interruptible(coordinator: Coordinator, received: list[signal.Signals]) -> Iterator[None]:
    """Within it, the first Ctrl-C or SIGTERM ends the search in good order and the second at once."""

    def interrupt(number: int, _: FrameType | None) -> None:
        received.append(signal.Signals(number))
        if len(received) > 1:
            raise KeyboardInterrupt
        coordinator.interrupt(f"interrupted by {signal.Signals(number).name}")

    previous = {number: signal.signal(number, interrupt) for number in EXIT_CODES}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def with_seed(key: str, section: Mapping[str, Any], seed: int) -> Any:
    """Make Optuna's sampler or pruner that a config names, seeded where it takes a seed.

    Raises:
        UserError: There is no such class, or it does not take such arguments.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return construct(key, section, seed=seed)
    except (ValueError, TypeError) as error:
        said = " ".join(str(error).split())
        raise UserError(
            key, f"{section['_target_']} refuses its arguments ({said})", "see its documentation"
        ) from error


def _section(section: DictConfig) -> dict[str, Any]:
    content = OmegaConf.to_container(section, resolve=True)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


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
