"""What a search has to beat: the usual recipes, put in the place of what was searched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from omegaconf import OmegaConf

from autotune.assembly import build_data
from autotune.data.batches import ArrayData
from autotune.trust.config_files import conf_dir

# The batch size of a recipe where the config's own is the whole training part.
BATCH_SIZE = 32


@dataclass(frozen=True, slots=True)
class Recipe:
    """An optimizer and a schedule as shipped, with the values that make the recipe.

    Attributes:
        name: In tables, summary.json and MLflow.
        optimizer: The option of conf/optimizer.
        schedule: The option of conf/schedule.
        values: Of the optimizer, put over the option's own.
    """

    name: str
    optimizer: str
    schedule: str
    values: Mapping[str, float]

    def applied(self, config: Mapping[str, Any], epochs: int) -> dict[str, Any]:
        """A resolved config with this recipe; data, model, task, epochs and seed stay.

        Args:
            config: Resolved.
            epochs: How long it is trained, which the schedule is laid out for.

        Raises:
            UserError: The data cannot be built.
        """
        batch_size = {"batch_size": BATCH_SIZE} if _is_full_batch(config) else {}
        return {
            **config,
            "data": {**config["data"], **batch_size},
            "optimizer": {**_shipped("optimizer", self.optimizer), **self.values},
            "schedule": _shipped("schedule", self.schedule),
            "trainer": {**config["trainer"], "max_epochs": epochs},
        }


RECIPES = (
    Recipe("adam", "adam", "constant", {"lr": 1e-3}),
    Recipe("sgd", "sgd", "cosine", {"lr": 0.1, "momentum": 0.9}),
)


def _shipped(group: str, option: str) -> dict[str, Any]:
    """An option as it is shipped, whatever file of that name the user has in front of it."""
    section = OmegaConf.to_container(OmegaConf.load(conf_dir() / group / f"{option}.yaml"), resolve=True)
    assert isinstance(section, dict)
    return {str(key): value for key, value in section.items()}


def _is_full_batch(config: Mapping[str, Any]) -> bool:
    batch_size = config["data"].get("batch_size")
    return batch_size == "full" or (batch_size is None and isinstance(build_data(config), ArrayData))
