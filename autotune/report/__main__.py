"""The strategy report, made again: ``python -m autotune.report from=<study> [home=mlruns]``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from autotune.compose import run_command, setting
from autotune.errors import UserError
from autotune.kept.outcome import Outcome, read, studies, study_folder
from autotune.logs import hush_libraries
from autotune.report.files import write_best, write_comparison, write_report, write_summary, write_trials
from autotune.report.files import write_trials_table as write_table
from autotune.settings import home_folder


def main() -> None:
    """Run the command."""
    run_command("report", check_config, report)


def check_config(config: DictConfig) -> tuple[list[str], Path]:
    """The studies that a composed config names, and their home.

    Raises:
        UserError: None is named, or one is not there.
    """
    home = home_folder(setting(config, "home"))
    named = setting(config, "from")
    names = named if isinstance(named, list) else [named]
    if named is None or not names:
        known = studies(home)
        remedy = f"give a study: from={known[-1]}" if known else "search first: python -m autotune.search"
        raise UserError("from", "no study is named", remedy)
    names = [str(name) for name in names]
    for name in names:
        study_folder(name, home)
        if names.count(name) > 1:
            raise UserError("from", f"{name} is named twice", "name each study once")
    return names, home


def report(config: DictConfig) -> int:
    """Write the report of one study, or the comparison of several; returns the exit code.

    Raises:
        UserError: A study has no trial yet.
    """
    names, home = check_config(config)
    hush_libraries()
    outcomes = [read(name, home) for name in names]
    for outcome in outcomes:
        if not outcome.records:
            raise UserError("from", f"the study {outcome.name} has no trial yet", "let it search on")
    paths = _one(outcomes[0], home) if len(outcomes) == 1 else [_several(outcomes, home)]
    for path in paths:
        print(path)
    return 0


def _one(outcome: Outcome, home: Path) -> list[Path]:
    """The files of a study; what goes wrong in the making of the page is raised here, after all else is written."""
    folder = study_folder(outcome.name, home)
    best = [] if outcome.winner is None else [write_best(folder, outcome)]
    return [*best, *(write(folder, outcome) for write in (write_trials, write_table, write_summary, write_report))]


def _several(outcomes: Sequence[Outcome], home: Path) -> Path:
    return write_comparison(home / "studies", outcomes)


if __name__ == "__main__":
    main()
