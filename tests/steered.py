"""A search as the command sets it up, from conf/search.yaml, but for the training."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import cache
from math import log10
from typing import Any, NamedTuple

import optuna
from omegaconf import DictConfig, OmegaConf
from optuna.storages import BaseStorage, InMemoryStorage

from autotune.compose import compose, conf_dir, plain, section
from autotune.kept.ledger import Ledger
from autotune.search import check_config
from autotune.steering import build_pruner, build_sampler, first_seed, sampler_by_trial
from autotune.study import Coordinator
from autotune.trial import Record

from .fakes import Curve, FakeExecutor, FakeTracker

EPOCHS = 9


def curve(config: Mapping[str, Any]) -> list[dict[str, float]]:
    """The nearer the rate to 0.1 (BGD: 1) and the larger the batch, the better; better at every epoch."""
    best = 1.0 if config["optimizer"]["name"] == "bgd" else 0.1
    batch = config["data"]["batch_size"]
    reach = 1 / (1 + abs(log10(config["optimizer"]["lr"] / best))) - (0 if batch == "full" else 1 / batch)
    parts = [reach * (epoch + 1) / EPOCHS for epoch in range(config["trainer"]["max_epochs"])]
    return [{"train/loss": 1 - part, "val/loss": 2 - part, "val/accuracy": part} for part in parts]


class Searched(NamedTuple):
    """A search that was run to its end, and what it is kept in."""

    coordinator: Coordinator
    records: list[Record]
    storage: BaseStorage


def search(
    *overrides: str,
    pruner: str = "none",
    steer: Mapping[str, Any] | None = None,
    trials: int | None = None,
    epochs: int | None = None,
    seed: int = 0,
    enqueue: Sequence[Mapping[str, Any]] | None = None,
    slots: int = 1,
    learn: Curve = curve,
    refuse: Any = lambda _: None,
    storage: BaseStorage | None = None,
) -> Searched:
    """Run a search to its end; one that is in the storage already goes on.

    Args:
        overrides: Of conf/search.yaml; the rest are changes to what they compose, which are cheaper.
        pruner: An option of conf/pruner.
        steer: Changes to it.
    """
    config = copy.deepcopy(_composed(overrides))
    config.pruner = OmegaConf.load(conf_dir() / "pruner" / f"{pruner}.yaml")
    config.pruner.update({"compare": "all", "until": 0.1, "audit": 0.0, **(steer or {})})
    config.budget.update({"trials": trials, "epochs": epochs})
    config.study.seed = seed
    if enqueue is not None:
        config.study.enqueue = enqueue
    OmegaConf.resolve(config)  # once, not for each trial
    settings, space = check_config(config)
    storage = storage or InMemoryStorage()
    ledger = Ledger(storage, None, settings.name, settings.objective.direction)
    steered_by = section(config, "sampler")
    sampler = build_sampler(steered_by, space, first_seed(steered_by, seed, len(ledger.trials())))
    coordinator = Coordinator(
        settings,
        space,
        ledger,
        FakeExecutor(learn, refuse, slots),
        FakeTracker(),
        sampler,
        build_pruner(section(config, "pruner"), settings.objective),
        sampler_by_trial(sampler, steered_by, seed),
    )
    coordinator.run()
    return Searched(coordinator, ledger.records(), storage)


@cache
def _composed(overrides: Sequence[str]) -> DictConfig:
    # As the command does: what a library says is kept off the terminal.
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    config = compose("search", ["study.name=s", f"trainer.max_epochs={EPOCHS}", *overrides])
    return OmegaConf.create(plain(config))
