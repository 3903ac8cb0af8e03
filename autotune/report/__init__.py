"""The answer of a search: its files in the study's folder, the same in MLflow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from autotune.kept.outcome import Outcome
from autotune.logs import measuring
from autotune.report.files import write_best, write_report, write_summary, write_trials, write_trials_table
from autotune.typed import HOME, on_study

__all__ = ["Written", "write"]


@dataclass(frozen=True, slots=True)
class Written:
    """A report.

    Attributes:
        files: Where it is.
        answer: The answer in words, as Markdown; empty where it could not be worked out.
    """

    files: list[Path]
    answer: str


def write(outcome: Outcome, folder: Path, with_page: bool = True) -> Written:
    """Write the answer into a folder, each file whole at every moment.

    The page is written last: what goes wrong in the making of it is said in the log, and costs no other file.

    Args:
        outcome: The study.
        folder: Where to.
        with_page: False leaves out the page and the answer in words, which take seconds to make.
    """
    files = [] if outcome.winner is None else [write_best(folder, outcome)]
    files += [write_trials(folder, outcome), write_trials_table(folder, outcome), write_summary(folder, outcome)]
    answer = ""
    if not with_page:
        return Written(files, answer)
    command = on_study("report", outcome.name, outcome.config.get("home", HOME))
    with measuring("report.html", f"{command} shows why"):
        from autotune.report.findings import Findings  # imports scikit-learn
        from autotune.report.sentences import markdown

        findings = Findings.of(outcome)
        answer = markdown(outcome, findings)
        files.append(write_report(folder, outcome, findings))
    return Written(files, answer)
