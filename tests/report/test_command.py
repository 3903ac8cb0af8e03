"""``python -m autotune.report``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from autotune.kept.ledger import Ledger
from autotune.kept.outcome import Outcome
from autotune.kept.storage import open_storage
from autotune.trial import Reason

from ..commands import run
from . import made


def kept(home: Path, study: Outcome, ended: int) -> Path:
    """A study in a home as a search leaves it: so many of its trials ended, the others in training."""
    folder = home / "studies" / study.name
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(dict(study.config))))
    storage, journal = open_storage({}, folder)
    ledger = Ledger(storage, journal, study.name, study.objective.direction)
    for record, trial in zip(study.records, study.trials, strict=True):
        number = ledger.begin(record.config, record.params, trial.distributions)
        for step, value in trial.intermediate_values.items():
            ledger.advance(number, step, value)
        if number < ended:
            reason = record.reason
            assert reason is not None
            ledger.finish(number, reason, record.objective, record.curves, record.cost, {}, None)
    ledger.close()
    return folder


def study(name: str = "made", count: int = 12) -> Outcome:
    return made.study(lambda params: 0.5 + 0.1 * params["model.batch_norm"], count, name=name)


def test_it_writes_the_files_into_the_studys_folder(tmp_path: Path) -> None:
    folder = kept(tmp_path / "mlruns", study(), 12)
    ended = run("report", "from=made", cwd=tmp_path)
    names = ["best.yaml", "trials.csv", "trials.parquet", "summary.json", "report.html"]
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines() == [str(Path("mlruns/studies/made") / name) for name in names]
    assert {path.name for path in folder.iterdir()} == {"config.yaml", "study.journal", *names}


def test_it_works_while_the_search_runs(tmp_path: Path) -> None:
    folder = kept(tmp_path / "here", study(), 5)
    journal = folder / "study.journal"
    with journal.open("ab") as file:
        file.write(b'{"op_code": 5, "worker_id": "half')
    before = journal.read_bytes()
    ended = run("report", "from=made", "home=here", cwd=tmp_path)
    assert ended.code == 0, ended.err
    assert "The search is not over: 7 trials of 12 are in training." in (folder / "report.html").read_text()
    assert json.loads((folder / "summary.json").read_text())["states"]["RUNNING"] == 7
    assert journal.read_bytes() == before


def test_a_study_of_which_no_trial_has_ended_has_no_best(tmp_path: Path) -> None:
    folder = kept(tmp_path / "mlruns", study(), 0)
    assert run("report", "from=made", cwd=tmp_path).code == 0
    assert not (folder / "best.yaml").exists()


def test_several_studies_are_compared_on_one_page(tmp_path: Path) -> None:
    for name in ("one", "two"):
        kept(tmp_path / "mlruns", study(name), 12)
    ended = run("report", "from=[one,two]", cwd=tmp_path)
    assert ended.code == 0, ended.err
    assert ended.out == "mlruns/studies/one-two.html\n"
    assert "Studies compared: one, two" in (tmp_path / ended.out.strip()).read_text()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ([], "from: no study is named; give a study: from=made"),
        (["from=mad"], "from: no study mad in mlruns; did you mean made?"),
        (["from=[made,made]"], "from: made is named twice; name each study once"),
        (["from=[]"], "from: no study is named; give a study: from=made"),
        (["from=empty"], "from: the study empty has no trial yet; let it search on"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, arguments: list[str], error: str) -> None:
    found = study(count=2)
    kept(tmp_path / "mlruns", found, 2)
    if "from=empty" in arguments:
        kept(tmp_path / "mlruns", Outcome("empty", found.objective, found.config, [], [], [], 0.0, {}), 0)
    ended = run("report", *arguments, cwd=tmp_path)
    assert (ended.code, ended.err) == (2, f"error: {error}\n")


def test_a_home_without_studies_says_what_to_do(tmp_path: Path) -> None:
    ended = run("report", cwd=tmp_path)
    assert (ended.code, ended.err) == (2, "error: from: no study is named; search first: python -m autotune.search\n")
    assert list(tmp_path.iterdir()) == []


def test_help_says_what_it_does(tmp_path: Path) -> None:
    ended = run("report", "--help", cwd=tmp_path)
    assert ended.code == 0
    assert "python -m autotune.report from=[<study>,<study>]" in ended.out


def test_reasons_of_made_trials_are_those_of_a_search() -> None:
    assert {record.reason for record in study().records} <= {Reason.COMPLETED, Reason.PRUNED}
