"""Keys that nothing reads, wherever they come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from autotune.compose import compose
from autotune.errors import UserError

TYPED = {
    "budget": ("search", "+budget.hurs=2", "budget.hurs: there is no such key; did you mean budget.hours?"),
    "confirm": ("search", "+confirm.tops=3", "confirm.tops: there is no such key; did you mean confirm.top?"),
    "study": ("search", "+study.sed=1", "study.sed: there is no such key; did you mean study.seed?"),
    "a section": (
        "search",
        "+early_stopping.patience=3",
        "early_stopping: there is no such key; known are allow_targets",
    ),
    "forced": ("search", "++budget.trails=3", "budget.trails: there is no such key; did you mean budget.trials?"),
    "without +": ("search", "budget.hurs=2", "budget.hurs: there is no such key; did you mean budget.hours?"),
    "objective": (
        "search",
        "+objective.worse=1",
        "objective.worse: there is no such key; did you mean objective.worst?",
    ),
    "task": ("train", "+task.metric=f1", "task.metric: there is no such key; did you mean task.metrics?"),
    "storage": ("search", "+storage.ulr=x", "storage.ulr: there is no such key; did you mean storage.url?"),
    "train": ("train", "+train.seed=1", "train.seed: there is no such key; did you mean train.seeds?"),
    "tracking": ("train", "+tracking.ur=x", "tracking.ur: there is no such key; did you mean tracking.uri?"),
    "report": ("report", "+form=x", "form: there is no such key; did you mean from?"),
    "studies": ("studies", "+hom=x", "hom: there is no such key; did you mean home?"),
    "sync": ("sync", "+url=x", "url: there is no such key; did you mean uri?"),
}


@pytest.mark.parametrize(("command", "override", "message"), TYPED.values(), ids=TYPED)
def test_what_is_typed(command: str, override: str, message: str) -> None:
    with pytest.raises(UserError) as refused:
        compose(command, [override])
    assert str(refused.value).startswith(message)


FILES = {
    "an experiment": (
        "experiment/mine.yaml",
        "# @package _global_\nbudget: {hurs: 2}\n",
        "budget.hurs: there is no such",
    ),
    "in no section": (
        "experiment/mine.yaml",
        "# @package _global_\nerly: 2\n",
        "erly: there is no such key; known are ",
    ),
    "without a package": (
        "experiment/mine.yaml",
        "budget: {trials: 2}\n",
        "experiment: its option fills a section that nothing reads; begin its file with # @package _global_",
    ),
    "an objective": ("objective/mine.yaml", "metric: a\nbest: 2\n", "objective.best: there is no such key; "),
}


@pytest.mark.parametrize(("file", "text", "message"), FILES.values(), ids=FILES)
def test_what_a_file_says(file: str, text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / file).parent.mkdir()
    (tmp_path / file).write_text(text)
    group = file.partition("/")[0]
    with pytest.raises(UserError) as refused:
        compose("search", [f"{group}=mine"], str(tmp_path))
    assert str(refused.value).startswith(message)


@pytest.mark.parametrize(
    "overrides",
    [
        ["+width=64", "model.hidden=['${width}']"],
        ["+sizes.first=64", "model.hidden=['${sizes.first}']"],
        ["+budget.base=10", "budget.trials='${.base}'"],
        ["+model.anything=1", "+trainer.limit_val_batches=1", "+optimizer.sgd.dampening=0.1", "+sampler.seed=1"],
        ["budget.minutes=3", "study.enqueue=[]"],
    ],
)
def test_what_is_read(overrides: list[str]) -> None:
    compose("search", overrides)


def test_a_branch_of_another_choice_names_it(tmp_path: Path) -> None:
    with pytest.raises(UserError) as refused:
        compose("search", ["optimizer.only=[sgd,adamw]"])
    assert str(refused.value) == "optimizer.only: no branch adamw; optimizer=sweep_all has it"
    (tmp_path / "optimizer").mkdir()
    (tmp_path / "optimizer" / "mine.yaml").write_text("only: [lion]\nlion: {lr: 1}\n")
    for only in ("lion", "lion,sgd", "[lion]"):
        with pytest.raises(UserError, match=r"^optimizer.only: no branch lion; optimizer=mine has it$"):
            compose("search", [f"optimizer.only={only}"], str(tmp_path))
