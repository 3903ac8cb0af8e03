"""A study's mirror in MLflow, made whole from the study: ``python -m autotune.sync [from=<study>] [home=mlruns]``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from omegaconf import DictConfig

from autotune.compose import run_command, setting
from autotune.errors import UserError, first_line
from autotune.kept.lease import held
from autotune.kept.outcome import Outcome, read, studies, study_folder
from autotune.kept.storage import StudyLock
from autotune.logs import hush_libraries
from autotune.reconcile import Difference, difference, mirror_of
from autotune.settings import address, home_folder
from autotune.tracking import Ending
from autotune.tracking.entries import Identity, dated, milliseconds
from autotune.tracking.mirror import Beginning, Mirror
from autotune.tracking.mlflow import spread
from autotune.tracking.store import Store
from autotune.tracking.writer import Claim
from autotune.trial import Reason, Record, State
from autotune.trust.masking import mask

ALL = "all"
# What the parent run shows besides config.yaml, in the order in which a search writes it.
FILES = ("config.yaml", "best.yaml", "trials.csv", "trials.parquet", "summary.json", "report.html")


@dataclass(frozen=True, slots=True)
class Synced:
    """What was written of a study.

    Attributes:
        written: How many runs were written, or removed.
        left: What MLflow and the study still do not agree on, in words: a param of a run cannot be changed.
    """

    written: int
    left: list[str]


def main() -> None:
    """Run the command."""
    run_command("sync", check_config, command)


def check_config(config: DictConfig) -> tuple[list[str], Path, str | None]:
    """The studies that a composed config names, their home, and where the runs are kept.

    Raises:
        UserError: A study is not there, or the address is none.
    """
    home = home_folder(setting(config, "home"))
    named, uri = setting(config, "from"), address("uri", setting(config, "uri"))
    names = studies(home) if named in (None, ALL) else [str(named)]
    if not names:
        raise UserError("from", f"no study in {home}", "search first: python -m autotune.search")
    for name in names:
        study_folder(name, home)
    return names, home, uri


def command(config: DictConfig) -> int:
    """Bring the mirrors of the studies up to them; returns the exit code: 1 where MLflow did not take all of it."""
    names, home, uri = check_config(config)
    hush_libraries()
    is_whole = True
    for name in names:
        try:
            done = sync(name, home, uri)
        except UserError as error:
            if len(names) == 1:
                raise
            print(f"{name}: left out ({mask(error.problem)}; {mask(error.remedy)})")
        except Exception as error:  # whatever MLflow, a database or a network says: the other studies may fare better
            is_whole = False
            print(f"{name}: not written ({mask(first_line(error))})")
        else:
            is_whole = is_whole and not (done and done.left)
            print(f"{name}: {_said(done)}")
    return 0 if is_whole else 1


def _said(done: Synced | None) -> str:
    if done is None:
        return "is not tracked"
    written = f"{done.written} runs written" if done.written else "nothing to write"
    return "\n  ".join([written, *done.left])


def sync(study: str, home: Path, uri: str | None = None) -> Synced | None:
    """Bring the mirror of a study up to the study; what it says already is not written again.

    Args:
        study: The study's name.
        home: Its home.
        uri: Where the runs are kept; see `autotune.reconcile.mirror_of`.

    Returns:
        What was written; None where the study is not tracked.

    Raises:
        UserError: There is no such study, a search holds it, or where it is mirrored is not known.
        Exception: Whatever MLflow says where it does not take it.
    """
    folder = study_folder(study, home)
    with StudyLock(folder, "from"):
        outcome = read(study, home)
        if outcome.holder is not None:
            raise held(study, outcome.holder, "from")
        place = mirror_of(outcome, home, uri)
        if place is None:
            return None
        with _claimed(home, study):
            found = difference(outcome, *place)
            if not found:
                return Synced(0, [])
            written = _write(outcome, found, *place, folder)
            return Synced(written, difference(outcome, *place).words())


@contextmanager
def _claimed(home: Path, study: str) -> Iterator[None]:
    claim = Claim(home.absolute(), study)
    claim.take()
    try:
        yield
    finally:
        claim.release()


def _write(outcome: Outcome, found: Difference, store: Store, experiment: str, folder: Path) -> int:
    """Write what differs, and the parent's end; returns how many runs were written."""
    assert outcome.study is not None
    records = [_at_rest(record) for record in (*outcome.records, *outcome.confirmations)]
    begun = min((record.started for record in records), default=datetime.now().astimezone())
    ended = max((record.ended for record in records if record.ended is not None), default=begun)
    mirror = Mirror(store, experiment)
    mirror.open()
    try:
        mirror.adopt(Beginning(outcome.study, outcome.config, "", True, milliseconds(begun)))
        stale = [record for record in records if Identity.of(record) in found.children]
        for record in stale:
            times = spread(record, record.epochs, None, milliseconds(record.ended or record.started))
            mirror.write(record, times, milliseconds(record.ended or record.started), is_doubted=True)
        known = {Identity.of(record) for record in records}
        strays = [identity for identity in found.children if identity not in known]
        for identity in strays:
            mirror.remove(identity)
        mirror.end(
            Ending(
                mirror.status or _status(outcome),
                outcome.winner,
                _counts(records, outcome),
                outcome.history,
                [folder / name for name in FILES],
                "" if mirror.status else _answer(outcome, begun),
                milliseconds(ended),
            )
        )
    finally:
        mirror.close()
    return len(stale) + len(strays) + bool(found.parent)


def _at_rest(record: Record) -> Record:
    """A trial as it is while no search holds the study: one that a killed search left running is interrupted."""
    if record.state != State.RUNNING:
        return record
    return replace(record, state=State.WAITING, reason=Reason.INTERRUPTED)


def _counts(records: list[Record], outcome: Outcome) -> dict[str, int]:
    return dict(Counter(record.state.value for record in records[: len(outcome.records)]))


def _status(outcome: Outcome) -> str:
    """How the search's run ends that never did: as far as the study tells."""
    finished = str(outcome.notes.get("finished") or "")
    if any(record.reason == Reason.ERROR for record in outcome.records):
        return "FAILED"
    return "KILLED" if not finished or finished.startswith("interrupted") else "FINISHED"


def _answer(outcome: Outcome, begun: datetime) -> str:
    """What came of the search, in Markdown; empty where nothing did."""
    if outcome.winner is None:
        return ""
    from autotune.report.findings import Findings  # imports scikit-learn
    from autotune.report.sentences import markdown

    return dated(markdown(outcome, Findings.of(outcome)), begun.astimezone())


if __name__ == "__main__":
    main()
