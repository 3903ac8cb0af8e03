"""Composing as the commands do: sweeps stay in the config, choices of groups become trees, mistakes become one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from autotune.compose import compose, conf_dir, plain
from autotune.errors import UserError
from autotune.space import Space


def space(*overrides: str, config_dir: Path | None = None) -> Space:
    return Space(compose("search", overrides, None if config_dir is None else str(config_dir)))


def test_the_default_space_is_the_missions() -> None:
    assert set(space().parameters()) == {
        "optimizer",
        "optimizer.sgd.lr",
        "optimizer.sgd.momentum",
        "optimizer.bgd.lr",
        "optimizer.adam.lr",
        "schedule",
        "schedule.exponential.decay",
        "schedule.dynamic.decay",
        "data.batch_size",
        "model.batch_norm",
    }


def test_an_option_fixes_its_group() -> None:
    names = set(space("optimizer=adam", "schedule=cosine").parameters())
    assert names == {"data.batch_size", "model.batch_norm"}


SWEEPS = {
    "interval": ("optimizer.lr=tag(log,interval(1e-4,1))", "optimizer.lr"),
    "numbers": ("data.batch_size=32,64,128", "data.batch_size"),
    "choice": ("model.activation=choice(relu,tanh)", "model.activation"),
    "words": ("model.activation=relu,tanh", "model.activation"),
    "lists": ("model.hidden=[64,32],[128]", "model.hidden"),
    "null": ("trainer.gradient_clip_val=null,1.0", "trainer.gradient_clip_val"),
    "range": ("trainer.max_epochs=range(5,50,5)", "trainer.max_epochs"),
    "added": ("+trainer.limit_train_batches=1,2", "trainer.limit_train_batches"),
}


@pytest.mark.parametrize(("override", "name"), SWEEPS.values(), ids=SWEEPS)
def test_sweeps_on_the_command_line_are_searched(override: str, name: str) -> None:
    assert name in space("optimizer=adam", override).parameters()


def test_yaml_and_command_line_mean_the_same(tmp_path: Path) -> None:
    (tmp_path / "optimizer").mkdir()
    (tmp_path / "optimizer" / "mine.yaml").write_text(
        "name: mine\n_target_: torch.optim.SGD\nlr: tag(log, interval(1e-3, 1))\n"
    )
    written = space("optimizer=mine", config_dir=tmp_path).parameters()["optimizer.lr"]
    typed = space("optimizer=sgd", "optimizer.lr=tag(log,interval(1e-3,1))").parameters()["optimizer.lr"]
    assert written == typed


def test_a_choice_of_groups_is_a_tree() -> None:
    tree = space("optimizer=sgd,adam", "optimizer.sgd.lr=interval(0.1,0.2)")
    assert tree.parameters()["optimizer"].options() == ("sgd", "adam")
    assert (
        tree.resolve({"optimizer": "adam", "schedule": "constant", "data.batch_size": 16, "model.batch_norm": True})[
            "optimizer"
        ]["lr"]
        == 1e-3
    )
    assert "optimizer.sgd.lr" in tree.parameters()


def test_a_value_given_to_a_tree_goes_to_each_branch() -> None:
    assert {"optimizer.sgd.lr", "optimizer.adam.lr"} <= set(
        space("optimizer=sgd,adam", "optimizer.lr=interval(0.1,0.2)").parameters()
    )


def test_a_tree_may_hold_a_tree() -> None:
    names = set(space("optimizer=sweep,own").parameters())
    assert {"optimizer", "optimizer.sweep", "optimizer.sweep.sgd.lr"} <= names


def test_a_choice_of_data_keeps_what_each_is_searched_for() -> None:
    assert {"data", "data.digits.batch_size", "data.synthetic.batch_size"} <= set(
        space("data=digits,synthetic").parameters()
    )


def test_branches_are_restricted_and_narrowed_from_the_command_line() -> None:
    narrowed = space(
        "optimizer=sweep", "optimizer.only=[sgd,adam]", "optimizer.sgd.lr=tag(log,interval(1e-2,1))"
    ).parameters()
    assert narrowed["optimizer"].options() == ("sgd", "adam")
    assert tuple(narrowed["optimizer.sgd.lr"].extremes()) == (1e-2, 1.0)
    assert "optimizer.bgd.lr" not in narrowed


def test_bgd_has_no_batch_size() -> None:
    fixed = space("optimizer=bgd", "schedule=constant")
    assert set(fixed.parameters()) - {"model.batch_norm"} == {"data.batch_size"}
    assert fixed.resolve({"model.batch_norm": True})["data"]["batch_size"] == "full"


def test_a_users_file_goes_in_front_of_ours(tmp_path: Path) -> None:
    (tmp_path / "optimizer").mkdir()
    (tmp_path / "optimizer" / "adam.yaml").write_text("name: adam\n_target_: torch.optim.Adam\nlr: 0.5\n")
    assert compose("search", ["optimizer=adam"], str(tmp_path)).optimizer.lr == 0.5
    assert compose("search", ["optimizer=adam", f"hydra.searchpath=[file://{tmp_path}]"]).optimizer.lr == 0.5
    assert compose("search", ["optimizer=adam"]).optimizer.lr == 1e-3


def test_a_users_model_is_searched_only_for_what_it_says(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("_target_: mine.Model\nwidth: int(interval(1,9))\n")
    names = set(space("model=mine", "optimizer=adam", "schedule=constant", config_dir=tmp_path).parameters())
    assert names == {"model.width", "data.batch_size"}


def test_experiments_win_over_the_groups(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    text = (
        "# @package _global_\ndefaults:\n  - override /optimizer: adam\ndata:\n  batch_size: 7\nbudget:\n  trials: 3\n"
    )
    (tmp_path / "experiment" / "mine.yaml").write_text(text)
    config = compose("search", ["experiment=mine"], str(tmp_path))
    assert (config.optimizer.name, config.data.batch_size, config.budget.trials) == ("adam", 7, 3)


MISTAKES = {
    "misspelt option": (["optimizer=adm"], "optimizer: no option adm; did you mean adam?"),
    "misspelt option of several": (["optimizer=sgd,adm"], "optimizer: no option adm; did you mean adam?"),
    "misspelt group": (["optimzer=sgd"], "optimzer: there is no such key; did you mean optimizer?"),
    "misspelt key": (
        ["optimizer=adam", "optimizer.lrr=1"],
        "optimizer.lrr: there is no such key; did you mean optimizer.lr?",
    ),
    "misspelt section": (["budgt.trials=1"], "budgt.trials: there is no such key; did you mean budget?"),
    "key of a branch": (
        ["optimizer.lr=1"],
        "optimizer.lr: optimizer is a choice among sgd, bgd, adam; name the branch: optimizer.sgd.lr=...",
    ),
    "two samplers": (
        ["sampler=tpe,random"],
        "sampler: tpe,random is a choice; a search has one sampler; --multirun runs a search for each",
    ),
    "no override": (
        ["optimizer"],
        "optimizer: optimizer is not understood (missing EQUAL at '<EOF>'); write key=value",
    ),
    "added twice": (["+budget.trials=3"], "budget.trials: is there already; leave out the +: budget.trials=..."),
    "unknown sampler": (["sampler=tpee"], "sampler: no option tpee; did you mean tpe?"),
}


@pytest.mark.parametrize(("overrides", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_one_line_with_the_remedy(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        compose("search", overrides)
    assert str(caught.value) == message


def test_a_config_dir_that_is_none() -> None:
    with pytest.raises(UserError, match=r"^--config-dir: nowhere is no directory; "):
        compose("search", [], "nowhere")


@pytest.mark.parametrize("file", sorted(conf_dir().rglob("*.yaml")), ids=lambda file: str(file.relative_to(conf_dir())))
def test_every_file_of_conf_composes(file: Path) -> None:
    group, option = file.parent.relative_to(conf_dir()), file.stem
    if str(group) == ".":
        config = compose(option, [])
    elif group.name == "space":
        config = compose("search", [f"{group.parent}={option}"])
        for key, value in OmegaConf.load(file).items():
            assert config[str(group.parent)][key] == value
        return
    else:
        extra = ["storage.url=sqlite://"] if option == "rdb" else []
        config = compose("search", [f"{group}={option}", *extra])
    Space(plain(config))
    assert file.read_text().startswith("#"), "each file says on top what it is"


def test_a_home_that_a_file_says_may_begin_with_the_home_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/homes/me")
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nhome: ~/runs\n")
    config = compose("search", ["experiment=mine", "study.name=2026_12_01"], str(tmp_path))
    assert (config.home, config.study.name) == ("/homes/me/runs", "2026_12_01")
