"""The classes of the libraries that a file may name: each is looked at again, and each new one is found."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import textwrap
from collections.abc import Iterator
from types import ModuleType

import pytest

from autotune.construct import target
from autotune.errors import UserError
from autotune.trust.reviewed import CLASSES, PACKAGES, REFUSED, why_refused
from autotune.trust.targets import Allowed, allowing

# What a Trainer takes as a part of it, and what writes or sends for it.
KINDS = (
    *(
        "lightning.pytorch.Callback",
        "lightning.pytorch.strategies.Strategy",
        "lightning.pytorch.accelerators.Accelerator",
    ),
    *("lightning.fabric.plugins.Precision", "lightning.fabric.plugins.ClusterEnvironment"),
    *(
        "lightning.pytorch.plugins.LayerSync",
        "lightning.pytorch.loggers.Logger",
        "lightning.pytorch.profilers.Profiler",
    ),
)
# Sources of data read the file that they are given, and trackers write where they are told: ours do no more.
_OURS = ("autotune", "lightning.pytorch.demos")
_PLACE = re.compile(
    r"(?:^|_)(?:path|paths|file|filename|dir|dirpath|folder|url|uri|root|host|port|weights_path)(?:$|_)"
)
# What reads, writes, sends or loads.
_ACTS = {
    *(
        "open",
        "makedirs",
        "mkdir",
        "get_filesystem",
        "url_to_fs",
        "save_checkpoint",
        "load_checkpoint",
        "dump",
        "urlopen",
    ),
    *(
        "urlretrieve",
        "load_state_dict_from_url",
        "from_pretrained",
        "download",
        "system",
        "Popen",
        "check_call",
        "exec",
    ),
    *("eval", "write_text", "write_bytes", "savez", "request", "import_module"),
}
# The Trainer's own work, which only asks for what the strategy has to do anyway.
_OF_THE_TRAINER = {"load_checkpoint", "save_checkpoint"}


def modules(package: str) -> Iterator[ModuleType]:
    root = importlib.import_module(package)
    yield root
    for found in pkgutil.walk_packages(getattr(root, "__path__", []), f"{package}.", onerror=lambda _: None):
        try:
            yield importlib.import_module(found.name)
        except ImportError:  # of what is not installed
            continue


def classes(package: str) -> dict[str, type]:
    """Those that are defined in a package, by where."""
    return {
        f"{each.__module__}.{each.__qualname__}": each
        for module in modules(package)
        for each in vars(module).values()
        if isinstance(each, type) and f"{each.__module__}.".startswith(f"{package}.")
    }


def of_name(name: str) -> type:
    module, _, last = name.rpartition(".")
    found = getattr(importlib.import_module(module), last)
    assert isinstance(found, type)
    return found


def places(made: type) -> list[str]:
    """The arguments that may name a place."""
    try:
        parameters = inspect.signature(made).parameters.values()
    except (TypeError, ValueError):
        return []
    return [each.name for each in parameters if _PLACE.search(each.name) or "Path" in str(each.annotation)]


def acts(made: type) -> set[str]:
    """What a class and its bases of the same library call, of what reads, writes, sends or loads."""
    found = set()
    library = made.__module__.partition(".")[0]
    for each in made.__mro__:
        if each.__module__.partition(".")[0] != library:
            continue
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(each)))
        except (OSError, TypeError):  # made by a function
            continue
        calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
        found |= {node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "") for node in calls}
    return found & _ACTS


@pytest.mark.parametrize("package", ["lightning.pytorch", "lightning.fabric"])
def test_every_part_of_a_trainer_was_reviewed(package: str) -> None:
    kinds = tuple(map(of_name, KINDS))
    unknown = {
        name
        for name, made in classes(package).items()
        if issubclass(made, kinds) and not made.__name__.startswith("_") and not name.startswith(_OURS)
        if why_refused(made) == "was not reviewed"
    }
    assert unknown == set()


def test_what_is_let_in_is_there_and_takes_no_place() -> None:
    for name in CLASSES:
        assert why_refused(of_name(name)) is None
        assert places(of_name(name)) == [], name


@pytest.mark.parametrize("package", [name for name in PACKAGES if name not in _OURS])
def test_no_class_of_a_package_that_is_let_in_takes_a_place_or_acts(package: str) -> None:
    found = classes(package)
    assert found
    for name, made in found.items():
        assert places(made) == [], name
        assert acts(made) == set(), name


@pytest.mark.parametrize("name", [name for name in CLASSES if ".strategies." not in name])
def test_no_hook_of_a_class_that_is_let_in_acts(name: str) -> None:
    assert acts(of_name(name)) - _OF_THE_TRAINER == set()


def test_what_writes_would_be_found() -> None:
    """Without which the tests above could not fail."""
    spike = of_name("lightning.pytorch.callbacks.spike.SpikeDetection")
    assert places(spike) == ["exclude_batches_path"]
    assert "open" in acts(spike) | acts(of_name("lightning.fabric.utilities.spike.SpikeDetection"))


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("trainer.callbacks.0", "lightning.pytorch.callbacks.ModelCheckpoint"),
        ("trainer.callbacks.0", "lightning.pytorch.callbacks.OnExceptionCheckpoint"),
        ("trainer.callbacks.0", "lightning.pytorch.callbacks.spike.SpikeDetection"),
        ("trainer.callbacks.0", "lightning.pytorch.callbacks.BatchSizeFinder"),
        ("trainer.callbacks.0", "lightning.pytorch.callbacks.LambdaCallback"),
        ("trainer.callbacks.0", "lightning.pytorch.cli.SaveConfigCallback"),
        ("trainer.callbacks.0", "lightning.pytorch.serve.servable_module_validator.ServableModuleValidator"),
        ("trainer.logger", "lightning.pytorch.loggers.WandbLogger"),
        ("trainer.profiler", "lightning.pytorch.profilers.PyTorchProfiler"),
        ("trainer.strategy", "lightning.pytorch.strategies.DeepSpeedStrategy"),
        ("trainer.strategy.checkpoint_io", "lightning.pytorch.plugins.io.TorchCheckpointIO"),
        ("trainer.strategy.checkpoint_io", "lightning.fabric.plugins.io.torch_io.TorchCheckpointIO"),
        ("data", "lightning.pytorch.LightningDataModule"),
        ("model", "torchmetrics.image.fid.FrechetInceptionDistance"),
        ("model.metric", "torchmetrics.text.bert.BERTScore"),
        ("model.metric", "torchmetrics.functional.image.lpips._LPIPS"),
        ("model.inner", "torch.nn.parallel.DistributedDataParallel"),
    ],
)
def test_a_file_does_not_name_what_was_not_let_in(key: str, name: str) -> None:
    with allowing(Allowed()), pytest.raises(UserError) as refused:
        target(key, {"_target_": name})
    assert refused.value.remedy == f"type allow_targets=[{name}] behind the command if you trust it"
    for typed in (Allowed((name,)), Allowed((), frozenset({name}))):
        with allowing(typed):
            assert target(key, {"_target_": name}).__name__ == name.rpartition(".")[2]


def test_the_lists_exclude_each_other() -> None:
    assert not {*PACKAGES, *CLASSES} & REFUSED.keys()
    assert all(reason for lists in (PACKAGES, CLASSES, REFUSED) for reason in lists.values())
