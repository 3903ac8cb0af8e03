"""What the values of a resolved config must be, so far as it is known without importing what they are given to.

Each rule is applied to every value a search could hand out (the ends of its ranges, all its choices), so that a mistake
is found before the first trial and before torch is imported. The parts themselves check the rest when they are built.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from autotune.errors import UserError, nearest
from autotune.settings import LARGEST
from autotune.space.template import Leaf
from autotune.space.tree import Space

MOST_EPOCHS = 1_000_000
ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps", "tpu")


@dataclass(frozen=True, slots=True)
class Rule:
    """What is right for one key; `owner` is the prefix of the ``_target_`` that must stand beside it, empty for any."""

    holds: Callable[[Any], bool]
    right: str
    owner: str = ""


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _positive_whole(value: Any) -> bool:
    return _whole(value) and value > 0


def _positive(value: Any) -> bool:
    return _number(value) and value > 0


def _part(value: Any) -> bool:
    return _number(value) and 0 < value < 1


def _below_one(value: Any) -> bool:
    return _number(value) and 0 <= value < 1


def _not_negative(value: Any) -> bool:
    return _number(value) and value >= 0


def _share(value: Any) -> bool:
    return _number(value) and 0 <= value <= 1


def _reduction(value: Any) -> bool:
    return _number(value) and 0 < value <= 1


def _counted(value: Any) -> bool:
    return _whole(value) and value >= 0


def _milestones(value: Any) -> bool:
    return isinstance(value, list) and all(map(_part, value)) and sorted(set(value)) == value


def _text(value: Any) -> bool:
    return isinstance(value, str) and value.strip() != ""


def _name(value: Any) -> bool:
    return _text(value) or _number(value)  # a column may be called 2020


def _names(value: Any) -> bool:
    return value is None or _name(value) or (isinstance(value, list) and all(map(_name, value)))


def _words(value: Any) -> bool:
    return value is None or _text(value) or (isinstance(value, list) and all(map(_text, value)))


def _one_device(value: Any) -> bool:
    """Whether Lightning would not start the command again for each further device; what is no number it refuses."""
    several = value.isdecimal() and int(value) > 1 if isinstance(value, str) else _whole(value) and value > 1
    return not several and not (isinstance(value, list) and len(value) > 1)


_SEED = Rule(lambda value: _whole(value) and 0 <= value < 2**32, "a whole number from 0 to 4294967295")
_FLAG = "true or false"

# By key; where classes differ in what one key may be, `key:Class` goes first.
RULES = {
    "seed": _SEED,
    "data.seed": _SEED,
    "data.batch_size": Rule(
        lambda value: value == "full" or _positive_whole(value), "a whole number above 0, or full", "autotune."
    ),
    "data.validation": Rule(_part, "a part of the whole, between 0 and 1", "autotune."),
    "data.test": Rule(_part, "a part of the whole, between 0 and 1", "autotune."),
    "data.samples": Rule(_positive_whole, "a whole number above 0", "autotune."),
    "data.features": Rule(_positive_whole, "a whole number above 0", "autotune."),
    "data.classes": Rule(lambda value: _whole(value) and value >= 2, "a whole number from 2 on", "autotune."),
    "data.noise": Rule(_not_negative, "a number not below 0", "autotune."),
    "data.images": Rule(lambda value: isinstance(value, bool), _FLAG, "autotune."),
    "data.path": Rule(_text, "the path of your data: data.path=...", "autotune."),
    "data.target": Rule(
        lambda value: _name(value) or (_names(value) and bool(value)),
        "the name of a column: data.target=...",
        "autotune.",
    ),
    "data.categorical": Rule(_names, "a list of columns: [a,b]", "autotune."),
    "data.drop": Rule(_names, "a list of columns: [a,b]", "autotune."),
    "data.keep": Rule(_names, "a list of columns: [a,b]", "autotune."),
    "data.levels": Rule(_positive_whole, "a whole number above 0", "autotune."),
    "data.delimiter": Rule(
        lambda value: value is None or (isinstance(value, str) and len(value) == 1),
        "one character, or null",
        "autotune.",
    ),
    "data.encoding": Rule(lambda value: value is None or _text(value), "the name of an encoding, or null", "autotune."),
    "data.drop_missing_target": Rule(lambda value: isinstance(value, bool), _FLAG, "autotune."),
    "data.limit": Rule(
        lambda value: value is None or _positive_whole(value), "a whole number above 0, or null", "autotune."
    ),
    "data.size": Rule(
        lambda value: _whole(value) and 1 <= value <= 4096, "a whole number of pixels from 1 to 4096", "autotune."
    ),
    "data.channels": Rule(lambda value: value in (1, 3), "3 for colour, 1 for grey", "autotune."),
    "data.in_memory_limit": Rule(_counted, "a whole number of bytes from 0 on", "autotune."),
    "data.workers": Rule(_counted, "a whole number from 0 on", "autotune."),
    "model.hidden": Rule(
        lambda value: isinstance(value, list) and all(map(_positive_whole, value)),
        "a list of widths above 0: [64,32]",
        "autotune.",
    ),
    "model.hidden.*": Rule(_positive_whole, "a whole number above 0", "autotune."),
    "model.channels": Rule(
        lambda value: isinstance(value, list) and value != [] and all(map(_positive_whole, value)),
        "a list of at least one number of maps above 0: [16,32]",
        "autotune.",
    ),
    "model.channels.*": Rule(_positive_whole, "a whole number above 0", "autotune."),
    "model.blocks": Rule(_positive_whole, "a whole number above 0", "autotune."),
    "model.embedding": Rule(
        lambda value: value is None or _positive_whole(value), "a whole number above 0, or null", "autotune."
    ),
    "model.frequencies": Rule(_positive_whole, "a whole number above 0", "autotune."),
    "model.frequency_scale": Rule(_positive, "a number above 0", "autotune."),
    "model.numerical_width": Rule(_positive_whole, "a whole number above 0", "autotune."),
    "model.cardinalities": Rule(
        lambda value: isinstance(value, list) and all(map(_positive_whole, value)),
        "a list of numbers of categories above 0: [2,5]",
        "autotune.",
    ),
    "model.batch_norm": Rule(lambda value: isinstance(value, bool), _FLAG, "autotune."),
    "model.dropout": Rule(_below_one, "a number from 0 to below 1", "autotune."),
    "optimizer.lr": Rule(_positive, "a number above 0", "torch.optim."),
    "optimizer.momentum": Rule(_below_one, "a number from 0 to below 1", "torch.optim."),
    "optimizer.weight_decay": Rule(_not_negative, "a number not below 0", "torch.optim."),
    "optimizer.nesterov": Rule(lambda value: isinstance(value, bool), _FLAG, "torch.optim."),
    "schedule.decay": Rule(_reduction, "a number above 0 up to 1", "autotune."),
    "schedule.decay:Dynamic": Rule(_not_negative, "a number not below 0", "autotune."),
    "schedule.decay:InverseTime": Rule(_not_negative, "a number not below 0", "autotune."),
    "schedule.floor": Rule(_share, "a number from 0 to 1", "autotune."),
    "schedule.memory": Rule(_below_one, "a number from 0 to below 1", "autotune."),
    "schedule.every": Rule(_positive_whole, "a whole number above 0", "autotune."),
    "schedule.milestones": Rule(_milestones, "parts of the training, rising between 0 and 1: [0.5,0.75]", "autotune."),
    "schedule.milestones.*": Rule(_part, "a part of the training, between 0 and 1", "autotune."),
    "schedule.power": Rule(_positive, "a number above 0", "autotune."),
    "schedule.cycles": Rule(
        lambda value: _whole(value) and 1 <= value <= 100, "a whole number from 1 to 100", "autotune."
    ),
    "schedule.growth": Rule(lambda value: _number(value) and 1 <= value <= 10, "a number from 1 to 10", "autotune."),
    "schedule.rise": Rule(_part, "a part of the training, between 0 and 1", "autotune."),
    "schedule.start": Rule(_reduction, "a number above 0 up to 1", "autotune."),
    "schedule.patience": Rule(_counted, "a whole number from 0 on", "autotune."),
    "schedule.threshold": Rule(_below_one, "a number from 0 to below 1", "autotune."),
    "schedule.cooldown": Rule(_counted, "a whole number from 0 on", "autotune."),
    "schedule.warmup": Rule(_below_one, "a part of the training, from 0 to below 1", "autotune."),
    "task.metrics": Rule(_words, "a list of metrics: [f1]"),
    "task.regression_loss": Rule(lambda value: value is None or _text(value), "mse, mae or huber"),
    "task.label_smoothing": Rule(_below_one, "a number from 0 to below 1"),
    "optimizer.micro_batch": Rule(
        lambda value: value is None or _positive_whole(value), "a whole number above 0, or null"
    ),
    "optimizer.decoupled": Rule(lambda value: isinstance(value, bool), _FLAG),
    "trainer.ema": Rule(lambda value: value is None or _below_one(value), "a number from 0 to below 1, or null"),
    "trainer.accumulate_grad_batches": Rule(_positive_whole, "a whole number above 0"),
    "trainer.gradient_clip_val": Rule(
        lambda value: value is None or _not_negative(value), "a number not below 0, or null"
    ),
    "trainer.deterministic": Rule(
        lambda value: value is None or isinstance(value, bool) or value == "warn", "true, false or warn"
    ),
    "trainer.num_nodes": Rule(lambda value: value == 1, "1: a trial is trained on one machine"),
    "trainer.callbacks": Rule(lambda value: value in (None, []), "a list of sections with a _target_"),
    "trainer.callbacks.*": Rule(lambda _: False, "a section with a _target_"),
    "trainer.devices": Rule(_one_device, "1: a trial is trained on one device"),
    "trainer.max_epochs": Rule(
        lambda value: _whole(value) and 1 <= value <= MOST_EPOCHS, f"a whole number from 1 to {MOST_EPOCHS}"
    ),
}


def check(space: Space) -> None:
    """Hold every value of a space against the rules.

    Raises:
        UserError: The first value that breaks one.
    """
    for leaf in space.leaves():
        _check_place(leaf)
        for value in leaf.values:
            _check_value(leaf, value)


def check_whole(config: Mapping[str, Any]) -> None:
    """Find out whether a resolved config says how long is trained, and nothing in vain. Raises UserError."""
    if "max_epochs" not in config["trainer"]:
        raise UserError("trainer.max_epochs", "is missing", "give it: ++trainer.max_epochs=...")
    for key in ("optimizer", "schedule"):
        section = config[key]
        for name in section if "_target_" not in section else ():
            if name not in ("name", "_fix_"):
                problem = f"nothing reads it: {key}={section.get('name')} leaves the {key} to the module"
                raise UserError(f"{key}.{name}", problem, "leave it out")


def _check_place(leaf: Leaf) -> None:
    """Refuse a list or a section where one value stands: the value itself would be held against no rule."""
    parts = leaf.key.split(".")
    for end in range(1, len(parts)):
        key = ".".join(parts[:end])
        rule = RULES.get(key)
        if rule is not None and f"{key}.*" not in RULES and leaf.target.startswith(rule.owner):
            name = ".".join(leaf.name.split(".")[: end - len(parts)])
            raise UserError(name, "holds more than a value", f"give {rule.right}")


def _check_value(leaf: Leaf, value: Any) -> None:
    if leaf.key == "trainer.accelerator" and value not in ACCELERATORS:
        raise UserError(leaf.name, f"no accelerator {value}", nearest(str(value), ACCELERATORS))
    parent, _, last = leaf.key.rpartition(".")
    rule = (
        RULES.get(f"{leaf.key}:{leaf.target.rpartition('.')[2]}")
        or RULES.get(leaf.key)
        or RULES.get(f"{parent}.*" if last.isdigit() else "")
    )
    if rule is not None and leaf.target.startswith(rule.owner) and not rule.holds(value):
        raise UserError(leaf.name, f"{value} is not right here", f"give {rule.right}")
