"""The answer in words, for studies of every kind."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from autotune.kept.outcome import Outcome
from autotune.report.findings import Findings
from autotune.report.sentences import Section, answer, difference, listed, markdown, sections
from autotune.standing import Estimate
from autotune.trial import Reason, State

from . import made

BEST = {"sgd": -1.5, "bgd": 0.0, "adam": -2.5}


def score(params: Mapping[str, Any]) -> float:
    family = params["optimizer"]
    rate = math.log10(params[f"optimizer.{family}.lr"])
    return 0.9 - 0.03 * (rate - BEST[family]) ** 2 + 0.02 * params["model.batch_norm"]


def told(study: Outcome) -> list[str]:
    return answer(Findings.of(study)).lines


def section(study: Outcome, key: str) -> Section:
    return next(each for each in sections(Findings.of(study)) if each.key == key)


def test_a_confirmed_study_is_answered_in_full() -> None:
    study = made.study(score, 40, prune=False)
    ranked = sorted(study.records, key=lambda record: -(record.objective or 0.0))
    study = made.confirmed(study, [record.number for record in ranked[:3]], [1, 2, 3], score)
    standing = study.standing
    assert standing is not None
    lines = told(study)
    assert lines[0].startswith("The best strategy is ")
    assert f"(trial {standing.winner.record.number}): confirmed val/accuracy 0.9" in lines[0]
    assert "3 seeds)" in lines[0]
    assert standing.why in lines[0]
    assert lines[1].startswith("The runner-up is ")
    assert "on the same seeds (the winner's lead: " in lines[1]
    text = "\n".join(lines)
    for subject in ("Optimizer: ", "Schedule: ", "Batch size: ", "BatchNorm is worth +0.0", "earning rates"):
        assert subject in text
    table = section(study, "confirmed").table
    assert table is not None
    assert len(table.rows) == 3
    assert {row[0] for row in table.rows} == {f"{record.number}" for record in ranked[:3]}


def test_an_unconfirmed_best_says_that_it_may_be_luck() -> None:
    study = made.study(score, 6, prune=False)
    assert "It was not trained again with other seeds, so that some of this may be luck." in told(study)[0]
    assert "on one seed each." in told(study)[1]


def test_of_too_few_trials_nothing_is_claimed() -> None:
    text = "\n".join(told(made.study(score, 6, prune=False)))
    assert "Too few trials were trained to their end to say what" in text
    assert "is worth" not in text


def test_a_study_without_trials_says_so() -> None:
    study = made.study(score, 1)
    assert told(replace(study, trials=[], records=[])) == ["There is no trial yet."]


def test_failures_are_told_with_their_reasons() -> None:
    study = made.study(score, 4, prune=False)
    failed = [
        replace(each, state=State.FAIL, reason=Reason.ERROR, objective=None, curves={}, cost={}, error="KeyError: 'x'")
        for each in study.records[:2]
    ]
    burnt = replace(study.records[2], state=State.FAIL, reason=Reason.OOM, objective=None, error="out of memory")
    diverged = replace(study.records[3], state=State.PRUNED, reason=Reason.DIVERGED, objective=0.0)
    broken = replace(
        study, records=[*failed, burnt, diverged], notes={"refused": {"batch too large": 3}, "duplicates": 1}
    )
    assert told(broken) == [
        "No trial has been trained to its end, so that there is no best strategy.",
        "1 trial diverged, 1 trial ran out of memory and 2 trials raised an error.",
    ]
    lines = section(broken, "failures").lines
    assert lines[0].startswith(
        f"Diverged (a loss or score that is no number, or exploded): 1 of {diverged.family} from "
    )
    assert lines[1] == f"2 trials failed with: KeyError: 'x' (the first: {failed[0].name})."
    assert lines[2] == f"1 trial failed with: out of memory (the first: {burnt.name})."
    assert lines[3] == "3 configurations refused before training: batch too large."
    assert lines[4].startswith("1 configuration drawn again")


def test_a_running_and_an_interrupted_study_say_so() -> None:
    study = made.study(score, 3, prune=False)
    running = replace(study.records[1], state=State.RUNNING, reason=None, objective=None, ended=None, curves={})
    waiting = replace(running, number=2, state=State.WAITING, reason=Reason.INTERRUPTED)
    lines = told(replace(study, records=[study.records[0], running, waiting]))
    assert lines[0] == "The search is not over: 1 trial of 3 is in training."
    assert lines[1].startswith("The search was interrupted: 1 trial will be trained again when it goes on")
    assert lines[2].startswith("The best strategy is ")


def test_noise_has_no_winner() -> None:
    guessing = {"metric": "val/accuracy", "level": 0.93, "samples": 100, "error": 0.0}
    study = made.study(score, 30)
    lines = told(replace(study, notes={"guessing": guessing, "paired": {"look": study.best_look, "luck": 0.5}}))
    assert lines[0].startswith("Nothing learnable was found: ")
    assert lines[1].startswith("The luckiest draw was ")
    assert not any("worth" in line or "costs" in line for line in lines)


def test_a_user_of_own_optimizer_and_schedule_gets_an_answer() -> None:
    study = made.study(score, 4, prune=False)
    own = {"optimizer": {"name": "own"}, "schedule": {"name": "own"}, "data": {}, "model": {}}
    records = [
        replace(each, family="own", params={"model.width": 3 + each.number}, config={**each.config, **own})
        for each in study.records
    ]
    assert told(replace(study, records=records))[0].startswith("The best strategy is width 5 (trial 2)")


def test_the_audit_is_told_overall_and_by_family() -> None:
    study = made.study(score, 60)
    ended = [each.number for each in study.records if each.reason == Reason.COMPLETED][::2]
    records = [replace(each, would_stop=1) if each.number in ended else each for each in study.records]
    audited = replace(study, records=records)
    assert any(line.startswith(f"Of {len(ended)} trials that would have been stopped") for line in told(audited))
    table = section(audited, "pruner").table
    assert table is not None
    assert table.rows[0][:2] == ("all", f"{len(ended)}")
    assert sum(int(row[1]) for row in table.rows[1:]) == len(ended)


def test_without_an_audit_its_cost_is_called_unknown() -> None:
    assert "what it cost is not known" in " ".join(section(made.study(score, 20), "pruner").lines)


def test_markdown_takes_no_name_for_markup() -> None:
    study = made.study(score, 2, prune=False)
    name = "<b>a_b*|[x](y)"
    config = {**study.records[0].config, "optimizer": {"name": name}}
    records = [replace(each, config=config, params={}) for each in study.records]
    text = markdown(replace(study, records=records))
    assert text.startswith("- ")
    assert r"\<b\>a\_b\*\|\[x\](y)" in text
    assert "<b>" not in text


def test_numbers_show_two_digits_of_their_interval() -> None:
    assert difference(Estimate(0.00341, 0.00083, 0.00599, 9)) == "+0.0034 (0.0008 to 0.0060)"
    minus = "\N{MINUS SIGN}"
    assert difference(Estimate(-12.3, -20.0, -4.6, 3)) == f"{minus}12.3 ({minus}20.0 to {minus}4.6)"
    assert difference(Estimate(0.1, 0.1, 0.1, 3)) == "+0.1 (0.1 to 0.1)"
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"


def test_the_winners_exact_settings_and_the_command_that_trains_it_are_there() -> None:
    study = made.study(score, 20)
    found = section(study, "winner")
    winner = study.winner
    assert winner is not None
    assert found.table is not None
    assert dict(found.table.rows) == {name: f"{value}" for name, value in winner.params.items()}
    assert "best.yaml" in found.lines[0]
    assert found.command == "python -m autotune.train from=made"
