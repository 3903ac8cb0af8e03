"""The search: ``python -m autotune.search [key=value ...]``."""

from __future__ import annotations

import itertools
import json
import logging
import shutil
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from optuna.exceptions import StorageInternalError

from autotune.claims import claim
from autotune.compose import check_sections, run_command, section, setting
from autotune.construct import construct
from autotune.disk import disk_errors_said
from autotune.errors import UserError, first_line, nearest, raised
from autotune.final.origin import GROUPS
from autotune.imports import uncollected
from autotune.interrupts import as_program, undone_first
from autotune.kept.fingerprint import Fingerprint
from autotune.kept.lease import LeaseLostError
from autotune.kept.resume import check_resume, set_aside
from autotune.kept.storage import StudyLock
from autotune.live import check_mode
from autotune.logs import hush_libraries, logging_to
from autotune.session import REHEARSED, Ran, RehearsalError, Session
from autotune.settings import Settings, address, complete_objective, discard, discard_empty
from autotune.space import Space, check, check_whole
from autotune.steering import build_pruner, build_sampler
from autotune.tracking import Study
from autotune.trial import Executor, State, TrialCodeError
from autotune.trust.masking import mask
from autotune.trust.targets import check_name, check_names

_log = logging.getLogger("autotune.search")  # not __name__, which is __main__ where it is run as a command

LOG = "search.log"

SECTIONS = ("study", "budget", "confirm", "objective", "sampler", "pruner", "storage", "executor", "tracking")


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
    address("tracking.uri", sections["tracking"].get("uri"))
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
        resolved = space.resolve(point)
        check_names(resolved)
        check_whole(resolved)
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
            print(_broken_by(error.config, error), file=sys.stderr)  # there is no log to keep it in
            return _say_broken("a branch", error)
    return 0


def search(config: DictConfig) -> int:
    """Search; returns the exit code: `Ran.exit_code`, or 1 where the user's code broke."""
    log = Path(setting(config, "home"), "studies", str(section(config, "study")["name"]), LOG)
    try:
        return run(config).exit_code
    except RehearsalError as error:
        return _say_broken("the building of a trial", error, log)
    except TrialCodeError as error:
        return _say_broken(f"trial {error.record.number} ({error.record.name})", error, log)


def run(config: DictConfig, claims_name: bool = False) -> Ran:
    """Search as a composed config says, or go on with the study it names.

    Args:
        config: Composed.
        claims_name: Whether the study is to be a new one, named so that no other has the name.

    Raises:
        UserError: The config cannot be searched, and nothing is left of a study that was just begun; or the study
            cannot be written on, and what had ended is kept.
        RehearsalError: The user's code raised before anything was trained.
        TrialCodeError: The user's code raised while a trial was trained.
    """
    settings, space = check_config(config)
    try:
        with disk_errors_said(settings.home):
            if claims_name:
                settings = replace(settings, name=claim(settings.folder))
                config.study.name = settings.name
            return _run(config, settings, space)
    except LeaseLostError as error:
        problem = f"{settings.name} was taken over by {error} while this search did not answer"
        raise UserError("study.name", problem, "wait for that one; the same command goes on behind it") from error
    except StorageInternalError as error:
        said = f"{settings.name} cannot be written on ({first_line(error.__cause__ or error)})"
        raise UserError("storage", mask(said), "see to the database; the same command goes on") from error


def _run(config: DictConfig, settings: Settings, space: Space) -> Ran:
    try:
        fingerprint = Fingerprint.of(space)
    except UserError:
        discard_empty(settings.folder, settings.home)  # which Hydra made
        raise
    settings.folder.mkdir(parents=True, exist_ok=True)
    aside = _set_aside(config, settings) if settings.resume == "fresh" else None
    with StudyLock(settings.folder):
        if section(config, "storage").get("url") is None and _only_raised(settings.folder):
            _clear(settings.folder)
        # The log alone is what a search left whose parts could not be built.
        is_new = {path.name for path in settings.folder.iterdir()} <= {StudyLock.FILE, LOG}
        undone = undone_first(partial(discard, settings.folder, settings.home)) if is_new else nullcontext()
        try:
            changes = check_resume(config, settings, space, fingerprint)
            with logging_to(settings.folder / LOG), undone:
                if aside is not None:
                    _log.info("the earlier study %s is kept as %s", settings.name, aside.name)
                if changes:
                    _log.info("study %s goes on with what changed: %s", settings.name, ", ".join(changes))
                with _reason_kept():
                    return Session(config, settings, space, fingerprint, aside).run()
        except UserError:
            if is_new and not _has_ended(settings.folder):
                discard(settings.folder, settings.home)
            raise
        except OSError:
            if is_new and not (settings.folder / "config.yaml").exists():
                discard(settings.folder, settings.home)
            raise
        except KeyboardInterrupt:  # before there was anything to end in good order
            if is_new and not (settings.folder / "summary.json").exists():
                discard(settings.folder, settings.home)
            raise


@contextmanager
def _reason_kept() -> Iterator[None]:
    """Have search.log say why a search ended that did not end in good order; the terminal is told elsewhere."""
    try:
        yield
    except Exception as error:
        if isinstance(error, RehearsalError | TrialCodeError):
            config = error.config if isinstance(error, RehearsalError) else error.record.config
            _log.debug("the user's code raised\n%s", _broken_by(config, error))
        cause = error.__cause__ if isinstance(error, StorageInternalError) else None
        _log.debug("ended by %s: %s", type(error).__name__, mask(first_line(cause or error)))
        raise


def _set_aside(config: DictConfig, settings: Settings) -> Study | None:
    """Give the study another name, and have an empty folder in its place."""
    with StudyLock(settings.folder):
        aside = set_aside(config, settings)
    settings.folder.mkdir(parents=True, exist_ok=True)
    return aside


def _only_raised(folder: Path) -> bool:
    """Whether the user's code raised in every trial there is, so that nothing is worth going on with."""
    path = folder / "summary.json"
    return path.exists() and json.loads(path.read_text()).get("reasons", {}).keys() == {"error"}


def _clear(folder: Path) -> None:
    """Remove what a study left but for its log."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in (StudyLock.FILE, LOG):
            path.unlink()


def _has_ended(folder: Path) -> bool:
    """Whether the study has a trial that is worth keeping: one that ended."""
    path = folder / "summary.json"
    unended = {State.RUNNING.value, State.WAITING.value}
    return path.exists() and bool(json.loads(path.read_text())["states"].keys() - unended)


def _broken_by(config: Mapping[str, Any], error: Exception) -> str:
    """What the user's code was given, and the traceback of what it raised."""
    trace = "".join(traceback.format_exception(error.__cause__ or error))
    return mask(f"{OmegaConf.to_yaml(OmegaConf.create(dict(config)))}\n{trace}")


def _say_broken(what: str, error: Exception, log: Path | None = None) -> int:
    """Say in one line, the last one, what the user's code raised and where."""
    details = "" if log is None else f"; its config and the traceback are in {log}"
    print(mask(f"error: {what} raised {raised(error.__cause__ or error)}{details}"), file=sys.stderr)
    return 1


if __name__ == "__main__":
    as_program(main)
