"""What a study's values depend on: its text, what differs, and what a difference allows."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotune.errors import UserError
from autotune.kept import fingerprint
from autotune.kept.fingerprint import Fingerprint, check_unchanged, content
from autotune.space import Space, as_grammar, parse

CONFIG: dict[str, Any] = {
    "study": {"name": "s"},
    "budget": {"trials": 10},
    "objective": {"metric": "val/accuracy", "direction": "maximize"},
    "data": {"name": "digits", "_target_": "autotune.data.digits.Digits", "batch_size": 32, "workers": 2, "seed": 0},
    "model": {"name": "mlp", "_target_": "autotune.models.mlp.MLP", "width": "int(interval(8,64))"},
    "optimizer": {"only": None, "sgd": {"name": "sgd", "lr": "tag(log,interval(1e-2,1))"}, "adam": {"name": "adam"}},
    "trainer": {"max_epochs": 9, "accelerator": "auto"},
    "seed": 0,
}


def taken(**changes: dict[str, Any]) -> Fingerprint:
    """The fingerprint of `CONFIG` with sections changed."""
    return Fingerprint.of(Space({**CONFIG, **{key: {**CONFIG[key], **change} for key, change in changes.items()}}))


@pytest.mark.parametrize(
    ("typed", "text"),
    [
        ("interval(0.01,1)", "interval(0.01, 1)"),
        ("tag(log,interval(1e-4,1))", "tag(log, interval(0.0001, 1))"),
        ("int(interval(1,9))", "int(interval(1, 9))"),
        ("tag(log,int(interval(1,9)))", "tag(log, int(interval(1, 9)))"),
        ("range(5,50,5)", "range(5, 50, 5)"),
        ("range(0,1,0.1)", "range(0, 1, 0.1)"),
        ("choice(32,full,null,true)", "choice(32, full, null, true)"),
    ],
)
def test_a_search_value_is_told_in_the_grammar_it_is_typed_in(typed: str, text: str) -> None:
    search = parse("x", typed)
    again = parse("x", text)
    assert search is not None
    assert again is not None
    assert as_grammar(search.distribution) == text
    assert again.distribution == search.distribution


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_two_intervals_read_the_same_only_where_they_are(low: float, width: float) -> None:
    search = parse("x", {"type": "float", "low": low, "high": low + width})
    assert search is not None
    numbers = re.findall(r"-?[\d.]+(?:e[-+]?\d+)?", as_grammar(search.distribution))
    assert [float(number) for number in numbers] == [low, low + width]


def test_it_is_kept_as_json() -> None:
    found = taken()
    assert Fingerprint.read(json.loads(json.dumps(found.kept))) == found
    assert dict(found.space) == {
        "model.width": "int(interval(8, 64))",
        "optimizer": "choice(sgd, adam)",
        "optimizer.sgd.lr": "tag(log, interval(0.01, 1))",
    }
    assert found.fixed["objective.metric"] == '"val/accuracy"'


def test_how_a_search_is_run_and_where_it_trains_is_no_part_of_it() -> None:
    changed = taken(study={"name": "other"}, budget={"trials": 5}, data={"workers": 4}, trainer={"accelerator": "cpu"})
    assert changed == taken()
    assert check_unchanged("s", changed, taken(), None) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"optimizer": {"sgd": {"name": "sgd", "lr": "tag(log,interval(1e-3,1))"}}},
            "optimizer.sgd.lr: tag(log, interval(0.001, 1)) was tag(log, interval(0.01, 1))",
        ),
        ({"data": {"batch_size": "32,64"}}, "data.batch_size: choice(32, 64) was 32"),
        ({"model": {"width": 8}}, "model.width: 8 was int(interval(8, 64))"),
        ({"trainer": {"max_epochs": 12}}, "trainer.max_epochs: 12 was 9"),
        ({"trainer": {"ema": 0.9}}, "trainer.ema: 0.9 was not there"),
        ({"optimizer": {"only": ["sgd"]}}, "optimizer: not there was choice(sgd, adam)"),
    ],
)
def test_a_change_is_refused_unless_it_is_meant(change: dict[str, Any], said: str) -> None:
    now = taken(**change)
    with pytest.raises(UserError) as refused:
        check_unchanged("s", now, taken(), None)
    assert said in str(refused.value)
    assert str(refused.value).endswith(
        "; give study.resume=extend to go on with the changed space, study.resume=fresh to begin anew, "
        "or study.name=... for another study"
    )
    assert said in [str(each) for each in check_unchanged("s", now, taken(), "extend")]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"objective": {"metric": "val/f1"}}, 'objective.metric: "val/f1" was "val/accuracy"'),
        ({"objective": {"direction": "minimize"}}, 'objective.direction: "minimize" was "maximize"'),
        ({"data": {"seed": 1}}, "data.seed: 1 was 0"),
        ({"model": {"_target_": "mine.MLP"}}, 'model._target_: "mine.MLP" was "autotune.models.mlp.MLP"'),
    ],
)
@pytest.mark.parametrize("resume", [None, "extend"])
def test_what_makes_it_another_task_cannot_be_extended(change: dict[str, Any], said: str, resume: str | None) -> None:
    # A range that changed too is not what is told of.
    now = taken(**change, optimizer={"sgd": {"name": "sgd", "lr": 0.1}})
    with pytest.raises(UserError) as refused:
        check_unchanged("s", now, taken(), resume)
    assert str(refused.value) == (
        f"{said}; values of study s do not compare with what would follow; "
        "give study.resume=fresh to begin anew, or study.name=... for another study"
    )


def test_of_many_differences_the_first_are_told() -> None:
    now = taken(model={"a": 1, "b": 2, "c": 3, "d": 4, "e": 5})
    with pytest.raises(UserError) as refused:
        check_unchanged("s", now, taken(), None)
    assert refused.value.problem == "1 was not there, model.b: 2 was not there, model.c: 3 was not there, and 2 more"
    assert refused.value.key == "model.a"


def test_data_that_moved_are_the_same_and_data_that_were_edited_are_not(tmp_path: Path) -> None:
    one, other = tmp_path / "one.csv", tmp_path / "other.csv"
    one.write_text("a,b\n1,2\n")
    other.write_text("a,b\n1,2\n")
    kept = taken(data={"path": str(one)})
    assert taken(data={"path": str(other)}) == kept
    other.write_text("a,b\n1,3\n")
    with pytest.raises(UserError, match=r"data.path: 8 bytes, sha256 \w{16} was 8 bytes, sha256 \w{16}; values of"):
        check_unchanged("s", taken(data={"path": str(other)}), kept, "extend")


def test_a_folder_is_what_its_files_are(tmp_path: Path) -> None:
    for name in ("cat/1.png", "dog/1.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"12345")
    before = content(tmp_path)
    assert before.startswith("2 files, 10 bytes, sha256 ")
    (tmp_path / "dog/1.png").rename(tmp_path / "cat/2.png")
    assert content(tmp_path) != before


def test_of_a_large_file_pieces_from_all_over_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint, "READ_WHOLE", 6400)
    monkeypatch.setattr(fingerprint, "LEAST_OF_A_FILE", 100)
    large = bytearray(64_000)
    path = tmp_path / "large"
    path.write_bytes(large)
    before = content(path)
    for place in (0, 31_500, 63_999):
        changed = large.copy()
        changed[place : place + 1000] = b"1" * len(changed[place : place + 1000])
        path.write_bytes(changed)
        assert content(path) != before


def test_a_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a\n")

    def refuse(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UserError) as refused:
        taken(data={"path": str(path)})
    assert str(refused.value) == f"data.path: {path} cannot be read (Permission denied); give one that can"


def test_a_password_is_not_kept() -> None:
    assert "hidden" not in json.dumps(taken(data={"url": "http://me:hidden@there/rows.csv"}).kept)
