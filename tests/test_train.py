"""Final trainings: where their config comes from, what is kept, tested, logged and registered."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy
import optuna
import pytest
import torch
import yaml
from mlflow.entities import Run
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from sklearn.datasets import load_digits

from autotune.compose import compose, conf_dir
from autotune.space import Space
from autotune.train import Plan, set_against_confirmed, train_plan

from .commands import USERS_ARGUMENTS, Ended, files, plain_yaml, run, summary, write_users_own
from .conftest import Searched
from .tracking.stories import Runs

UNTRACKED = ("tracking=none", "train.name=final")
TRAINED_FILES = {"best.ckpt", "config.yaml", "summary.json", "train.log"}


@pytest.fixture
def final(tmp_path: Path) -> Path:
    """The folder of the training named final."""
    return tmp_path / "mlruns" / "trained" / "final"


def trained(ended: Ended, final: Path) -> dict[str, Any]:
    """The config that was trained, of a training that ended well."""
    assert (ended.code, ended.err) == (0, "")
    config = plain_yaml(final / "config.yaml")
    assert {path.name for path in final.iterdir()} == TRAINED_FILES
    return config


def best_config(searched: Searched) -> dict[str, Any]:
    return plain_yaml(searched.study / "best.yaml")


def final_run(cwd: Path) -> Run:
    """The one run of a final training."""
    (found,) = (run for run in Runs.at(cwd / "mlruns").parents if run.data.tags["kind"] == "train")
    return found


def curve(run: Run, cwd: Path, metric: str) -> list[float]:
    return [value for _, value in Runs.at(cwd / "mlruns").history(run, metric)]


# Where the config comes from.

SECTIONS = ("data", "model", "optimizer", "schedule", "trainer", "objective", "seed")


@pytest.mark.slow
def test_a_studys_best_config_is_trained_as_it_is(searched: Searched, cwd: Path, final: Path) -> None:
    config = trained(run("train", "from=first", *UNTRACKED, cwd=cwd), final)
    best = best_config(searched)
    assert {key: config[key] for key in SECTIONS} == {key: best[key] for key in SECTIONS}
    assert config["origin"].items() >= best["origin"].items()
    assert summary(final)["origin"].items() >= best["origin"].items()
    assert not (cwd / "mlruns" / "mlflow.db").samefile(searched.cwd / "mlruns" / "mlflow.db")


@pytest.mark.slow
def test_a_file_is_trained_with_what_is_typed_on_top(cwd: Path, final: Path) -> None:
    arguments = ["model.batch_norm=false", "model.dropout=0.1", "trainer.max_epochs=2", "seed=5"]
    config = trained(run("train", "from=mlruns/studies/first/best.yaml", *arguments, *UNTRACKED, cwd=cwd), final)
    assert config["model"].items() >= {"batch_norm": False, "dropout": 0.1}.items()
    assert (config["trainer"]["max_epochs"], config["seed"]) == (2, 5)
    assert summary(final)["epochs"] == 2


@pytest.mark.slow
def test_an_option_on_top_replaces_the_whole_section(searched: Searched, cwd: Path, final: Path) -> None:
    other = "adam" if best_config(searched)["optimizer"]["name"] != "adam" else "sgd"
    config = trained(run("train", "from=first", f"optimizer={other}", *UNTRACKED, cwd=cwd), final)
    assert config["optimizer"]["name"] == other
    assert config["optimizer"]["_target_"] == f"torch.optim.{'Adam' if other == 'adam' else 'SGD'}"
    assert config["model"] == best_config(searched)["model"]


@pytest.mark.slow
def test_a_value_on_top_replaces_that_value_alone(searched: Searched, cwd: Path, final: Path) -> None:
    config = trained(run("train", "from=first", "optimizer.lr=0.0125", *UNTRACKED, cwd=cwd), final)
    assert config["optimizer"] == {**best_config(searched)["optimizer"], "lr": 0.0125}


@pytest.mark.slow
def test_a_key_that_the_origins_section_lacks(cwd: Path) -> None:
    before = files(cwd)
    ended = run("train", "from=first", "optimizer.lrr=0.1", *UNTRACKED, cwd=cwd)
    assert (ended.code, ended.err) == (
        2,
        "error: optimizer.lrr: there is no such key; did you mean optimizer.lr?\n",
    )
    assert files(cwd) == before


@pytest.mark.slow
def test_the_run_of_a_search_brings_its_best_config(searched: Searched, cwd: Path, final: Path) -> None:
    config = trained(run("train", f"from={Runs.at(cwd / 'mlruns').parent.info.run_id}", *UNTRACKED, cwd=cwd), final)
    best = best_config(searched)
    assert {key: config[key] for key in SECTIONS} == {key: best[key] for key in SECTIONS}
    assert config["origin"].items() >= best["origin"].items()


@pytest.mark.slow
def test_the_run_of_a_trial_brings_that_trials_config(searched: Searched, cwd: Path) -> None:
    number = next(n for n in range(6) if n != summary(searched.study)["best_trial"])
    child = Runs.at(cwd / "mlruns").child(number)
    (cwd / "mlruns").rename(cwd / "moved")
    ended = run("train", f"from={child.info.run_id}", "home=moved", *UNTRACKED, cwd=cwd)
    config = trained(ended, cwd / "moved" / "trained" / "final")
    told = yaml.safe_load(Runs.at(cwd / "moved").artifact(child, "config.yaml"))
    assert {key: config[key] for key in SECTIONS} == {key: told[key] for key in SECTIONS}
    assert config["origin"].items() >= {"study": "first", "trial": number}.items()


@pytest.mark.slow
def test_a_run_of_a_database_elsewhere(cwd: Path, final: Path) -> None:
    run_id = Runs.at(cwd / "mlruns").parent.info.run_id
    (cwd / "mlruns").rename(cwd / "served")
    uri = "sqlite:///served/mlflow.db"
    assert run("train", f"from={run_id}", *UNTRACKED, cwd=cwd).code == 2
    trained(run("train", f"from={run_id}", *UNTRACKED, cwd=cwd, MLFLOW_TRACKING_URI=uri), final)
    untracked = ["tracking=none", f"+tracking.uri={uri}", "train.name=final"]
    trained(run("train", f"from={run_id}", *untracked, cwd=cwd), final)


@pytest.mark.slow
def test_a_run_that_is_not_there(cwd: Path) -> None:
    before = files(cwd)
    ended = run("train", f"from={'0' * 32}", cwd=cwd)
    assert (ended.code, ended.err) == (
        2,
        f"error: from: no run {'0' * 32} in sqlite:///mlruns/mlflow.db; give the id of a run there\n",
    )
    ended = run("train", f"from={'0' * 32}", "home=nowhere", cwd=cwd)
    assert ended.code == 2
    assert files(cwd) == before


def test_the_nearest_study_is_named(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / "mlruns" / "studies" / name).mkdir(parents=True)
    ended = run("train", "from=secnd", cwd=tmp_path)
    assert (ended.code, ended.err) == (2, "error: from: no study secnd in mlruns; did you mean second?\n")
    ended = run("train", "from=first", cwd=tmp_path)
    assert ended.err == "error: from: the study first has no trial that was trained to its end; let it search on\n"


def test_without_an_origin_the_groups_are_trained_as_they_stand(tmp_path: Path, final: Path) -> None:
    typed = ["optimizer=sgd", "optimizer.lr=0.05", "data.batch_size=128", "trainer.max_epochs=2"]
    config = trained(run("train", *typed, "trainer.accelerator=cpu", *UNTRACKED, cwd=tmp_path), final)
    assert (config["optimizer"]["name"], config["optimizer"]["lr"], config["data"]["batch_size"]) == ("sgd", 0.05, 128)
    assert (summary(final)["origin"], summary(final)["epochs"]) == ({}, 2)
    assert files(tmp_path) == {f"mlruns/trained/final/{name}" for name in TRAINED_FILES}


@pytest.mark.parametrize("experiment", sorted(path.stem for path in (conf_dir() / "experiment").glob("*.yaml")))
def test_an_experiment_that_leaves_nothing_open_can_be_trained(experiment: str) -> None:
    config = compose("train", [f"experiment={experiment}", "trainer.accelerator=cpu"])
    if not Space(config).parameters():
        from autotune.assembly import refusal

        assert refusal(Plan.of(config).resolved) is None


@pytest.mark.slow
def test_a_name_by_the_clock_is_given_once(cwd: Path) -> None:
    for _ in range(2):
        overrides = ["from=first", "tracking=none", "trainer.max_epochs=1", "train.name='of-${now:%Y}'"]
        assert run("train", *overrides, cwd=cwd).code == 0
    names = sorted(path.parent.name for path in (cwd / "mlruns/trained").glob("of-*/best.ckpt"))
    assert names == [f"of-{datetime.now().year}", f"of-{datetime.now().year}_2"]


def test_a_multirun_trains_several_times(cwd: Path) -> None:
    ended = run("train", "--multirun", "from=first", "tracking=none", "trainer.max_epochs=1", "seed=4,5", cwd=cwd)
    assert (ended.code, ended.err) == (0, "")
    folders = sorted(path for path in (cwd / "mlruns" / "trained").iterdir() if path.is_dir())
    assert [path.name[-2:] for path in folders] == ["-0", "-1"]
    assert [plain_yaml(path / "config.yaml")["seed"] for path in folders] == [4, 5]
    assert [plain_yaml(path / "config.yaml")["train"]["name"] for path in folders] == [path.name for path in folders]


# What is trained and kept.


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every assembly that is made."""
    import autotune.final.training

    made: list[Any] = []
    assemble = autotune.final.training.assemble

    def remembered(config: Mapping[str, Any], on: str = "train", folder: Path | None = None) -> Any:
        made.append(assemble(config, on, folder))
        return made[-1]

    monkeypatch.setattr(autotune.final.training, "assemble", remembered)
    return made


@pytest.mark.slow
def test_the_epoch_that_is_best_by_validation_is_kept_and_tested(cwd: Path, final: Path, recorded: list[Any]) -> None:
    typed = ["optimizer=sgd", "optimizer.lr=0.5", "trainer.max_epochs=8", "train.name=final"]
    trained(run("train", "from=first", *typed, cwd=cwd), final)
    found = summary(final)
    accuracies = curve(final_run(cwd), cwd, "val/accuracy")
    assert len(accuracies) == 8
    assert found["kept_epoch"] == accuracies.index(max(accuracies)) + 1
    assert found["val/accuracy"] == max(accuracies)

    assembly = recorded[-1]
    kept = torch.load(final / "best.ckpt", weights_only=True)
    assembly.module.load_state_dict(kept["state_dict"])
    assembly.module.cpu().eval()
    assert accuracy(assembly.module, assembly.data.val_dataloader()) == pytest.approx(found["val/accuracy"])
    assert accuracy(assembly.module, assembly.data.test_dataloader()) == pytest.approx(found["test"]["test/accuracy"])


def accuracy(module: Any, batches: Any) -> float:
    with torch.no_grad():
        right = torch.cat([module(features).argmax(1) == target for features, target in batches])
    return right.float().mean().item()


@pytest.mark.slow
def test_the_test_part_is_looked_at_once(cwd: Path, final: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from autotune.data import batches

    held_out = batches.held_out
    looked: list[tuple[Any, ...]] = []

    def counted(*arguments: Any) -> Any:
        looked.append(arguments)
        return held_out(*arguments)

    monkeypatch.setattr(batches, "held_out", counted)
    trained(run("train", "from=first", *UNTRACKED, cwd=cwd), final)
    assert len(looked) == 1


@pytest.mark.slow
def test_on_both_parts_it_is_trained_as_long_as_the_searchs_best_took(
    searched: Searched, cwd: Path, final: Path, recorded: list[Any]
) -> None:
    best = best_config(searched)
    best["origin"]["best_epoch"] = 2
    (cwd / "mine.yaml").write_text(yaml.safe_dump(best))
    ended = run("train", "from=mine.yaml", "train.on=train+val", *UNTRACKED, cwd=cwd)
    trained(ended, final)
    assert (summary(final)["trained_on"], summary(final)["epochs"], summary(final)["kept_epoch"]) == (
        "train+val",
        2,
        2,
    )
    split = recorded[-1].data.split
    assert (len(split.train), len(split.val)) == (1077 + 360, 0)
    assert "val/" not in ended.out
    assert set(summary(final)["test"]) == {"test/loss", "test/accuracy"}


@pytest.mark.slow
def test_a_length_that_is_typed_goes_before_the_searchs(searched: Searched, cwd: Path, final: Path) -> None:
    best = best_config(searched)
    best["origin"]["best_epoch"] = 2
    (cwd / "mine.yaml").write_text(yaml.safe_dump(best))
    arguments = ["train.on=train+val", "trainer.max_epochs=4"]
    trained(run("train", "from=mine.yaml", *arguments, *UNTRACKED, cwd=cwd), final)
    assert summary(final)["epochs"] == 4


@pytest.mark.slow
def test_a_name_used_again_is_trained_anew(cwd: Path, final: Path) -> None:
    trained(run("train", "from=first", *UNTRACKED, "trainer.max_epochs=2", cwd=cwd), final)
    before = torch.load(final / "best.ckpt", weights_only=True)["state_dict"]
    trained(run("train", "from=first", *UNTRACKED, "trainer.max_epochs=2", "seed=9", cwd=cwd), final)
    after = torch.load(final / "best.ckpt", weights_only=True)["state_dict"]
    assert any(not torch.equal(before[name], after[name]) for name in before)


# Several seeds, and the recipes beside them.

# What the search found may be one of the recipes; this is none.
OTHER = ("optimizer=sgd", "optimizer.lr=0.05", "schedule=constant", "trainer.max_epochs=2")

MISTAKES = {
    "no seeds": (["train.seeds=0"], "train.seeds: 0 is no number of seeds; give a whole number above 0"),
    "word for seeds": (["train.seeds=x"], "train.seeds: x is no number of seeds; give a whole number above 0"),
    "part of a seed": (["train.seeds=1.5"], "train.seeds: 1.5 is no number of seeds; give a whole number above 0"),
    "flag for seeds": (["train.seeds=true"], "train.seeds: True is no number of seeds; give a whole number above 0"),
    "word for recipes": (
        ["train.recipes=maybe"],
        "train.recipes: maybe is neither true nor false; give true, false or null",
    ),
    "recipes for a module with its own optimizer": (
        ["optimizer=own", "schedule=own", "train.recipes=true"],
        "train.recipes: true puts other optimizers in the place of the config's, and the module brings its own; "
        "give train.recipes=false, or an optimizer",
    ),
}


@pytest.mark.parametrize(("arguments", "line"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_in_seeds_or_recipes_is_one_line(arguments: list[str], line: str, tmp_path: Path) -> None:
    ended = run("train", *arguments, cwd=tmp_path)
    assert (ended.code, ended.out, ended.err) == (2, "", f"error: {line}\n")
    assert files(tmp_path) == set()


def test_a_recipe_that_cannot_work_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    # 24 samples to train on, all in one batch, which no recipe takes.
    small = ["data=synthetic", "data.samples=40", "data.batch_size=full", "trainer.accelerator=cpu"]
    ended = run("train", *small, "train.recipes=true", cwd=tmp_path)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        "error: train.recipes: the recipe adam cannot work: data.batch_size=32 is larger than the training set of 24; "
        "change it, or give train.recipes=false\n"
    )
    assert files(tmp_path) == set()


@pytest.mark.parametrize(
    ("arguments", "with_recipes"),
    [
        (["+origin.study=first"], False),
        (["train.seeds=5"], False),
        (["+origin.study=first", "train.seeds=5"], True),
        (["+origin.study=first", "train.seeds=5", "train.recipes=false"], False),
        (["+origin.study=first", "train.seeds=5", "optimizer=own", "schedule=own"], False),
        (["train.recipes=true"], True),
    ],
)
def test_the_recipes_are_trained_where_they_show_what_a_search_bought(arguments: list[str], with_recipes: bool) -> None:
    assert Plan.of(compose("train", arguments)).with_recipes == with_recipes


def test_the_seeds_begin_with_the_configs_own() -> None:
    plan = Plan.of(compose("train", ["seed=4294967294", "train.seeds=4"]))
    assert [config["seed"] for config in plan.seeded(plan.resolved)] == [4294967294, 4294967295, 0, 1]
    assert next(plan.seeded(plan.resolved)) == plan.resolved


@pytest.mark.slow
def test_several_seeds_have_a_mean_with_an_interval_beside_the_recipes(
    cwd: Path, final: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from autotune.data import batches

    held_out, looked = batches.held_out, []

    def counted(*arguments: Any) -> Any:
        looked.append(arguments)
        return held_out(*arguments)

    trained(run("train", "from=first", *OTHER, *UNTRACKED, cwd=cwd), final)
    alone, weights = summary(final), (final / "best.ckpt").read_bytes()
    monkeypatch.setattr(batches, "held_out", counted)
    ended = run("train", "from=first", *OTHER, "train.seeds=3", "train.name=final", cwd=cwd)
    trained(ended, final)
    assert len(looked) == 9, "three trainings each of the searched and of two recipes, each tested once"

    found = summary(final)
    assert found["test"] == alone["test"]
    assert (final / "best.ckpt").read_bytes() == weights
    assert found["model"] == "models:/autotune/1"
    accuracy = found["seeds"]["test/accuracy"]
    assert accuracy["values"].keys() == {"0", "1", "2"}
    assert accuracy["values"]["0"] == found["test"]["test/accuracy"]
    assert accuracy["low"] < accuracy["mean"] < accuracy["high"]
    assert found["recipes"].keys() == {"adam", "sgd"}
    for recipe in found["recipes"].values():
        measured, difference = recipe["test"]["test/accuracy"], recipe["difference"]["test/accuracy"]
        assert difference["values"] == {
            seed: pytest.approx(measured["values"][seed] - accuracy["values"][seed]) for seed in accuracy["values"]
        }
    assert f"searched  sgd lr 0.05 b{plain_yaml(final / 'config.yaml')['data']['batch_size']}" in ended.out
    assert "test/accuracy  95 % interval" in ended.out

    runs = Runs.at(cwd / "mlruns")
    parent = final_run(cwd)
    assert parent.data.metrics["seeds/test/accuracy/mean"] == pytest.approx(accuracy["mean"])
    children = [run for run in runs.children if run.data.tags["mlflow.parentRunId"] == parent.info.run_id]
    told = {
        (tags["stage"], tags["family"], tags["seed"], tags["state"], tags["reason"])
        for tags in (run.data.tags for run in children)
    }
    assert told == {
        *(("final-seed", "sgd", seed, "COMPLETE", "completed") for seed in "12"),
        *(("recipe", family, seed, "COMPLETE", "completed") for family in ("adam", "sgd") for seed in "012"),
    }
    assert len(children) == len(told)
    for child in children:
        tags = child.data.tags
        values = (
            accuracy["values"]
            if tags["stage"] == "final-seed"
            else found["recipes"][tags["family"]]["test"]["test/accuracy"]["values"]
        )
        assert child.info.status == "FINISHED"
        assert child.data.metrics["test/accuracy"] == pytest.approx(values[tags["seed"]])
        assert len(curve(child, cwd, "val/loss")) == 2
        again = yaml.safe_load(runs.artifact(child, "config.yaml"))
        assert (str(again["seed"]), again["optimizer"]["name"]) == (tags["seed"], tags["family"])


def test_a_recipe_that_is_the_configuration_itself_is_not_trained_again(
    tmp_path: Path, final: Path, recorded: list[Any]
) -> None:
    small = ["trainer.accelerator=cpu", "trainer.max_epochs=1", "model.hidden=[8]"]
    ended = run("train", *small, *UNTRACKED, "train.recipes=true", cwd=tmp_path)
    trained(ended, final)
    assert len(recorded) == 2
    found = summary(final)
    assert "seeds" not in found
    assert found["recipes"]["adam"]["difference"]["test/loss"]["mean"] == 0
    assert found["recipes"]["sgd"]["test"]["test/loss"]["low"] is None
    assert "the recipe adam is the configuration itself\n" in ended.out


def test_on_both_parts_all_are_trained_as_long(tmp_path: Path, final: Path, recorded: list[Any]) -> None:
    small = ["trainer.accelerator=cpu", "trainer.max_epochs=4", "model.hidden=[8]", "train.on=train+val"]
    origin = ["+origin.best_epoch=2", "+origin.max_epochs=4"]
    trained(run("train", *small, *origin, *UNTRACKED, "train.recipes=true", cwd=tmp_path), final)
    assert summary(final)["epochs"] == 2
    assert [each.module.trainer.current_epoch for each in recorded] == [2, 2, 2]
    assert [each.module.epochs for each in recorded] == [4, 2, 2], "the cosine of a recipe reaches its end"
    assert [len(each.data.split.val) for each in recorded] == [0, 0, 0]


def test_the_full_batch_is_not_the_recipes(tmp_path: Path, final: Path, recorded: list[Any]) -> None:
    small = ["trainer.accelerator=cpu", "trainer.max_epochs=1", "optimizer=bgd", "data.batch_size=full"]
    ended = run("train", *small, *UNTRACKED, "train.recipes=true", cwd=tmp_path)
    trained(ended, final)
    assert [each.data.batch_size for each in recorded] == [1077, 32, 32]
    assert "the recipe adam has batches of 32, not the full batch\n" in ended.out


def test_a_plan_is_carried_out_without_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small = ["trainer.accelerator=cpu", "trainer.max_epochs=1", "train.seeds=2"]
    result = train_plan(Plan.of(compose("train", [*small, *UNTRACKED])))
    assert result.folder == Path("mlruns/trained/final")
    assert result.weights.exists()
    assert result.summary == summary(result.folder)
    assert result.test == result.summary["test"]
    assert (result.model, result.ui_command) == (None, None)
    assert "recipes" not in result.summary


def test_after_a_plan_was_interrupted_an_interrupt_is_heard_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from autotune.final.training import _Progress

    def interrupt(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(_Progress, "on_train_epoch_end", interrupt)
    given = signal.signal(signal.SIGINT, signal.default_int_handler)  # what starts the tests may have it ignored
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train_plan(Plan.of(compose("train", ["trainer.accelerator=cpu", *UNTRACKED])))
    assert signal.signal(signal.SIGINT, given) is before


# MLflow.


@pytest.mark.slow
def test_a_final_training_is_a_run_linked_to_where_it_comes_from(searched: Searched, cwd: Path, final: Path) -> None:
    ended = run("train", "from=first", "train.name=final", cwd=cwd)
    trained(ended, final)
    found = final_run(cwd)
    best = summary(searched.study)["best_trial"]
    searches = [run for run in Runs.at(cwd / "mlruns").parents if run.data.tags["kind"] == "search"]
    tags = found.data.tags
    assert (found.info.status, found.info.run_name, tags["stage"], tags["study"]) == (
        "FINISHED",
        "final",
        "train",
        "first",
    )
    assert [tags["search_run"]] == [run.info.run_id for run in searches]
    assert tags["trial_run"] == Runs.at(cwd / "mlruns").child(best).info.run_id
    assert (tags["trial_number"], tags["trained_on"], tags["seed"]) == (str(best), "train", "0")
    assert tags["family"] == best_config(searched)["optimizer"]["name"]
    assert all(f"runs/{tags[key]})" in tags["mlflow.note.content"] for key in ("search_run", "trial_run"))
    assert found.data.params["optimizer.name"] == tags["family"]
    assert {metric: found.data.metrics[metric] for metric in ("test/loss", "test/accuracy")} == summary(final)["test"]
    assert found.data.metrics["cost/parameters"] == summary(final)["cost"]["cost/parameters"]
    assert plain_yaml(final / "config.yaml")["train"]["name"] == "final"
    told = yaml.safe_load(Runs.at(cwd / "mlruns").artifact(found, "config.yaml"))
    assert told["model"] == best_config(searched)["model"]
    assert json.loads(Runs.at(cwd / "mlruns").artifact(found, "summary.json")) == summary(final)
    assert "browse:              mlflow ui --backend-store-uri sqlite:///mlruns/mlflow.db" in ended.out
    assert {path.name for path in cwd.iterdir()} == {"mlruns"}
    assert {path.name for path in (cwd / "mlruns").iterdir() if not path.name.startswith("mlflow.db-")} == {
        *("studies", "trained", "artifacts", "mlflow.db", "mlflow.lock")
    }


@pytest.mark.slow
def test_the_same_seed_gives_the_numbers_of_the_trial(searched: Searched, cwd: Path, final: Path) -> None:
    trained(run("train", "from=first", "train.name=final", cwd=cwd), final)
    backend = JournalFileBackend(str(searched.study / "study.journal"))
    study = optuna.load_study(study_name="first", storage=JournalStorage(backend))
    curves = study.trials[summary(searched.study)["best_trial"]].user_attrs["curves"]
    found = final_run(cwd)
    for name, values in curves.items():
        there = curve(found, cwd, name)
        assert len(there) == len(values)
        # It trained among others, so to rounding, in the first epoch, after which errors of float32 have not grown.
        assert there[0] == pytest.approx(values[0], rel=1e-4)


@pytest.mark.slow
def test_the_registered_model_answers_raw_features_with_probabilities(
    cwd: Path, final: Path, recorded: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    ended = run("train", "from=first", "train.name=final", "train.register=digits", cwd=cwd)
    trained(ended, final)
    assert summary(final)["model"] == "models:/digits/1"
    assert "model:               models:/digits/1" in ended.out
    network, preprocess = recorded[-1].module.network.eval(), recorded[-1].data.split.preprocess
    features = load_digits().data[:20].astype(numpy.float32)
    with torch.no_grad():
        right = torch.softmax(network(preprocess(torch.from_numpy(features))), dim=1)

    monkeypatch.chdir(cwd / "mlruns")
    mlflow.set_tracking_uri(f"sqlite:///{cwd}/mlruns/mlflow.db")
    try:
        model = mlflow.pytorch.load_model("models:/digits/1")
        served = mlflow.pyfunc.load_model("models:/digits/1")
        info = mlflow.models.get_model_info("models:/digits/1")
        version = mlflow.MlflowClient().get_model_version("digits", "1")
    finally:
        mlflow.set_tracking_uri(None)
    with torch.no_grad():
        torch.testing.assert_close(model(torch.from_numpy(features)), right)
    numpy.testing.assert_allclose(served.predict(features), right.numpy(), rtol=1e-5, atol=1e-6)
    assert version.run_id == final_run(cwd).info.run_id
    assert info.signature.inputs.inputs[0].shape == (-1, 64)
    assert info.signature.outputs.inputs[0].shape == (-1, 10)
    example = json.loads((Path(model_files(cwd)) / "serving_input_example.json").read_text())
    assert numpy.array(example["inputs"]).shape[1:] == (64,)


def model_files(cwd: Path) -> Path:
    (folder,) = {path.parent for path in (cwd / "mlruns" / "artifacts").rglob("MLmodel")}
    return folder


@pytest.mark.slow
def test_a_model_need_not_be_registered_and_is_registered_as_often_as_wanted(cwd: Path, final: Path) -> None:
    trained(run("train", "from=first", "train.name=final", "train.register=null", cwd=cwd), final)
    assert summary(final)["model"].startswith("models:/m-")
    for version in (1, 2):
        trained(run("train", "from=first", "train.name=final", cwd=cwd), final)
        assert summary(final)["model"] == f"models:/autotune/{version}"


@pytest.mark.slow
def test_mlflow_is_written_to_where_the_environment_says(cwd: Path, final: Path) -> None:
    (cwd / "mlruns" / "mlflow.db").rename(cwd / "mlflow.db")
    ended = run("train", "from=first", "train.name=final", cwd=cwd, MLFLOW_TRACKING_URI="sqlite:///mlflow.db")
    trained(ended, final)
    assert not (cwd / "mlruns" / "mlflow.db").exists()
    assert "train" in [run.data.tags["kind"] for run in Runs.at(cwd).parents]


# Ends that are none.


@pytest.mark.slow
def test_a_metric_that_nothing_logs(cwd: Path) -> None:
    before = files(cwd)
    typed = ["objective.metric=val/acuracy", "objective.direction=maximize", "train.name=final"]
    ended = run("train", "from=first", *typed, cwd=cwd)
    assert ended.code == 2
    assert ended.err == (
        "error: objective.metric: val/acuracy is not logged; logged are lr, train/loss, val/accuracy, val/loss; "
        "name one of those\n"
    )
    assert files(cwd) == before
    assert {run.data.tags["kind"] for run in Runs.at(cwd / "mlruns").parents} == {"search"}


@pytest.mark.slow
def test_what_cannot_work_is_refused(cwd: Path) -> None:
    before = files(cwd)
    ended = run("train", "from=first", "data.batch_size=5000", cwd=cwd)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("error: train: this configuration cannot work: data.batch_size=5000 is larger than")
    assert files(cwd) == before


def test_a_database_that_cannot_be_opened(tmp_path: Path) -> None:
    ended = run("train", "trainer.accelerator=cpu", "tracking.uri=nosuchdb://x", cwd=tmp_path)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("error: tracking.uri: nosuchdb://x cannot be opened")
    assert files(tmp_path) == set()


@pytest.mark.slow
def test_the_users_code_that_raises(cwd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from autotune.models.mlp import MLP

    def broken(*_: Any) -> None:
        raise LookupError("the user's own mistake")

    monkeypatch.setattr(MLP, "forward", broken)
    ended = run("train", "from=first", "train.name=final", cwd=cwd)
    assert ended.code == 1
    (said,) = ended.err.splitlines()
    assert said.startswith("error: the training raised LookupError: the user's own mistake (")
    assert said.endswith("in broken); its config and the traceback are in mlruns/trained/final/train.log")
    assert "Traceback (most recent call last):" in (cwd / "mlruns" / "trained" / "final" / "train.log").read_text()
    assert final_run(cwd).info.status == "FAILED"


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"])
def test_an_interrupted_training_keeps_what_it_has(
    number: signal.Signals, code: int, cwd: Path, final: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from autotune.final.registry import FinalRun

    log = FinalRun.log

    def interrupt(run: FinalRun, metrics: Mapping[str, float], step: int, *more: Any) -> None:
        log(run, metrics, step, *more)
        if step == 2:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(FinalRun, "log", interrupt)
    handlers = [signal.getsignal(each) for each in signal.valid_signals()]
    ended = run("train", "from=first", "train.name=final", "trainer.max_epochs=5", cwd=cwd)
    assert (ended.code, ended.err) == (code, "")
    assert "epoch 3/5" not in ended.out
    assert {path.name for path in final.iterdir()} == TRAINED_FILES - {"summary.json"}
    assert final_run(cwd).info.status == "KILLED"
    assert len(curve(final_run(cwd), cwd, "val/loss")) == 2
    assert [signal.getsignal(each) for each in signal.valid_signals()] == handlers


def statuses(cwd: Path) -> dict[str, list[str]]:
    """How the runs of the final training ended, by their stage."""
    parent = final_run(cwd)
    found: dict[str, list[str]] = {"train": [parent.info.status]}
    for child in Runs.at(cwd / "mlruns").children:
        if child.data.tags["mlflow.parentRunId"] == parent.info.run_id:
            found.setdefault(child.data.tags["stage"], []).append(child.info.status)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"])
def test_an_interrupt_among_the_seeds_keeps_those_that_are_trained(
    number: signal.Signals, code: int, cwd: Path, final: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from autotune.final.registry import Measurements

    log = Measurements.log
    tested: list[Any] = []

    def interrupt(told: Measurements, metrics: Mapping[str, float], step: int, *more: Any) -> None:
        log(told, metrics, step, *more)
        if step == 0:
            tested.append(told)
        if len(tested) == 1 and step == 2:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(Measurements, "log", interrupt)
    handlers = [signal.getsignal(each) for each in signal.valid_signals()]
    ended = run("train", "from=first", *OTHER, "train.seeds=5", "train.name=final", cwd=cwd)
    assert (ended.code, ended.err) == (code, "")
    assert {path.name for path in final.iterdir()} == TRAINED_FILES
    assert summary(final)["seeds"]["test/loss"]["values"].keys() == {"0", "1"}
    assert "recipes" not in summary(final)
    assert statuses(cwd) == {"train": ["KILLED"], "final-seed": ["FINISHED", "KILLED"]}
    assert final_run(cwd).data.metrics["test/loss"] == summary(final)["test"]["test/loss"]
    assert [signal.getsignal(each) for each in signal.valid_signals()] == handlers


@pytest.mark.slow
def test_code_that_raises_among_the_seeds_keeps_those_that_are_trained(
    cwd: Path, final: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import autotune.final.training

    train_and_test = autotune.final.training.train_and_test
    begun: list[Any] = []

    def broken(*arguments: Any) -> Any:
        begun.append(arguments)
        if len(begun) == 3:
            raise LookupError("the user's own mistake")
        return train_and_test(*arguments)

    monkeypatch.setattr(autotune.final.training, "train_and_test", broken)
    ended = run("train", "from=first", *OTHER, "train.seeds=5", "train.name=final", cwd=cwd)
    assert ended.code == 1
    assert ended.err.startswith("error: the training raised LookupError: the user's own mistake (")
    assert {path.name for path in final.iterdir()} == TRAINED_FILES
    assert summary(final)["seeds"]["test/loss"]["values"].keys() == {"0", "1"}
    assert statuses(cwd) == {"train": ["FAILED"], "final-seed": ["FINISHED", "FAILED"]}


# The user's own.


@pytest.mark.slow
def test_the_users_own_module_is_searched_trained_tested_and_served(
    cwd: Path, final: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    write_users_own(cwd)
    monkeypatch.syspath_prepend(str(cwd))
    small = ["trainer.accelerator=cpu", "trainer.max_epochs=2", "budget.trials=2", "study.name=mine"]
    ended = run("search", *USERS_ARGUMENTS, *small, "schedule=cosine", "tracking=none", cwd=cwd)
    assert (ended.code, ended.err) == (0, "")
    again = ["from=mine", "train.name=final", "train.register=own"]
    refused = run("train", *again, cwd=cwd)
    assert (refused.code, refused.out) == (2, "")
    remedy = "type allow_targets=[users_own] behind the command if you trust it"
    assert refused.err == f"error: data._target_: users_own.Data is not allowed to be made; {remedy}\n"
    trained(run("train", *again, "allow_targets=[users_own]", cwd=cwd), final)
    best = plain_yaml(cwd / "mlruns" / "studies" / "mine" / "best.yaml")
    found = summary(final)
    assert found["val_acc"] == best["origin"]["value"]
    assert 0 <= found["test"]["test_acc"] <= 1
    assert found["model"] == "models:/own/1"
    mlflow.set_tracking_uri(f"sqlite:///{cwd}/mlruns/mlflow.db")
    try:
        answers = mlflow.pyfunc.load_model("models:/own/1").predict(numpy.zeros((5, 4), numpy.float32))
    finally:
        mlflow.set_tracking_uri(None)
    assert answers.shape == (5, 2)


@pytest.mark.slow
def test_the_users_own_module_is_compared_with_the_recipes_unless_it_brings_its_optimizer(
    tmp_path: Path, final: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_users_own(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    own = [*USERS_ARGUMENTS, "trainer.accelerator=cpu", "trainer.max_epochs=1", "+origin.study=mine"]
    own += ["model.width=4", "data.batch_size=20", "train.seeds=2", *UNTRACKED]
    ended = run("train", *own, "optimizer.lr=0.01", cwd=tmp_path)
    trained(ended, final)
    assert summary(final)["recipes"].keys() == {"adam", "sgd"}
    assert "test_acc" in summary(final)["seeds"]

    with (tmp_path / "users_own.py").open("a") as file:
        file.write("\n    def configure_optimizers(self):\n        return torch.optim.SGD(self.parameters(), 0.1)\n")
    monkeypatch.delitem(sys.modules, "users_own")
    ended = run(
        "train", *[each for each in own if each != "optimizer=mine"], "optimizer=own", "schedule=own", cwd=tmp_path
    )
    trained(ended, final)
    assert "recipes" not in summary(final)
    assert "no recipe is trained beside it: the module brings its own optimizer\n" in ended.out


def test_a_test_score_is_set_against_the_confirmed_one() -> None:
    summary = {"origin": {"confirmed": {"mean": 0.98333}}, "test": {"test/accuracy": 0.9639}, "test_samples": 360}
    assert set_against_confirmed(summary, "val/accuracy") == (
        "the search confirmed val/accuracy 0.9833 on the validation part, by which it also chose; the test part is 360 "
        "other samples, which alone leave test/accuracy open between 0.939 and 0.981 (95 %)"
    )
    loss = {**summary, "test": {"test/loss": 0.1}}
    assert set_against_confirmed(loss, "val/loss") == (
        "the search confirmed val/loss 0.9833 on the validation part, by which it also chose; the test part is 360 "
        "other samples"
    )
    own = {**summary, "test_samples": None}
    assert str(set_against_confirmed(own, "val/accuracy")).endswith("the test part is other data")
    for unknown in ({**summary, "origin": {}}, loss):
        assert set_against_confirmed(unknown, "val/accuracy") is None
