"""Whether a study goes on as it is, goes on with a changed space, or is set aside for one that begins anew."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial

from autotune.compose import section
from autotune.errors import UserError
from autotune.kept.database import Database
from autotune.kept.fingerprint import Fingerprint, check_unchanged
from autotune.kept.lease import held
from autotune.kept.ledger import LedgerView, identify
from autotune.kept.storage import StudyLock, open_storage, read_storage
from autotune.kept.whole import write_whole
from autotune.settings import Settings
from autotune.space import Space, as_grammar
from autotune.sqlite_url import quoted_below, sqlite_path
from autotune.tracking import Study
from autotune.trust import resolved_yaml

JOURNAL = "study.journal"


def check_resume(config: DictConfig, settings: Settings, space: Space, fingerprint: Fingerprint) -> list[str]:
    """Find out whether the study of a config goes on with it; writes nothing.

    Returns:
        What is different and is gone on with, a text each.

    Raises:
        UserError: It was begun with what cannot be gone on with.
    """
    storage_section = section(config, "storage")
    if not _is_begun(storage_section, settings.folder):
        return []
    storage = read_storage(storage_section, settings.folder)
    try:
        ledger = LedgerView(storage, settings.name)
        if (holder := ledger.holder) is not None:
            raise held(settings.name, holder)
        kept = ledger.fingerprint
        if kept is None:  # an earlier version began it
            return []
        differences = check_unchanged(settings.name, fingerprint, Fingerprint.read(kept), settings.resume)
        if differences and storage_section.get("url") is not None:
            _check_database(space, ledger.trials())
    except KeyError:
        return []
    finally:
        storage.remove_session()
    return [str(each) for each in differences]


def _check_database(space: Space, trials: Sequence[FrozenTrial]) -> None:
    """Optuna's databases, as against its journal, keep a parameter's kind, its choices and its scale as they began."""
    begun: dict[str, BaseDistribution] = {}
    for trial in trials:
        begun = {**trial.distributions, **begun}
    for name, search in space.parameters().items():
        now, was = search.distribution, begun.get(name, search.distribution)
        is_kept = type(now) is type(was) and getattr(now, "log", None) == getattr(was, "log", None)
        if isinstance(now, CategoricalDistribution):
            is_kept = now == was
        if not is_kept:
            problem = f"{as_grammar(now)} was {as_grammar(was)}, and in a database only the ends of a range can change"
            raise UserError(name, problem, "give study.resume=fresh to begin anew, or study.name=... for another study")


def set_aside(config: DictConfig, settings: Settings) -> Study | None:
    """Give a study and its folder another name, the first that is free of ``<name>.1``, ``<name>.2``, ...

    To be called by whoever holds the study's lock, which is let go of with the folder.

    Returns:
        The study as it is from then on, without an id where there was but a folder; None where there is nothing.

    Raises:
        UserError: The storage cannot be opened.
    """
    folder = settings.folder
    if not [path for path in folder.iterdir() if path.name != StudyLock.FILE]:
        return None
    number = 1
    while (name := f"{settings.name}.{number}") in _taken(config, settings):
        number += 1
    study = Study(name, None)
    aside = folder.with_name(name)
    is_kept = _is_begun(section(config, "storage"), folder) and settings.name in _names(config, folder, settings.name)
    if is_kept:  # under both names until the folder has the other one, so that none is lost in between
        storage, journal = open_storage(section(config, "storage"), folder)
        study_id = storage.get_study_id_from_name(settings.name)
        if isinstance(storage, Database):
            storage.hold(study_id, settings.name)
        identify(storage, study_id, settings.name)
        optuna.copy_study(from_study_name=settings.name, from_storage=storage, to_storage=storage, to_study_name=name)
        if isinstance(storage, Database):
            storage.forget_holder(storage.get_study_id_from_name(name))
            storage.release()
        study = LedgerView(storage, name).study
        storage.remove_session()
        if journal is not None:
            journal.close()
    folder.rename(aside)
    (aside / StudyLock.FILE).unlink(missing_ok=True)
    _rename_in_files(aside, settings.name)
    if is_kept:
        storage, journal = open_storage(_storage(config, name), aside)
        optuna.delete_study(study_name=settings.name, storage=storage)
        storage.remove_session()
        if journal is not None:
            journal.close()
    return study


def _is_begun(storage: Mapping[str, Any], folder: Path) -> bool:
    """Whether there may be a study to read; looking for one may make a file otherwise."""
    url = storage.get("url")
    if url is None:
        return (folder / JOURNAL).is_file()
    path = sqlite_path(quoted_below(str(url), folder))
    return path is None or path.is_file()


def _storage(config: DictConfig, name: str) -> dict[str, Any]:
    """The section ``storage`` for a study of another name, in whose folder it may be."""
    needed = OmegaConf.masked_copy(config, ["home", "study", "storage"])
    needed.study.name = name
    return section(needed, "storage")


def _names(config: DictConfig, folder: Path, name: str) -> set[str]:
    storage = read_storage(_storage(config, name), folder)
    names = {study.study_name for study in optuna.get_all_study_summaries(storage, include_best_trial=False)}
    storage.remove_session()
    return names


def _taken(config: DictConfig, settings: Settings) -> set[str]:
    """Names that a folder or a study of the storage has."""
    taken = {path.name for path in settings.folder.parent.iterdir()}
    if _is_begun(section(config, "storage"), settings.folder):
        taken |= _names(config, settings.folder, settings.name)
    return taken


def _rename_in_files(folder: Path, was: str) -> None:
    """Have the files from which commands read a study's name say the folder's."""
    path = folder / "config.yaml"
    if path.is_file():
        head = [line for line in path.read_text().splitlines(keepends=True)[:1] if line.startswith("#")]
        kept = OmegaConf.load(path)
        kept.study.name = folder.name
        pattern = rf"study\.name={re.escape(was)}(?=['\s])"
        text = re.sub(pattern, f"study.name={folder.name}", "".join(head)) + OmegaConf.to_yaml(kept)
        write_whole(path, text)
    path = folder / "best.yaml"
    if path.is_file():
        head = [line for line in path.read_text().splitlines(keepends=True) if line.startswith("#")]
        best = resolved_yaml.load(path.read_text())
        best["origin"]["study"] = folder.name
        text = re.sub(rf" from={re.escape(was)}(?=\s)", f" from={folder.name}", "".join(head))
        write_whole(path, text + resolved_yaml.written(best))
    path = folder / "summary.json"
    if path.is_file():
        summary = json.loads(path.read_text())
        write_whole(path, json.dumps({**summary, "study": folder.name}, indent=2) + "\n")
