"""One run of a search on a study that it holds: from the first look at its parts to the answer."""

from __future__ import annotations

import itertools
import logging
import shlex
import signal
import sys
from collections import Counter
from collections.abc import Mapping
from contextlib import closing, nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from autotune import naming, report
from autotune.compose import plain, section, setting, typed_again
from autotune.confirm import Confirmation
from autotune.construct import construct
from autotune.errors import UserError, raised
from autotune.imports import uncollected
from autotune.interrupts import EXIT_CODES, Signalled, handling_signals
from autotune.kept.fingerprint import Fingerprint
from autotune.kept.lease import LeaseLostError
from autotune.kept.ledger import Ledger
from autotune.kept.outcome import Outcome
from autotune.kept.storage import open_storage
from autotune.kept.whole import write_whole
from autotune.live import check_mode, watch
from autotune.logs import hush_libraries, measuring
from autotune.settings import Settings
from autotune.space import Space
from autotune.steering import build_pruner, build_sampler, first_seed, remark, sampler_by_trial
from autotune.study import Coordinator
from autotune.tracking import Ending, Study, Tracker
from autotune.tracking.entries import dated
from autotune.trial import Executor, Reason
from autotune.trust.masking import kept, mask
from autotune.typed import train_command

_log = logging.getLogger("autotune.search")  # what it says is the search's

REHEARSED = 50


class RehearsalError(Exception):
    """The user's code raised while the parts of a trial were built, before anything was trained.

    Args:
        config: The resolved config they were built from.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config
        super().__init__("the parts of a trial cannot be built")

    def __str__(self) -> str:
        return super().__str__() if self.__cause__ is None else f"{super().__str__()}: {raised(self.__cause__)}"


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


class Session:
    """A run of the search.

    Args:
        config: Composed and checked.
        settings: What it says of the search.
        space: What may be tried.
        fingerprint: What the study's values depend on.
        aside: The study that had the name before, where it was begun anew.
    """

    def __init__(
        self, config: DictConfig, settings: Settings, space: Space, fingerprint: Fingerprint, aside: Study | None
    ) -> None:
        self._config, self._settings, self._space = config, settings, space
        self._fingerprint, self._aside = fingerprint, aside
        self._begun_at = datetime.now()
        self._composed = kept(plain(config))
        self._composed["study"] |= {"name": settings.name, "resume": None}  # which was said of this run alone
        with uncollected():
            self._mirror: Tracker = construct("tracking", section(config, "tracking"), home=settings.home)
            self._executor: Executor = construct("executor", section(config, "executor"), trials=settings.budget.trials)
        hush_libraries()

    def run(self) -> Ran:
        """Search, confirm and answer.

        Raises:
            UserError: Nothing can be built, or trained, as the config says.
            RehearsalError: The user's code raised before anything was trained.
            TrialCodeError: The user's code raised while a trial was trained.
            LeaseLostError: Another search has taken the study over; nothing was written since.
        """
        _rehearse(self._space, self._executor)
        settings = self._settings
        storage, journal = open_storage(section(self._config, "storage"), settings.folder)
        with (
            nullcontext() if journal is None else closing(journal),  # a ledger that cannot begin has not closed it
            closing(Ledger(storage, journal, settings.name, settings.objective.direction)) as self._ledger,
        ):
            self._lay_down()
            # What is told to the tracker is drawn too; what the mirror has missed is not.
            self._tracker, view = watch(check_mode(setting(self._config, "live")), settings, self._ledger, self._mirror)
            self._coordinator = self._coordinate()
            self._interrupts = Interrupts(self._coordinator)
            with handling_signals(self._interrupts):
                status = "FAILED"
                try:
                    with view:
                        self._search()
                    status = "KILLED" if self._interrupts else "FINISHED"
                except KeyboardInterrupt:
                    status = "KILLED"
                finally:
                    outcome = self._end(status)
        if self._interrupts:
            _log.info("interrupted; the same command with study.name=%s goes on", settings.name)
            return Ran(outcome, settings.folder, EXIT_CODES[self._interrupts.received[0]])
        return Ran(outcome, settings.folder, _say_best(settings, outcome, self._mirror))

    def _lay_down(self) -> None:
        """Keep what the study is, before it has a trial of this run."""
        ledger = self._ledger
        ledger.lay_down()
        if self._aside is not None and self._aside.id is not None:
            ledger.keep_aside(self._aside)
        kept_config = _head(self._settings.name) + OmegaConf.to_yaml(OmegaConf.create(self._composed))
        write_whole(self._settings.folder / "config.yaml", kept_config)
        ledger.keep_fingerprint(self._fingerprint.kept)

    def _coordinate(self) -> Coordinator:
        """The coordinator, and the mirror brought up to what earlier runs did."""
        settings, space, ledger = self._settings, self._space, self._ledger
        steered_by = section(self._config, "sampler")
        sampler = build_sampler(steered_by, space, first_seed(steered_by, settings.seed, len(ledger.trials())))
        pruner = build_pruner(section(self._config, "pruner"), settings.objective)
        by_trial = sampler_by_trial(sampler, steered_by, settings.seed)
        coordinator = Coordinator(settings, space, ledger, self._executor, self._tracker, sampler, pruner, by_trial)
        self._tracker.search_started(
            ledger.study, self._composed, _description(settings, self._begun_at), resumed=ledger.is_resumed
        )
        for record in (*ledger.records(), *ledger.confirmations()):
            # An earlier run may not have come to write it; what is there is not written again.
            self._mirror.trial_ended(record)
        _log.info("search %s: %s, at most %s", settings.name, settings.objective.metric, settings.budget.words)
        if known := remark(sampler, pruner):
            _log.info("%s", known)
        ledger.note(
            sampler=_option("sampler", self._config.sampler),
            pruner=_option("pruner", self._config.pruner),
            typed=[mask(word) for word in typed_again(self._config)],
        )
        return coordinator

    def _search(self) -> None:
        """Train trials while the budget lasts, then the best again."""
        self._coordinator.run()
        outcome = self._compare_rows(self._take_stock())
        if not self._interrupts and not outcome.is_noise:
            confirmation = Confirmation(self._settings, outcome.records, self._ledger, self._tracker)
            self._interrupts.stage = confirmation
            confirmation.run(self._executor)

    def _compare_rows(self, outcome: Outcome) -> Outcome:
        """Where the best value may be a guess, train the trial again and look at its answers row by row."""
        best, look = outcome.best, outcome.best_look
        if self._interrupts or best is None or look is None or outcome.verdict is not None:
            return outcome
        if outcome.notes["guessing"] is None:
            return outcome
        _log.info("the best may be a guess: trial %d is trained again, and its answers compared row by row", look[0])
        luck = self._executor.luck(best.config, look[1], lambda: bool(self._interrupts))
        if luck is None:
            return outcome
        self._ledger.note(paired={"look": look, "luck": luck})
        return replace(outcome, notes=self._ledger.notes)

    def _end(self, status: str) -> Outcome:
        """Write the answer, and have the mirror written; what cannot be written now is by the same command."""
        try:
            while True:  # each further signal leaves out what takes long, and has the rest done again
                with suppress(KeyboardInterrupt):
                    return self._answer(status)
        except LeaseLostError:
            self._tracker.abandon()
            raise
        finally:
            with suppress(KeyboardInterrupt):
                self._tracker.close()
            self._ledger.close()

    def _answer(self, status: str) -> Outcome:
        is_urgent = self._interrupts.is_urgent
        if is_urgent:
            self._ledger.read_again()
        self._ledger.lay_down()
        outcome = self._take_stock()
        folder = self._settings.folder
        written = report.write(outcome, folder, with_page=not is_urgent)
        states = Counter(record.state.value for record in outcome.records)
        files = [folder / "config.yaml", *written.files]
        answer = dated(written.answer, self._begun_at)
        self._tracker.search_ended(Ending(status, outcome.winner, states, outcome.history, files, answer))
        self._tracker.close()
        return outcome

    def _take_stock(self) -> Outcome:
        """Keep with the study what its trials do not tell, and say what it has come to."""
        outcome = Outcome.of(self._ledger, self._settings.name, self._settings.objective, self._composed)
        chance = None
        with measuring("what guessing reaches"):
            chance = None if outcome.best is None else self._executor.chance(outcome.best.config)
        self._ledger.note(
            executor=self._executor.name,
            finished=self._coordinator.finished,
            refused=dict(Counter(self._coordinator.refused.values())),
            duplicates=self._coordinator.duplicates,
            guessing=None if chance is None else asdict(chance),
        )
        return replace(outcome, notes=self._ledger.notes)


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
            raise Signalled(by)
        self.stage.interrupt(f"interrupted by {by.name}")

    def __bool__(self) -> bool:
        return bool(self.received)

    @property
    def is_urgent(self) -> bool:
        """Whether whoever waits has said so twice."""
        return len(self.received) > 1


def _rehearse(space: Space, executor: Executor) -> None:
    """Build each branch once before anything is stored, so that what cannot be built at all is found first."""
    from autotune.executors.memory import too_large_said

    for point in itertools.islice(space.tour(), REHEARSED):
        config = space.resolve(point)
        try:
            with too_large_said():
                if executor.refuses(config) is None:
                    executor.rehearse(config)
        except UserError:
            raise
        except Exception as error:
            raise RehearsalError(config) from error


def _say_best(settings: Settings, outcome: Outcome, tracker: Tracker) -> int:
    notes, winner, standing = outcome.notes, outcome.winner, outcome.standing
    if notes["finished"]:
        _log.info("ended: %s", notes["finished"])
    if notes["refused"]:
        _log.info("refused before training: %d configurations", sum(notes["refused"].values()))
    if winner is None:
        _log.error("no trial was trained to its end; see %s", settings.folder / "trials.csv")
        _say_divergence(outcome)
        return 1
    _log.info("")
    if outcome.is_noise:
        _log.info("nothing learnable was found: %s", outcome.verdict)
    _log.info(
        "%s: %s with %s %.6g (trial %d)",
        "no winner; the luckiest draw" if outcome.is_noise else "best",
        naming.strategy(winner.config, winner.params),
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
    _log.info("train the best:  %s", train_command(settings.name, outcome.config, notes))
    return 0


def _say_divergence(outcome: Outcome) -> None:
    """Say what was seen where trials diverged, since a limit that is too low ends all of them."""
    diverged = [record for record in outcome.records if record.reason == Reason.DIVERGED]
    if diverged:
        told = next((record for record in diverged if "objective." in (record.error or "")), diverged[0])
        of = f"{len(diverged)} of {len(outcome.records)} trials diverged"
        _log.error("%s; trial %d: %s", of, told.number, told.error or "a loss is no number")


def _option(group: str, section: Mapping[str, Any]) -> str:
    choice = HydraConfig.get().runtime.choices.get(group) if HydraConfig.initialized() else None
    return str(choice or section.get("name") or section["_target_"])


def _description(settings: Settings, begun: datetime) -> str:
    objective = settings.objective
    what = f"Search for the strategy that {objective.direction}s `{objective.metric}`, at most {settings.budget.words}."
    return dated(what, begun)


def _head(study: str) -> str:
    """The command that goes on with a study, as config.yaml begins; nothing where this process is no such command."""
    _, *words = sys.orig_argv  # which Hydra's quoting has not touched
    if words[:2] != ["-m", "autotune.search"] or {"-m", "--multirun"} & {*words[2:]}:
        return ""
    words = [word for word in words if not word.lstrip("+").startswith("study.resume=")]  # said of one run alone
    is_named = any(word.lstrip("+").startswith("study.name=") for word in words)
    return mask(f"# {shlex.join(['python', *words, *([] if is_named else [f'study.name={study}'])])}\n")
