"""A dry run: what it says, that it trains no more than it says, and that it stores nothing."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import FloatDistribution

from autotune.executors.auto import AutoExecutor
from autotune.executors.lightning import LightningExecutor
from autotune.executors.memory import NUMBERS_A_PARAMETER
from autotune.executors.population import PopulationExecutor
from autotune.preview import said
from autotune.space.values import SearchValue, parse

from .commands import USERS_ARGUMENTS, Ended, run, write_users_own
from .fakes import resolved

CPU = ("trainer.accelerator=cpu", "trainer.max_epochs=2", "sampler=random")
# Four points, whatever the shipped ranges are.
SMALL = (
    *CPU,
    *("optimizer=sgd,adam", "optimizer.sgd.lr=0.1", "optimizer.sgd.momentum=0.9", "optimizer.adam.lr=0.01"),
    *("schedule=constant", "model.batch_norm=false", "data.batch_size=choice(32,64)", "study.enqueue=[]"),
)


def dry(*arguments: str, cwd: Path) -> Ended:
    return run("search", *arguments, "dry_run=true", cwd=cwd)


def fact(ended: Ended, name: str) -> str:
    """What a dry run says of something, its lines taken together."""
    lines = ended.out.splitlines()
    (start,) = (number for number, line in enumerate(lines) if re.match(rf"{name}  ", line))
    taken = [lines[start].removeprefix(name)]
    for line in lines[start + 1 :]:
        if not line.startswith(" "):
            break
        taken.append(line)
    return " ".join(" ".join(taken).split())


@pytest.fixture
def users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with a user's own module and config files."""
    write_users_own(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("users_own", None)


def stored(folder: Path) -> dict[str, tuple[int, int] | None]:
    """Everything in a folder, files with their time and size; a folder's time tells that it was tried for writing."""
    return {
        str(path.relative_to(folder)): None if path.is_dir() else (path.stat().st_mtime_ns, path.stat().st_size)
        for path in folder.rglob("*")
        if "__pycache__" not in path.parts
    }


# What it says.


def test_the_space_its_size_and_what_it_costs(tmp_path: Path) -> None:
    ended = dry(*SMALL, "budget.trials=40", cwd=tmp_path)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines()[:7] == [
        "space",
        "├── data",
        "│   └── batch_size  one of 32, 64",
        "└── optimizer  one of",
        "    ├── sgd",
        "    └── adam",
        "",
    ]
    rows = [line.split("  ")[0] for line in ended.out.splitlines()[8:10]]
    assert rows == ["sgd lr 0.1 b32 constant", "adam lr 0.01 b64 constant"]
    assert fact(ended, "size") == "4 points"
    assert fact(ended, "refused") == "none of 4 points"
    assert fact(ended, "executor") == "population"
    assert fact(ended, "slots") == "10"
    assert re.fullmatch(r"[\d.]+ MiB( to [\d.]+ MiB)? a trial", fact(ended, "memory"))
    assert "if every trial was trained to its end, one after another" in fact(ended, "time")


def test_what_a_branch_fixes_is_said_beside_it(tmp_path: Path) -> None:
    ended = dry(*CPU, "schedule=constant", cwd=tmp_path)
    assert ended.code == 0, ended.err
    assert "bgd  fixes data.batch_size=full\n" in ended.out
    assert fact(ended, "size").startswith("infinite: continuous in optimizer.sgd.lr, optimizer.bgd.lr, ")


def test_refused_combinations_are_counted_by_reason_and_every_branch_is_tried_nevertheless(tmp_path: Path) -> None:
    sizes = ("data.batch_size=choice(5000,1076,64)", "model.batch_norm=choice(true,false)")
    ended = dry(*SMALL, *sizes, cwd=tmp_path)
    assert ended.code == 0, ended.err
    assert fact(ended, "refused") == (
        "6 of 12 points 4: data.batch_size=5000 is larger than the training set of 1077 "
        "2: BatchNorm cannot normalise a batch of one, and 1077 samples in batches of 1076 end with one"
    )
    tried = ended.out.partition("branch, on one batch")[2].partition("\n\n")[0]
    assert "sgd lr 0.1 " in tried
    assert "adam lr 0.01 " in tried
    assert "b5000" not in tried


def test_a_branch_that_cannot_work_at_all_is_named(tmp_path: Path) -> None:
    ended = dry(*CPU, "schedule=constant", "data.batch_size=5000", cwd=tmp_path)
    assert ended.code == 0, ended.err
    assert "optimizer=adam: refused in every point asked\noptimizer=sgd: refused in every point asked\n" in ended.out


def test_budgets_bound_the_time(tmp_path: Path) -> None:
    ended = dry(*SMALL, "budget.trials=null", "budget.seconds=90", "confirm.top=2", cwd=tmp_path)
    assert fact(ended, "time").startswith("1 min 30 s at most (budget.seconds)")
    ended = dry(*SMALL, "budget.trials=null", "budget.epochs=10", "confirm.top=2", "confirm.seeds=3", cwd=tmp_path)
    assert fact(ended, "time").startswith("about ")
    assert fact(ended, "time").endswith("; then 6 to 18 trainings to confirm the best")


def test_the_executor_is_named_with_the_reason(users_own: Path) -> None:
    ended = dry(*USERS_ARGUMENTS, *CPU, "schedule=cosine", cwd=users_own)
    assert ended.code == 0, ended.err
    why = "lightning, since Model is a LightningModule with a training_step of its own"
    assert fact(ended, "executor") == why
    assert fact(ended, "slots") == "1"


# What it does.


def test_nothing_is_stored(tmp_path: Path) -> None:
    assert dry(*SMALL, "tracking=mlflow", cwd=tmp_path).code == 0
    assert stored(tmp_path) == {}


def test_a_study_of_that_name_is_left_as_it_is(tmp_path: Path) -> None:
    assert run("search", *SMALL, "tracking=none", "budget.trials=2", "study.name=a", cwd=tmp_path).code == 0
    before = stored(tmp_path)
    assert dry(*SMALL, "study.name=a", cwd=tmp_path).code == 0
    several = ("--multirun", *CPU, "optimizer=adam", "schedule=constant", "pruner=asha,none", "study.name=a")
    assert dry(*several, cwd=tmp_path).code == 0
    assert stored(tmp_path) == before


def test_a_few_batches_are_trained_and_the_test_part_is_never_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from autotune.optim.update import Update

    groups = Update.groups
    updates = []

    def counted(self: Update, batches: Any) -> Iterator[Any]:
        for group in groups(self, batches):
            updates.append(len(group))
            yield group

    def looked(*_: Any) -> None:
        raise AssertionError("the test part was looked at")

    monkeypatch.setattr(Update, "groups", counted)
    monkeypatch.setattr("autotune.data.batches.held_out", looked)
    assert dry(*SMALL, "data.batch_size=32", "trainer.accumulate_grad_batches=2", cwd=tmp_path).code == 0
    assert set(updates) == {2}
    assert 2 <= len(updates) <= 10  # an epoch of either optimizer would be 17


def test_the_users_own_module_trains_a_few_batches_and_keeps_no_checkpoint(users_own: Path) -> None:
    module = users_own / "users_own.py"
    counting = "print('a batch'); return nn.functional.cross_entropy"
    module.write_text(module.read_text().replace("return nn.functional.cross_entropy", counting))
    checkpoint = "+trainer.callbacks=[{_target_: lightning.pytorch.callbacks.ModelCheckpoint}]"
    before = set(stored(users_own))
    ended = dry(*USERS_ARGUMENTS, *CPU, "schedule=cosine", checkpoint, "data.batch_size=20", cwd=users_own)
    assert ended.code == 0, ended.err
    assert 2 <= ended.out.count("a batch") <= 5  # an epoch is 8
    assert set(stored(users_own)) == before


# What can go wrong.


@pytest.mark.parametrize("value", ["maybe", "0.5", "yess"])
def test_a_wrong_value_is_refused(value: str, tmp_path: Path) -> None:
    ended = run("search", f"dry_run={value}", cwd=tmp_path)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == f"error: dry_run: {value} is neither true nor false; give true or false\n"


def test_a_space_in_which_nothing_can_work(tmp_path: Path) -> None:
    ended = dry(*SMALL, "data.batch_size=5000", cwd=tmp_path)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        "error: search: no configuration of the space can work; 2 of 2 refused as data.batch_size=5000 is larger than "
        "the training set of 1077; change the space\n"
    )
    assert stored(tmp_path) == {}


def test_a_metric_that_is_not_logged(users_own: Path) -> None:
    ended = dry(*USERS_ARGUMENTS, *CPU, "schedule=cosine", "objective.metric=val_accuracy", cwd=users_own)
    assert ended.code == 2
    assert (
        ended.err == "error: objective.metric: val_accuracy is not logged; logged are lr, val_acc; name one of those\n"
    )


def test_the_users_code_that_raises_is_shown_with_its_traceback(users_own: Path) -> None:
    module = users_own / "users_own.py"
    module.write_text(module.read_text().replace("return nn.functional.cross_entropy", "raise LookupError('mine')  #"))
    before = set(stored(users_own))
    ended = dry(*USERS_ARGUMENTS, *CPU, "schedule=cosine", cwd=users_own)
    assert ended.code == 1
    said = ended.err.splitlines()[-1]
    assert said.startswith("error: a branch raised LookupError: mine (users_own.py, line ")
    assert "_target_: users_own.Model" in ended.err
    assert set(stored(users_own)) == before


# Search values in words.


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("choice(a,b)", "one of a, b"),
        ("choice([64,32],[])", "one of [64,32], []"),
        ("interval(0,1)", "0 to 1"),
        ("tag(log,interval(1e-4,1))", "0.0001 to 1, by orders of magnitude"),
        ("int(interval(16,512))", "whole numbers 16 to 512"),
        ("tag(log,int(interval(16,512)))", "whole numbers 16 to 512, by orders of magnitude"),
        ("range(5,50,5)", "5 to 45 in steps of 5"),
        ("range(0.1,1,0.3)", "0.1 to 0.7 in steps of 0.3"),
    ],
)
def test_search_values_in_words(value: str, words: str) -> None:
    search = parse("key", value)
    assert search is not None
    assert said(search) == words


def test_a_range_of_another_kind_is_said_as_optuna_says_it() -> None:
    assert said(SearchValue(FloatDistribution(0.5, 0.5))) == "0.5 to 0.5"


# What executors say of a trial.


def test_slots_are_what_was_given_or_what_memory_and_the_search_suggest(monkeypatch: pytest.MonkeyPatch) -> None:
    config = resolved()
    assert LightningExecutor().slots_for(config) == 1
    assert PopulationExecutor(slots=3).slots_for(config) == 3
    assert AutoExecutor(trials=100).slots_for(config) == 25
    executor = AutoExecutor(trials=None)
    taken = executor.bytes_for(config)
    assert taken is not None
    weights = 4 * sum((8 * (10 + 1), 4 * (8 + 1), 1 * (4 + 1)))
    assert taken >= NUMBERS_A_PARAMETER * weights // 4
    monkeypatch.setattr("autotune.executors.memory.free_bytes", lambda _: 2 * 5 * taken)
    assert executor.slots_for(config) == 5
    monkeypatch.setattr("autotune.executors.memory.free_bytes", lambda _: 0)
    assert executor.slots_for(config) == 1


def test_what_is_trained_alone_takes_one_slot() -> None:
    config = resolved(trainer={"limit_val_batches": 1})
    executor = AutoExecutor()
    assert (executor.slots_for(config), executor.bytes_for(config)) == (1, None)
    executor.rehearse(config)
    assert executor.chosen == "lightning, since trainer.limit_val_batches is for one training alone"
