"""Both commands as typed: help, mistakes in a config, and what they import and leave behind."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from .commands import SMALL, files, run, script, start, wait

NOT_NAMEABLE = "cannot name a folder; use letters, digits, '.', '_' and '-', beginning with a letter or digit"
NO_LIMIT = "is no limit; give a whole number above 0, or null for none"
SEARCHED = "only what a trial is made of can be searched; --multirun sweeps the rest"

# Arguments of search, and the line it ends with.
SEARCH_MISTAKES = {
    "misspelt group": (["optimzer=sgd"], "optimzer: there is no such key; did you mean optimizer?"),
    "misspelt option": (["optimizer=adm"], "optimizer: no option adm; did you mean adam?"),
    "misspelt option of several": (["optimizer=sgd,adm"], "optimizer: no option adm; did you mean adam?"),
    "misspelt section": (["budgt.trials=3"], "budgt.trials: there is no such key; did you mean budget?"),
    "misspelt key": (
        ["optimizer.sgd.lrr=1"],
        "optimizer.sgd.lrr: there is no such key; did you mean optimizer.sgd.lr?",
    ),
    "misspelt experiment": (["experiment=seed_ml"], "experiment: no option seed_ml; did you mean seed_mlp?"),
    "misspelt config": (["--config-name", "serch"], "--config-name: no config serch; did you mean search?"),
    "no option": (["tracking=null"], "tracking: no option null; known are mlflow, none"),
    "number for an option": (["tracking=5"], "tracking: no option 5; known are mlflow, none"),
    "number for a section": (
        ["budget=5"],
        "budget: 5 is no section; leave it as it is, and give single values: budget.<name>=...",
    ),
    "section removed": (
        ["~schedule"],
        "schedule: is missing; leave it as it is, and give single values: schedule.<name>=...",
    ),
    "no value": (["optimizer"], "optimizer: optimizer is not understood (missing EQUAL at '<EOF>'); write key=value"),
    "no key": (["=1"], "command line: =1 is not understood; write key=value"),
    "key of a branch": (
        ["optimizer.lr=1"],
        "optimizer.lr: optimizer is a choice among sgd, bgd, adam; name the branch: optimizer.sgd.lr=...",
    ),
    "unknown branch": (["optimizer.only=[sgd,adm]"], "optimizer.only: no branch adm; did you mean adam?"),
    "no branch": (
        ["optimizer=sgd,adam", "optimizer.only=[]"],
        "optimizer.only: [] chooses nothing; list some of sgd, adam",
    ),
    "reversed interval": (
        ["optimizer.sgd.lr=interval(1,0.1)"],
        "optimizer.sgd.lr: interval(1,0.1) begins above its end; write the lower bound first: 0.1, 1.0",
    ),
    "logarithm of zero": (
        ["optimizer.sgd.lr=tag(log,interval(0,1))"],
        "optimizer.sgd.lr: tag(log,interval(0,1)) is logarithmic from 0.0; a logarithmic range begins above 0",
    ),
    "logarithmic choice": (
        ["optimizer.sgd.lr=tag(log,choice(1,2))"],
        "optimizer.sgd.lr: tag(log,choice(1,2)) puts the tag log on a choice; "
        "log goes with interval: tag(log,interval(1e-4,1))",
    ),
    "misspelt tag": (
        ["optimizer.sgd.lr=tag(lgo,interval(0,1))"],
        "optimizer.sgd.lr: tag(lgo,interval(0,1)) has the tag lgo; did you mean log?; log is the only tag",
    ),
    "misspelt function": (
        ["optimizer.sgd.lr=intervall(0,1)"],
        "optimizer.sgd.lr: intervall(0,1) calls intervall, which is no search function; did you mean interval?",
    ),
    "empty choice": (
        ["optimizer.sgd.lr=choice()"],
        "optimizer.sgd.lr: choice() is no value (empty choice is not legal); write choice(a,b), range(1,10,2), "
        "interval(0,1), int(interval(1,9)) or tag(log,interval(1e-4,1))",
    ),
    "missing bound": (
        ["optimizer.sgd.lr={type: float, low: 1}"],
        "optimizer.sgd.lr: {type: float, low: 1} lacks a bound; write {type: float, low: 1, high: 9}",
    ),
    "word for a rate": (["optimizer.sgd.lr=fast"], "optimizer.sgd.lr: fast is not right here; give a number above 0"),
    "word among rates": (
        ["optimizer.sgd.lr=choice(0.1,slow)"],
        "optimizer.sgd.lr: slow is not right here; give a number above 0",
    ),
    "range that reaches too far": (
        ["optimizer.sgd.momentum=interval(0.5,1)"],
        "optimizer.sgd.momentum: 1.0 is not right here; give a number from 0 to below 1",
    ),
    "no batch size": (
        ["data.batch_size=0"],
        "data.batch_size: 0 is not right here; give a whole number above 0, or full",
    ),
    "number for a list": (
        ["model.hidden=64"],
        "model.hidden: 64 is not right here; give a list of widths above 0: [64,32]",
    ),
    "word for a flag": (["model.batch_norm=maybe"], "model.batch_norm: maybe is not right here; give true or false"),
    "no epochs": (
        ["trainer.max_epochs=0"],
        "trainer.max_epochs: 0 is not right here; give a whole number from 1 to 1000000",
    ),
    "unknown accelerator": (
        ["trainer.accelerator=gpuu"],
        "trainer.accelerator: no accelerator gpuu; did you mean gpu?",
    ),
    "interpolation to nowhere": (
        ["model.hidden=${nope}"],
        "model.hidden: Interpolation key 'nope' not found; point the interpolation at a key that exists",
    ),
    "setting that leads nowhere": (
        ["home=${nope}"],
        "home: Interpolation key 'nope' not found; point the interpolation at a key that exists",
    ),
    "negative budget": (["budget.trials=-1"], f"budget.trials: -1 {NO_LIMIT}"),
    "part of a trial": (["budget.trials=1.5"], f"budget.trials: 1.5 {NO_LIMIT}"),
    "word for a budget": (["budget.trials=many"], f"budget.trials: many {NO_LIMIT}"),
    "no budget": (
        ["budget.trials=null"],
        "budget: has no limit at all; give budget.trials, budget.seconds or budget.epochs",
    ),
    "name that leads out of the home": (["study.name=../../x"], f"study.name: ../../x {NOT_NAMEABLE}"),
    "name with a space": (["study.name=a b"], f"study.name: a b {NOT_NAMEABLE}"),
    "empty name": (["study.name="], f"study.name: {NOT_NAMEABLE}"),
    "no home": (["home=null"], "home: None is no folder; give a path: home=mlruns"),
    "bad study seed": (
        ["study.seed=-1"],
        "study.seed: -1 is no seed; give a whole number from 0 to 4294967295",
    ),
    "bad seed": (["seed=lucky"], "seed: lucky is not right here; give a whole number from 0 to 4294967295"),
    "misspelt direction": (
        ["objective.direction=maximise"],
        "objective.direction: maximise is no direction; did you mean maximize?",
    ),
    "no metric": (
        ["objective.metric=null"],
        "objective.metric: None is no name of a metric; give the name it is logged by: val/accuracy",
    ),
    "search value in a setting": (
        ["sampler.n_startup_trials=range(1,3)"],
        f"sampler.n_startup_trials: range(1,3) is a search value; {SEARCHED}",
    ),
    "two samplers": (
        ["sampler=tpe,random"],
        "sampler: tpe,random is a choice; a search has one sampler; --multirun runs a search for each",
    ),
    "argument the sampler lacks": (
        ["sampler=random", "+sampler.sed=1"],
        "sampler.sed: optuna.samplers.RandomSampler takes no argument sed; did you mean seed?",
    ),
    "argument the pruner lacks": (
        ["pruner=none", "+pruner.min_resource=2"],
        "pruner.min_resource: optuna.pruners.NopPruner takes no argument min_resource; none are known",
    ),
    "argument the pruner refuses": (
        ["pruner.reduction_factor=1"],
        "pruner: autotune.pruners.SuccessiveHalving refuses its arguments "
        "(The value of `reduction_factor` is 1, but must be `reduction_factor >= 2`); see its documentation",
    ),
    "database without a place": (["storage=rdb"], "storage.url: a value is missing; give it: storage.url=..."),
    "point that is none": (
        ["study.enqueue=3"],
        "study.enqueue: 3 is no list of points; write [{optimizer: adam, optimizer.adam.lr: 0.001}]",
    ),
    "config folder that is none": (
        ["--config-dir", "nowhere"],
        "--config-dir: nowhere is no directory; give the directory of your config files",
    ),
    "mistake in the first of several searches": (
        ["--multirun", "optimizer=adam", "study.seed=x,1"],
        "study.seed: x is no seed; give a whole number from 0 to 4294967295",
    ),
}

# The same for train. `a_file` is one beside the home.
TRAIN_MISTAKES = {
    "misspelt key": (["fron=one"], "fron: there is no such key; did you mean from?"),
    "nothing there yet": (
        ["from=one"],
        "from: no study one in mlruns; give a study's name, a best.yaml or an MLflow run id",
    ),
    "missing file": (
        ["from=missing.yaml"],
        "from: missing.yaml cannot be read (No such file or directory); give a best.yaml that exists",
    ),
    "part that is none": (["train.on=tset"], "train.on: tset is no part of the data; known are train, train+val"),
    "open value": (
        ["optimizer.lr=interval(0.1,1)"],
        "optimizer.lr: is still open, and a final training has one value for it; give it: optimizer.lr=...",
    ),
    "open choice": (
        ["optimizer=sgd,adam"],
        "optimizer: is still open, and a final training has one value for it; give it: optimizer=...",
    ),
    "bad name": (["train.name=../x"], f"train.name: ../x {NOT_NAMEABLE}"),
    "name the registry cannot take": (["train.register=a/b"], f"train.register: a/b {NOT_NAMEABLE}"),
    "no experiment": (
        ["tracking.experiment=null"],
        "tracking.experiment: None is no name; give the experiment's name: autotune",
    ),
    "bad seed": (["seed=x"], "seed: x is not right here; give a whole number from 0 to 4294967295"),
    "number for a section": (
        ["train=5"],
        "train: 5 is no section; leave it as it is, and give single values: train.<name>=...",
    ),
}

MISTAKES = {
    **{f"search, {name}": ("search", *mistake) for name, mistake in SEARCH_MISTAKES.items()},
    **{f"train, {name}": ("train", *mistake) for name, mistake in TRAIN_MISTAKES.items()},
}


@pytest.mark.parametrize(("command", "arguments", "line"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_and_nothing_is_written(
    command: str, arguments: list[str], line: str, tmp_path: Path
) -> None:
    ended = run(command, *arguments, cwd=tmp_path)
    assert (ended.code, ended.out, ended.err) == (2, "", f"error: {line}\n")
    assert files(tmp_path) == set()


@pytest.mark.parametrize("home", ["a_file", "a_file/below"])
@pytest.mark.parametrize("command", ["search", "train"])
def test_a_home_that_is_a_file(command: str, home: str, tmp_path: Path) -> None:
    (tmp_path / "a_file").write_text("")
    ended = run(command, f"home={home}", cwd=tmp_path)
    assert (ended.code, ended.err) == (2, f"error: home: {tmp_path}/a_file is a file; give a folder: home=mlruns\n")
    assert files(tmp_path) == {"a_file"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_home_that_cannot_be_written_to(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    ended = run("search", cwd=tmp_path)
    assert (ended.code, ended.err.partition(";")[0]) == (2, f"error: home: {tmp_path} cannot be written to")


# Found only once the parts are built, which takes torch; still before anything is written or trained.
BUILT = {
    "unknown activation": (["model.activation=rleu"], "model.activation: no activation rleu; did you mean relu?"),
    "nothing left to train on": (
        ["data.validation=0.6", "data.test=0.6"],
        "data.validation: 0.6 and data.test=0.6 leave nothing to train on; make them smaller",
    ),
    "argument the optimizer lacks": (
        ["optimizer=adam", "+optimizer.weigth_decay=1"],
        "optimizer.weigth_decay: torch.optim.Adam takes no argument weigth_decay; did you mean weight_decay?",
    ),
    "argument the optimizer refuses": (
        ["optimizer=adam", "optimizer.betas=[0.9,2]"],
        "optimizer: torch.optim.Adam refuses its arguments (Invalid beta parameter at index 1: 2); "
        "see its documentation",
    ),
    "argument the Trainer lacks": (
        ["+trainer.max_epoch=3"],
        "trainer.max_epoch: Lightning's Trainer takes no argument max_epoch; did you mean max_epochs?",
    ),
    "argument the Trainer refuses": (
        ["trainer.devices=0"],
        "trainer: Lightning's Trainer refuses it (`Trainer(devices=0)` value is not a valid input using cpu "
        "accelerator.); see its documentation",
    ),
    "class that is nowhere": (
        ["model._target_=nowhere.Model"],
        "model._target_: nowhere.Model cannot be imported (No module named 'nowhere'); give the full name of a class",
    ),
}


@pytest.mark.parametrize("command", ["search", "train"])
@pytest.mark.parametrize(("arguments", "line"), BUILT.values(), ids=BUILT)
def test_what_cannot_be_built_is_one_line_and_nothing_is_written(
    command: str, arguments: list[str], line: str, tmp_path: Path
) -> None:
    ended = run(command, "trainer.accelerator=cpu", *arguments, cwd=tmp_path)
    assert (ended.code, ended.out, ended.err) == (2, "", f"error: {line}\n")
    assert files(tmp_path) == set()


def test_a_branch_that_cannot_be_built_is_found_before_any_other_is_trained(tmp_path: Path) -> None:
    ended = run("search", "schedule=constant,own", *SMALL, cwd=tmp_path)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("error: schedule: own leaves the rate to the module")
    assert files(tmp_path) == set()


def test_a_mistake_beside_a_users_own_files_is_the_mistake_that_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "own.yaml").write_text("_target_: mine.Model\nwidth: 3\n")
    ended = run("search", "--config-dir", "mine", "model=own", "model.widht=4", cwd=tmp_path)
    assert ended.err == "error: model.widht: there is no such key; did you mean model.width?\n"


def test_everything_is_shown_on_demand(tmp_path: Path) -> None:
    ended = run("search", "optimizer=adm", cwd=tmp_path, HYDRA_FULL_ERROR="1")
    assert ended.code == 2
    assert ended.err.startswith("Traceback (most recent call last):\n")
    assert ended.err.endswith("\nerror: optimizer: no option adm; did you mean adam?\n")


# One process types all of these. What each of them imports is still there at the next: so the first one that imports
# too much is the one to look at.
TYPED = """
import json, sys
from pathlib import Path
from tests.commands import run
told = []
for command, *arguments in json.loads(sys.argv[1]):
    ended = run(command, *arguments, cwd=Path.cwd())
    heavy = sorted({"torch", "lightning", "mlflow", "sklearn"} & sys.modules.keys())
    told.append([ended.code, ended.out, ended.err, heavy])
print(json.dumps(told))
"""


@pytest.mark.slow
def test_help_and_mistakes_import_neither_torch_nor_lightning_nor_mlflow(tmp_path: Path) -> None:
    asked = [
        [command, *flags]
        for command in ("search", "train")
        for flags in (["--help"], ["--cfg", "job"], ["--info", "defaults"], ["--hydra-help"])
    ]
    wrong = [[command, *arguments] for command, arguments, _ in [*MISTAKES.values()][::4]]
    ended = script(TYPED, json.dumps(asked + wrong), cwd=tmp_path)
    assert (ended.code, ended.err) == (0, "")
    told = json.loads(ended.out)
    assert [(typed, heavy) for typed, (*_, heavy) in zip(asked + wrong, told, strict=True) if heavy] == []
    assert [code for code, *_ in told] == [0] * len(asked) + [2] * len(wrong)
    assert all(out for _, out, *_ in told[: len(asked)])
    assert files(tmp_path) == set()


@pytest.mark.parametrize("command", ["search", "train"])
def test_help_shows_the_groups_and_how_to_begin(command: str, tmp_path: Path) -> None:
    ended = run(command, "--help", cwd=tmp_path)
    assert (ended.code, ended.err) == (0, "")
    assert f"python -m autotune.{command}" in ended.out
    assert re.search(r"^optimizer: .*\badam\b", ended.out, re.MULTILINE)
    assert f"\n{'budget' if command == 'search' else 'train'}:\n" in ended.out


@pytest.mark.parametrize(
    ("command", "arguments", "shown"),
    [
        ("search", ["optimizer=adam", "optimizer.lr=tag(log,interval(1e-4,1))"], "lr: tag(log,interval(1e-4,1))"),
        ("search", ["optimizer=sgd,adam"], "only:\n  - sgd\n  - adam"),
        ("train", ["optimizer=sgd", "optimizer.lr=0.25"], "lr: 0.25"),
    ],
)
def test_the_config_is_shown_as_it_would_be_run(command: str, arguments: list[str], shown: str, tmp_path: Path) -> None:
    ended = run(command, "--cfg", "job", *arguments, cwd=tmp_path)
    assert (ended.code, ended.err) == (0, "")
    assert shown in ended.out
    assert files(tmp_path) == set()


def test_a_process_of_its_own_says_the_same(tmp_path: Path) -> None:
    ended = wait(start("search", "optimizer=adm", cwd=tmp_path))
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == "error: optimizer: no option adm; did you mean adam?\n"
    assert files(tmp_path) == set()
