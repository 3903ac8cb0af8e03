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
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from autotune import naming, report
from autotune.compose import (
    EXIT_CODES,
    as_program,
    check_sections,
    handling_signals,
    plain,
    run_command,
    section,
    setting,
)
from autotune.confirm import Confirmation
from autotune.construct import construct
from autotune.errors import UserError, nearest
from autotune.final.origin import GROUPS
from autotune.imports import uncollected
from autotune.kept.fingerprint import Fingerprint
from autotune.kept.ledger import Ledger
from autotune.kept.outcome import Outcome
from autotune.kept.resume import check_resume, set_aside
from autotune.kept.storage import StudyLock, open_storage
from autotune.kept.whole import write_whole
from autotune.live import check_mode, watch
from autotune.logs import hush_libraries, logging_to
from autotune.settings import Settings, complete_objective, discard
from autotune.space import Space, check
from autotune.steering import build_pruner, build_sampler, first_seed, remark, sampler_by_trial
from autotune.study import Coordinator
from autotune.tracking import Tracker
from autotune.tracking.entries import dated
from autotune.trial import Executor, State, TrialCodeError
from autotune.trust.masking import kept, mask
from autotune.trust.targets import check_name, check_names

_log = logging.getLogger("autotune.search")  # not __name__, which is __main__ where it is run as a command

REHEARSED = 50
SECTIONS = ("study", "budget", "confirm", "objective", "sampler", "pruner", "storage", "executor", "tracking")


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
    run_command("search", _check_or_preview, search)


def _check_or_preview(config: DictConfig) -> None:
    """Check a config; a dry run ends with that, before there is a folder of the study. Of a multirun the first one."""
    settings, space = check_config(config)
    if config.get("dry_run"):
        raise SystemExit(_preview(config, settings, space))


def check_config(config: DictConfig) -> tuple[Settings, Space]:
    """Find out what is wrong with a composed config before anything is written or torch is imported.

    Raises:
        UserError: The first thing found.
    """
    check_sections(config, GROUPS)
    config.objective = complete_objective(section(config, "objective"))
    sections = {key: section(config, key) for key in SECTIONS}
    settings = Settings.of({**sections, "home": setting(config, "home")})
    check_mode(setting(config, "live"))
    if setting(config, "dry_run") not in (None, True, False):
        raise UserError("dry_run", f"{config.dry_run} is neither true nor false", "give true or false")
    _check_starting_points(settings, config)
    space = Space(config)
    for key in SECTIONS:
        check_names(sections[key], key)
    for name, search_value in space.parameters().items():
        if name.endswith("._target_"):
            for choice in search_value.extremes():
                check_name(name.removesuffix("._target_"), str(choice))
    check(space)
    for point in itertools.islice(space.tour(), REHEARSED):
        check_names(space.resolve(point))
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


@dataclass(frozen=True, slots=True)
class Ran:
    """A run of the search.

    Attributes:
        outcome: What the study has come to.
        folder: Where its files are.
        exit_code: 0 done, 1 nothing was trained to its end, 130 and 143 interrupted.
    """

    outcome: Outcome
    folder: Path
    exit_code: int


def _preview(config: DictConfig, settings: Settings, space: Space) -> int:
    """Say what the search would be; returns the exit code: 0, or 1 where the user's code broke."""
    with logging_to(None):
        with uncollected():
            from autotune.preview import BrokenBranchError, preview

            executor: Executor = construct("executor", section(config, "executor"), trials=settings.budget.trials)
        hush_libraries()
        try:
            preview(config, settings, space, executor)
        except BrokenBranchError as error:
            return _say_broken("the code of the parts raised; they were built from", error.config, error)
    return 0


def search(config: DictConfig) -> int:
    """Search; returns the exit code: `Ran.exit_code`, or 1 where the user's code broke."""
    try:
        return run(config).exit_code
    except RehearsalError as error:
        return _say_broken("the code of the parts raised; they were built from", error.config, error)
    except TrialCodeError as error:
        record = error.record
        return _say_broken(
            f"the trial's code raised; trial {record.number} ({record.name}) was trained with", record.config, error
        )


def run(config: DictConfig) -> Ran:
    """Search as a composed config says, or go on with the study it names.

    Raises:
        UserError: The config cannot be searched; nothing is left of a study that was just begun.
        RehearsalError: The user's code raised before anything was trained.
        TrialCodeError: The user's code raised while a trial was trained.
    """
    settings, space = check_config(config)
    fingerprint = Fingerprint.of(space)
    settings.folder.mkdir(parents=True, exist_ok=True)
    aside = _set_aside(config, settings) if settings.resume == "fresh" else None
    with StudyLock(settings.folder):
        changes = check_resume(config, settings, space, fingerprint)
        is_new = [path.name for path in settings.folder.iterdir()] == [StudyLock.FILE]
        try:
            with logging_to(settings.folder / "search.log"):
                if aside is not None:
                    _log.info("the earlier study %s is kept as %s", settings.name, aside)
                if changes:
                    _log.info("study %s goes on with what changed: %s", settings.name, ", ".join(changes))
                return _search(config, settings, space, fingerprint)
        except (UserError, RehearsalError):
            if is_new and not _has_ended(settings.folder):
                discard(settings.folder, settings.home)
            raise
        except KeyboardInterrupt:  # before there was anything to end in good order
            if is_new and not (settings.folder / "summary.json").exists():
                discard(settings.folder, settings.home)
            raise


def _search(config: DictConfig, settings: Settings, space: Space, fingerprint: Fingerprint) -> Ran:
    composed = kept(plain(config))
    composed["study"] |= {"name": settings.name, "resume": None}  # which was said of this run alone
    with uncollected():
        tracker: Tracker = construct("tracking", section(config, "tracking"), home=settings.home)
        executor: Executor = construct("executor", section(config, "executor"), trials=settings.budget.trials)
    hush_libraries()
    _rehearse(space, executor)
    storage, journal = open_storage(section(config, "storage"), settings.folder)
    ledger = Ledger(storage, journal, settings.name, settings.objective.direction)
    ledger.lay_down()
    kept_config = _head(settings.name) + OmegaConf.to_yaml(OmegaConf.create(composed))
    write_whole(settings.folder / "config.yaml", kept_config)
    begun, begun_at = len(ledger.trials()), datetime.now()
    ledger.keep_fingerprint(fingerprint.kept)
    steered_by = section(config, "sampler")
    sampler = build_sampler(steered_by, space, first_seed(steered_by, settings.seed, begun))
    pruner = build_pruner(section(config, "pruner"), settings.objective)
    mirror = tracker
    tracker, view = watch(check_mode(setting(config, "live")), settings, ledger, tracker)
    by_trial = sampler_by_trial(sampler, steered_by, settings.seed)
    coordinator = Coordinator(settings, space, ledger, executor, tracker, sampler, pruner, by_trial)
    tracker.search_started(settings.name, composed, _description(settings, begun_at), resumed=ledger.is_resumed)
    for record in (*ledger.records(), *ledger.confirmations()):
        # An earlier run may not have come to write it; what is there is not written again.
        mirror.trial_ended(record)
    _log.info("search %s: %s, at most %s", settings.name, settings.objective.metric, _limits(settings))
    if known := remark(sampler, pruner):
        _log.info("%s", known)
    ledger.note(sampler=_option("sampler", config.sampler), pruner=_option("pruner", config.pruner))
    interrupts = Interrupts(coordinator)
    status = "FAILED"
    with handling_signals(interrupts):
        try:
            with view:
                coordinator.run()
                outcome = _take_stock(settings, composed, ledger, coordinator, executor)
                if not interrupts and not outcome.is_noise:
                    interrupts.stage = confirmation = Confirmation(settings, outcome.records, ledger, tracker)
                    confirmation.run(executor)
            status = "KILLED" if interrupts else "FINISHED"
        except KeyboardInterrupt:
            status = "KILLED"
        finally:
            is_told = False
            while not is_told:  # each further signal leaves out what takes long, and has the rest done again
                with suppress(KeyboardInterrupt):
                    if interrupts.is_urgent:
                        ledger.read_again()
                    ledger.lay_down()
                    outcome = _take_stock(settings, composed, ledger, coordinator, executor)
                    written = report.write(outcome, settings.folder, with_page=not interrupts.is_urgent)
                    states = Counter(record.state.value for record in outcome.records)
                    files = [settings.folder / "config.yaml", *written.files]
                    answer = dated(written.answer, begun_at)
                    tracker.search_ended(outcome.winner, states, outcome.history, files, status, answer)
                    tracker.close()
                    is_told = True
            ledger.close()
    if interrupts:
        _log.info("interrupted; the same command with study.name=%s goes on", settings.name)
        return Ran(outcome, settings.folder, EXIT_CODES[interrupts.received[0]])
    return Ran(outcome, settings.folder, _say_best(settings, outcome, tracker))


def _set_aside(config: DictConfig, settings: Settings) -> str | None:
    """Give the study another name, and have an empty folder in its place."""
    with StudyLock(settings.folder):
        aside = set_aside(config, settings)
    settings.folder.mkdir(parents=True, exist_ok=True)
    return aside


def _head(study: str) -> str:
    """The command that goes on with a study, as config.yaml begins; nothing where this process is no such command."""
    _, *words = sys.orig_argv  # which Hydra's quoting has not touched
    if words[:2] != ["-m", "autotune.search"] or {"-m", "--multirun"} & {*words[2:]}:
        return ""
    words = [word for word in words if not word.lstrip("+").startswith("study.resume=")]  # said of one run alone
    is_named = any(word.lstrip("+").startswith("study.name=") for word in words)
    return mask(f"# {shlex.join(['python', *words, *([] if is_named else [f'study.name={study}'])])}\n")


class Interrupts:
    """What a signal does: the first ends the search in good order, the second at once.

    Args:
        stage: What is under way.
    """

    def __init__(self, stage: Coordinator | Confirmation) -> None:
        self.stage = stage
        self.received: list[signal.Signals] = []

    def __call__(self, by: signal.Signals) -> None:
        """Hear a signal."""
        self.received.append(by)
        if len(self.received) > 1:
            raise KeyboardInterrupt
        self.stage.interrupt(f"interrupted by {by.name}")

    def __bool__(self) -> bool:
        return bool(self.received)

    @property
    def is_urgent(self) -> bool:
        """Whether whoever waits has said so twice."""
        return len(self.received) > 1


def _take_stock(
    settings: Settings, composed: Mapping[str, Any], ledger: Ledger, coordinator: Coordinator, executor: Executor
) -> Outcome:
    """Keep with the study what its trials do not tell, and say what it has come to."""
    outcome = Outcome.of(ledger, settings.name, settings.objective, composed)
    chance = None if outcome.best is None else executor.chance(outcome.best.config)
    ledger.note(
        executor=executor.name,
        finished=coordinator.finished,
        refused=dict(Counter(coordinator.refused.values())),
        duplicates=coordinator.duplicates,
        guessing=None if chance is None else asdict(chance),
    )
    return replace(outcome, notes=ledger.notes)


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
    """Whether the study has a trial that is worth keeping: one that ended."""
    path = folder / "summary.json"
    unended = {State.RUNNING.value, State.WAITING.value}
    return path.exists() and bool(json.loads(path.read_text())["states"].keys() - unended)


def _say_broken(what: str, config: Mapping[str, Any], error: Exception) -> int:
    """Show the user's code that raised, and what it was given."""
    print(what, file=sys.stderr)
    print(OmegaConf.to_yaml(OmegaConf.create(dict(config))), file=sys.stderr)
    assert error.__cause__ is not None
    traceback.print_exception(error.__cause__)
    return 1


def _say_best(settings: Settings, outcome: Outcome, tracker: Tracker) -> int:
    notes, winner, standing = outcome.notes, outcome.winner, outcome.standing
    if notes["finished"]:
        _log.info("ended: %s", notes["finished"])
    if notes["refused"]:
        _log.info("refused before training: %d configurations", sum(notes["refused"].values()))
    if winner is None:
        _log.error("no trial was trained to its end; see %s", settings.folder / "trials.csv")
        return 1
    _log.info("")
    if outcome.is_noise:
        _log.info("nothing learnable was found: %s", outcome.verdict)
    _log.info(
        "%s: %s with %s %.6g (trial %d)",
        "no winner; the luckiest draw" if outcome.is_noise else "best",
        naming.strategy(winner.config),
        settings.objective.metric,
        winner.objective,
        winner.number,
    )
    if standing is not None:
        _log.info("confirmed: %s", standing.winner.score)
        _log.info("%s%s", "a tie; " if standing.is_tie else "", standing.why)
    for name, value in winner.params.items():
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


def _description(settings: Settings, begun: datetime) -> str:
    objective = settings.objective
    what = f"Search for the strategy that {objective.direction}s `{objective.metric}`, at most {_limits(settings)}."
    return dated(what, begun)


if __name__ == "__main__":
    as_program(main)
