"""The usual recipes in the place of what was searched."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from autotune.assembly import assemble, refusal
from autotune.compose import compose
from autotune.data.batches import ArrayData
from autotune.final.recipes import RECIPES, Recipe
from autotune.learner import Learner
from autotune.optim.schedules import Constant, Cosine
from autotune.train import Plan

BY_NAME = {recipe.name: recipe for recipe in RECIPES}


def resolved(*overrides: str) -> dict[str, Any]:
    config = compose("train", ["trainer.accelerator=cpu", *overrides])
    return dict(Plan.of(config).resolved)


def test_adam_is_kept_at_its_published_rate() -> None:
    config = resolved("optimizer=sgd", "optimizer.lr=0.03", "optimizer.weight_decay=0.01", "schedule=exponential")
    module = assemble(BY_NAME["adam"].applied(config, 5)).module
    assert isinstance(module, Learner)
    assert isinstance(module.schedule, Constant)
    optimizer = module.make_optimizer(module.network.parameters())
    assert isinstance(optimizer, torch.optim.Adam)
    assert optimizer.defaults.items() >= {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}.items()


def test_sgd_has_momentum_and_falls_by_a_cosine_to_the_last_epoch() -> None:
    config = resolved("optimizer=adam", "schedule=dynamic", "trainer.max_epochs=20")
    module = assemble(BY_NAME["sgd"].applied(config, 5)).module
    assert isinstance(module, Learner)
    assert isinstance(module.schedule, Cosine)
    assert module.epochs == 5
    optimizer = module.make_optimizer(module.network.parameters())
    assert isinstance(optimizer, torch.optim.SGD)
    assert optimizer.defaults.items() >= {"lr": 0.1, "momentum": 0.9, "nesterov": False, "weight_decay": 0.0}.items()


@pytest.mark.parametrize("recipe", RECIPES, ids=BY_NAME)
def test_all_else_stays(recipe: Recipe) -> None:
    config = resolved("model.batch_norm=true", "data.batch_size=128", "seed=3", "trainer.gradient_clip_val=1.0")
    found = recipe.applied(config, config["trainer"]["max_epochs"])
    assert found.keys() == config.keys()
    changed = {key for key in config if found[key] != config[key]}
    assert changed <= {"optimizer", "schedule"}


@pytest.mark.parametrize("recipe", RECIPES, ids=BY_NAME)
def test_a_recipe_is_not_trained_on_the_full_batch(recipe: Recipe) -> None:
    config = resolved("optimizer=bgd", "data.batch_size=full", "optimizer.micro_batch=100")
    for data in (config["data"], {key: value for key, value in config["data"].items() if key != "batch_size"}):
        found = recipe.applied({**config, "data": data}, 2)
        made = assemble(found).data
        assert isinstance(made, ArrayData)
        assert made.batch_size == 32
        assert refusal(found) is None
        assert config["data"]["batch_size"] == "full"


@pytest.mark.parametrize("recipe", RECIPES, ids=BY_NAME)
def test_a_recipe_is_as_shipped_whatever_the_users_own_file_says(recipe: Recipe, tmp_path: Any) -> None:
    plain = recipe.applied(resolved(), 2)
    (tmp_path / "optimizer").mkdir()
    (tmp_path / "optimizer" / f"{recipe.optimizer}.yaml").write_text(
        "name: mine\n_target_: torch.optim.RMSprop\nlr: 1.0\n"
    )
    config = compose("train", ["trainer.accelerator=cpu"], str(tmp_path))
    assert recipe.applied(Plan.of(config).resolved, 2)["optimizer"] == plain["optimizer"]
