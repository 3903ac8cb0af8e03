"""What a search would be, found out without one: every branch on one real batch, the space, its size and its cost."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import optuna
import torch
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import RandomSampler
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from autotune import naming
from autotune.assembly import Assembly, assemble
from autotune.cost import PeakMemory
from autotune.data.batches import ArrayData, Epochs
from autotune.errors import UserError, first_line
from autotune.executors.lightning import LightningExecutor, leave_memory_unfilled, make_trainer, measured, unkept
from autotune.executors.logger import TrialLogger
from autotune.executors.memory import NUMBERS_A_PARAMETER, out_of_memory
from autotune.learner import Learner
from autotune.live import duration
from autotune.logs import measuring
from autotune.settings import Settings, unmeasured
from autotune.space import SearchValue, Space
from autotune.trial import Executor

LISTED = 10_000  # a finite space of more points is not counted
SAMPLED = 200  # points that are asked whether they can work
TRIED = 50  # branches that are trained on a batch
MOST_TIMED = 5  # batches that are timed, of which the first warms up
ENOUGH = 0.5  # seconds of training after which the second batch is the last
PLAIN_WIDTH = 120  # columns where stdout is no terminal


class BrokenBranchError(Exception):
    """The user's code raised while a branch was built or trained on one batch.

    Args:
        config: The branch's resolved config.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config
        super().__init__("a branch cannot be trained")


@dataclass(frozen=True, slots=True)
class Branch:
    """What came of one branch.

    Attributes:
        config: Its resolved config.
        fault: What went wrong on the batch; None where nothing did.
        epoch_seconds: What an epoch takes alone; None where the number of batches is not known.
        bytes: What a trial takes in memory.
        slots: How many such trials would be in training at once.
    """

    config: Mapping[str, Any]
    fault: str | None = None
    epoch_seconds: float | None = None
    bytes: int = 0
    slots: int = 1

    @property
    def seconds(self) -> float | None:
        """What a trial takes alone, trained to its end."""
        epochs = self.config["trainer"].get("max_epochs")
        return None if self.epoch_seconds is None or not isinstance(epochs, int) else self.epoch_seconds * epochs


def preview(config: DictConfig, settings: Settings, space: Space, executor: Executor) -> None:
    """Try every branch on one batch and print what the search would be; nothing is written to disk.

    Raises:
        BrokenBranchError: The user's code raised.
        UserError: A branch cannot be built, does not log the metric, or nothing of the space can work.
    """
    asked = ask(space, executor, settings.seed)
    if not asked.works:
        why, count = asked.refused.most_common(1)[0]
        problem = f"no configuration of the space can work; {count} of {asked.count} refused as {why}"
        raise UserError("search", problem, "change the space")
    points, missed = _one_for_each_branch(space, executor, asked)
    branches = [try_out(space.resolve(point), settings, executor) for point in points]
    facts = Table.grid(padding=(0, 2, 0, 0))
    for name, what in _facts(settings, space, executor, asked, branches):
        facts.add_row(name, what)
    _print(tree_of(config, space), "", _table(branches), *(f"{each}: refused in every point asked" for each in missed))
    _print("", facts)


def _print(*parts: RenderableType) -> None:
    """Print to the terminal, or plain lines to what is none."""
    console = Console(highlight=False)
    if console.is_terminal:
        console.print(*parts, sep="\n")
        return
    console = Console(highlight=False, width=PLAIN_WIDTH)
    with console.capture() as captured:
        console.print(*parts, sep="\n")
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def try_out(config: Mapping[str, Any], settings: Settings, executor: Executor) -> Branch:
    """Build a branch, and train and judge it on one batch, a few times over to time it.

    Raises:
        BrokenBranchError: The user's code raised.
        UserError: It cannot be built, or the metric is not logged.
    """
    try:
        executor.rehearse(config)
        leave_memory_unfilled()
        assembly = assemble(config)
        clock = _Clock()
        data = _FirstBatch(assembly.data, assembly) if isinstance(assembly.data, ArrayData) else assembly.data
        few: dict[str, Any] = {"max_epochs": MOST_TIMED, "limit_train_batches": 1, "limit_val_batches": 1}
        few |= {"check_val_every_n_epoch": 1, "val_check_interval": 1.0}  # each of the few is judged
        with TemporaryDirectory() as nowhere:
            folder = Path(nowhere)
            trainer = make_trainer(unkept(assembly), [clock], folder, TrialLogger(folder), **few)
            trainer.fit(assembly.module, datamodule=data)
    except UserError:
        raise
    except Exception as error:
        if out_of_memory(error):
            return Branch(config, f"out of memory ({first_line(error)})")
        raise BrokenBranchError(config) from error
    metrics = measured(trainer)
    if settings.objective.metric not in metrics:
        raise unmeasured(settings.objective.metric, metrics)
    if said := settings.objective.divergence(metrics, {}):
        return Branch(config, f"diverged on the first batch: {said}")
    slots, taken = 1, None
    if isinstance(executor, LightningExecutor):
        slots, taken = executor.slots_for(config), executor.bytes_for(config)
    if taken is None:  # what was measured says less than the truth where the process had memory to spare
        weights = sum(parameter.nbytes for parameter in assembly.module.parameters())
        taken = max(clock.memory, NUMBERS_A_PARAMETER * weights)
    return Branch(config, None, clock.epoch(assembly), taken, slots)


class _FirstBatch(LightningDataModule):
    """Data in memory, of which an epoch is the first update."""

    def __init__(self, data: ArrayData, assembly: Assembly) -> None:
        super().__init__()
        self._data = data
        module = assembly.module
        self._batches = module.update.accumulate if isinstance(module, Learner) else None

    def train_dataloader(self) -> Any:
        """One update's batches, as the data serves them."""
        self._data.trainer = self.trainer
        loader = self._data.train_dataloader()
        return _Shortened(loader, self._batches) if self._batches and isinstance(loader, Epochs) else loader

    def val_dataloader(self) -> Any:
        """All that the data serves, of which the Trainer takes one batch."""
        return self._data.val_dataloader()

    def teardown(self, stage: str) -> None:
        """End the workers."""
        self._data.teardown(stage)


class _Shortened:
    def __init__(self, epochs: Epochs, batches: int) -> None:
        self._epochs = epochs
        self._batches = batches

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Iterator[Any]]:
        yield islice(next(iter(self._epochs)), self._batches)


class _Clock(Checkpoint):
    """Times the fastest batch of training and of validation, and ends a training that has told enough.

    The first batch warms up; more than a second one is trained where they take next to no time. A Checkpoint, though it
    keeps none, because Lightning adds one that does where there is none.
    """

    def __init__(self) -> None:
        self.training = self.validation = math.inf
        self.memory = 0
        self._peak: PeakMemory | None = None

    def on_fit_start(self, trainer: Trainer, *_: Any) -> None:
        with measuring("memory"):
            self._peak = PeakMemory(trainer.strategy.root_device)
        self._started = time.perf_counter()

    def on_train_batch_start(self, *_: Any) -> None:
        self._began = time.perf_counter()

    def on_train_batch_end(self, *_: Any) -> None:
        _wait()
        self.training = min(self.training, time.perf_counter() - self._began)

    def on_validation_batch_start(self, *_: Any) -> None:
        self._began_judging = time.perf_counter()

    def on_validation_batch_end(self, *_: Any) -> None:
        _wait()
        self.validation = min(self.validation, time.perf_counter() - self._began_judging)

    def on_train_epoch_end(self, trainer: Trainer, *_: Any) -> None:
        with measuring("memory"):
            if self._peak is not None:
                self._peak.sample()
                self.memory = self._peak.peak()
        self._loaders = trainer.train_dataloader, trainer.val_dataloaders
        trainer.should_stop = trainer.current_epoch > 0 and time.perf_counter() - self._started > ENOUGH

    def epoch(self, assembly: Assembly) -> float | None:
        """Seconds of an epoch of all batches; None where their number is not known."""
        module, data = assembly.module, assembly.data
        if isinstance(module, Learner) and isinstance(data, ArrayData):
            return module.updates_per_epoch * self.training + len(data.val_dataloader()) * self.validation
        training, judging = map(_length, self._loaders)
        return None if training is None else training * self.training + (judging or 0) * self.validation


def _wait() -> None:
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()


def _length(loader: Any) -> int | None:
    try:
        return len(loader)
    except TypeError:
        return None


@dataclass(frozen=True, slots=True)
class Asked:
    """Points that were asked whether they can work.

    Attributes:
        works: Those that can.
        refused: Why others cannot, and how many.
        is_whole: Whether they are all points there are.
    """

    works: Sequence[Mapping[str, Any]]
    refused: Counter[str]
    is_whole: bool

    @property
    def count(self) -> int:
        """How many were asked."""
        return len(self.works) + self.refused.total()


def ask(space: Space, executor: Executor, seed: int) -> Asked:
    """Ask every point of a small space whether it can work, and of a larger one some drawn at random."""
    is_whole = space.size(SAMPLED) is not None
    if is_whole:
        points = list(space.points())
    else:
        study = optuna.create_study(sampler=RandomSampler(seed=seed))
        points = [space.suggest(study.ask()) for _ in range(SAMPLED)]
    whys = [executor.refuses(space.resolve(point)) for point in points]
    works = [point for point, why in zip(points, whys, strict=True) if why is None]
    return Asked(works, Counter(why for why in whys if why is not None), is_whole)


def _one_for_each_branch(space: Space, executor: Executor, asked: Asked) -> tuple[list[Mapping[str, Any]], list[str]]:
    """Points that can work and together take every branch, and the branches for which none was found."""
    groups = _groups(space)
    uncovered = {(name, branch) for name, branches in groups.items() for branch in branches}
    points: list[Mapping[str, Any]] = []
    tour = [point for point in islice(space.tour(), TRIED) if executor.refuses(space.resolve(point)) is None]
    for some in (tour, asked.works):
        for point in some:
            taken = {(name, point[name]) for name in groups if name in point}
            if some is tour or taken & uncovered or not points:
                points.append(point)
                uncovered -= taken
    return points, sorted(f"{name}={branch}" for name, branch in uncovered)


def _groups(space: Space) -> dict[str, list[str]]:
    """The choices of groups, with their branches."""
    written = [leaf.name for leaf in space.leaves()]
    found: dict[str, list[str]] = {}
    for name, search in space.parameters().items():
        options = [str(each) for each in search.choices or ()]
        if any(each.startswith(f"{name}.{option}.") for each in written for option in options):
            found[name] = options
    return found


def tree_of(config: DictConfig, space: Space) -> Tree:
    """The space of a composed config as a tree: groups, their branches, and the range of each parameter."""
    parameters, groups = space.parameters(), _groups(space)
    root = Tree(Text("space", style="bold"))
    nodes: dict[str, Tree] = {"": root}

    def node(path: str) -> Tree:
        if path not in nodes:
            parent, _, last = path.rpartition(".")
            nodes[path] = node(parent).add(Text(last))
        return nodes[path]

    for path, search in parameters.items():
        label = node(path).label
        assert isinstance(label, Text)
        label.append(f"  {'one of' if path in groups else said(search)}", "cyan")
        for option in groups.get(path, ()):
            branch = node(f"{path}.{option}").label
            assert isinstance(branch, Text)
            for key, value in _fixes(config, f"{path}.{option}").items():
                branch.append(f"  fixes {key}={value}", "dim")
    return root


def _fixes(config: DictConfig, path: str) -> Mapping[str, Any]:
    """What a branch fixes elsewhere."""
    fixes = OmegaConf.select(config, f"{path}._fix_") or {}
    assert isinstance(fixes, Mapping)
    return fixes


def said(search: SearchValue) -> str:
    """A search value in words."""
    match search.distribution:
        case CategoricalDistribution():
            return f"one of {', '.join(map(str, search.choices or ()))}"
        case FloatDistribution(low=low, high=high, step=None, log=log):
            return f"{low:g} to {high:g}{', by orders of magnitude' if log else ''}"
        case IntDistribution(low=low, high=high, step=1, log=log):
            return f"whole numbers {low} to {high}{', by orders of magnitude' if log else ''}"
        case FloatDistribution(low=low, high=high, step=step) | IntDistribution(low=low, high=high, step=step):
            return f"{low:g} to {high:g} in steps of {step:g}"
    return str(search.distribution)


def _table(branches: list[Branch]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("branch, on one batch")
    for heading in ("an epoch", "a trial", "memory", "slots"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in branches:
        name = naming.strategy(each.config)
        if each.fault is not None:
            table.add_row(Text(f"{name}: {each.fault}", style="yellow"))
            continue
        table.add_row(
            name, _seconds(each.epoch_seconds), _seconds(each.seconds), _mebibytes(each.bytes), str(each.slots)
        )
    return table


def _facts(
    settings: Settings, space: Space, executor: Executor, asked: Asked, branches: list[Branch]
) -> Iterator[tuple[str, str]]:
    yield "size", _size(space)
    of = f"{asked.count} points{'' if asked.is_whole else ' drawn at random'}"
    yield "refused", f"{asked.refused.total() or 'none'} of {of}"
    for why, count in asked.refused.most_common():
        yield "", f"{count}: {why}"
    yield "executor", executor.chosen if isinstance(executor, LightningExecutor) else executor.name
    works = [each for each in branches if each.fault is None]
    if works:
        yield "slots", _range([each.slots for each in works], str)
        yield "memory", f"{_range([each.bytes for each in works], _mebibytes)} a trial"
    yield "time", _time(settings, works)


def _size(space: Space) -> str:
    if not space.finite:
        continuous = [name for name, search in space.parameters().items() if search.options() is None]
        return f"infinite: continuous in {', '.join(continuous)}"
    size = space.size(LISTED)
    return f"more than {LISTED:,} points" if size is None else f"{size:,} point{'s' * (size != 1)}"


def _time(settings: Settings, works: list[Branch]) -> str:
    """What the search would take with nothing spared, and what ends it sooner."""
    budget = settings.budget
    trials = [each.seconds for each in works if each.seconds is not None]
    epochs = [each.epoch_seconds for each in works if each.epoch_seconds is not None]
    bounds = []
    if trials and budget.trials is not None:
        bounds.append(budget.trials * sum(trials) / len(trials))
    if epochs and budget.epochs is not None:
        bounds.append(budget.epochs * sum(epochs) / len(epochs))
    text = "not known: the data does not say how many batches it has"
    if bounds:
        text = (
            f"about {duration(min(bounds))} if every trial was trained to its end, one after another, each taking the "
            "mean of the branches above; pruning and training many at once make it less"
        )
        top, confirm = settings.confirm.top, settings.confirm
        if top and confirm.seeds:
            most = max(confirm.seeds, confirm.most_seeds)
            text += f"; then {top * confirm.seeds} to {top * most} trainings to confirm the best"
    if budget.seconds is not None:
        text = f"{duration(budget.seconds)} at most (budget.seconds); {text}"
    return text


def _range(values: list[int], show: Callable[[int], str]) -> str:
    low, high = min(values), max(values)
    return show(low) if low == high else f"{show(low)} to {show(high)}"


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:.3g} MiB"


def _seconds(seconds: float | None) -> str:
    if seconds is None or math.isinf(seconds):
        return "not known"
    return f"{seconds:.2g} s" if seconds < 10 else duration(seconds)
