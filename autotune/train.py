"""The final training: ``python -m autotune.train from=<study | best.yaml | MLflow run id> [key=value ...]``."""

from __future__ import annotations

import json
import logging
import shutil
import signal
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from autotune import compose, naming
from autotune.claims import claim
from autotune.compose import check_sections, plain, run_command, setting
from autotune.disk import disk_errors_said
from autotune.errors import UserError, nearest, raised
from autotune.final.origin import GROUPS, overrides_from
from autotune.final.repeats import SEARCHED, Contender, described, table
from autotune.interrupts import EXIT_CODES, Signalled, as_program, handling_signals
from autotune.kept.whole import write_whole
from autotune.logs import hush_libraries, logging_to, measuring
from autotune.settings import TRAINED_ON, Objective, address, complete_objective, discard, folder_name, home_folder
from autotune.space import LITERAL, Space, check, check_whole
from autotune.trial import Logged
from autotune.trust.masking import kept, mask
from autotune.trust.targets import check_names

if TYPE_CHECKING:
    from autotune.assembly import Assembly
    from autotune.final.registry import FinalRun

_log = logging.getLogger("autotune.train")  # not __name__, which is __main__ where it is run as a command

LOG = "train.log"
WEIGHTS = "best.ckpt"
RESULTS = ("summary.json", WEIGHTS, "preprocess.json")
SEEDS = 2**32


@dataclass(frozen=True, slots=True)
class Plan:
    """What a final training does, read from the composed config and checked once.

    Attributes:
        name: Of its folder and its run.
        home: The home.
        on: ``train`` or ``train+val``.
        registered_as: The name in the model registry; None registers nothing.
        seeds: How many times it is trained, each with a seed of its own.
        with_recipes: Whether the usual recipes are trained beside it.
        composed: The config as config.yaml keeps it.
        resolved: The resolved config.
        origin: Where it comes from; empty where it was typed.
        objective: What the best epoch is chosen by.
        uri: Of MLflow.
        experiment: Of MLflow; None for no MLflow.
    """

    name: str
    home: Path
    on: str
    registered_as: str | None
    seeds: int
    with_recipes: bool
    composed: Mapping[str, Any]
    resolved: Mapping[str, Any]
    origin: Mapping[str, Any]
    objective: Objective
    uri: str | None
    experiment: str | None

    @property
    def folder(self) -> Path:
        """``<home>/trained/<name>``."""
        return self.home / "trained" / self.name

    @property
    def epochs(self) -> int:
        """How long is trained: on both parts as long as the search's best took, since nothing is left to judge by."""
        whole = int(self.resolved["trainer"]["max_epochs"])
        searched = self.origin.get("best_epoch")
        if self.on == "train" or searched is None or whole != self.origin.get("max_epochs"):
            return whole
        return min(whole, int(searched))

    def seeded(self, config: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """A resolved config with each of the seeds: the config's own, then those that follow it."""
        for further in range(self.seeds):
            yield {**config, "seed": (self.resolved["seed"] + further) % SEEDS}

    def claimed(self) -> Plan:
        """The same under a name of its own, whose folder is made."""
        with disk_errors_said(self.home):
            name = claim(self.folder)
        return replace(self, name=name, composed={**self.composed, "train": {**self.composed["train"], "name": name}})

    @classmethod
    def of(cls, config: DictConfig) -> Plan:
        """Read a composed config. Raises UserError."""
        check_sections(config, GROUPS)
        config.objective = complete_objective(compose.section(config, "objective"))
        section, tracking = (compose.section(config, key) for key in ("train", "tracking"))
        space = Space(config)
        check(space)
        for name in space.parameters():
            raise UserError(name, "is still open, and a final training has one value for it", f"give it: {name}=...")
        on, register, seeds = section.get("on"), section.get("register"), section.get("seeds", 1)
        if on not in TRAINED_ON:
            raise UserError("train.on", f"{on} is no part of the data", nearest(str(on), TRAINED_ON))
        if isinstance(seeds, bool) or not isinstance(seeds, int) or not 1 <= seeds <= SEEDS:
            raise UserError("train.seeds", f"{seeds} is no number of seeds", "give a whole number above 0")
        experiment = tracking.get("experiment")
        if "experiment" in tracking and (not isinstance(experiment, str) or not experiment.strip()):
            raise UserError("tracking.experiment", f"{experiment!r} is no name", "give the experiment's name: autotune")
        resolved = space.resolve({})
        check_names(resolved)
        check_whole(resolved)
        origin = compose.section(config, "origin") if "origin" in config else {}
        origin.pop(LITERAL, None)
        name = folder_name("train.name", section.get("name"))
        composed = kept(plain(config))
        composed["train"]["name"] = name
        return cls(
            name,
            home_folder(setting(config, "home"), f"trained/{name}"),
            on,
            None if register is None else folder_name("train.register", register),
            seeds,
            _with_recipes(section.get("recipes"), resolved, "origin" in config and seeds > 1),
            composed,
            resolved,
            origin,
            Objective.of(resolved["objective"]),
            address("tracking.uri", tracking.get("uri")),
            experiment,
        )


def _with_recipes(asked: Any, resolved: Mapping[str, Any], otherwise: bool) -> bool:
    """Whether to train the recipes too: as asked, or where that shows with intervals what a search bought."""
    if asked is not None and not isinstance(asked, bool):
        raise UserError("train.recipes", f"{asked} is neither true nor false", "give true, false or null")
    takes_another = "_target_" in resolved["optimizer"]
    if asked and not takes_another:
        problem = "true puts other optimizers in the place of the config's, and the module brings its own"
        raise UserError("train.recipes", problem, "give train.recipes=false, or an optimizer")
    return otherwise and takes_another if asked is None else asked


@dataclass(frozen=True, slots=True)
class Result:
    """What a final training came to.

    Attributes:
        folder: Where its files are.
        weights: Of the epoch that is kept.
        summary: As in summary.json.
        ui_command: What to type to see it in MLflow; None without MLflow.
    """

    folder: Path
    weights: Path
    summary: Mapping[str, Any]
    ui_command: str | None

    @property
    def test(self) -> Mapping[str, float]:
        """The metrics of the test part, by name, with the config's own seed."""
        tested: Mapping[str, float] = self.summary["test"]
        return tested

    @property
    def model(self) -> str | None:
        """The model's URI in MLflow; None where it has none."""
        return self.summary.get("model")


def main() -> None:
    """Run the command."""
    run_command("train", Plan.of, train, prepare)


def prepare(overrides: list[str]) -> list[str]:
    """Overrides with what ``from=`` brings. Raises UserError."""
    return overrides_from(overrides, _config_of_run)


def train(config: DictConfig) -> int:
    """Train, test once, log and register.

    Returns:
        The exit code: 0 done, 1 the user's code broke, 130 and 143 interrupted.
    """
    plan = Plan.of(config)
    received: list[signal.Signals] = []

    def interrupt(by: signal.Signals) -> None:
        received.append(by)
        raise Signalled(by)

    try:
        with handling_signals(interrupt):
            train_plan(plan)
    except UserError:
        raise
    except KeyboardInterrupt:  # Lightning's Trainer lets through another one
        return EXIT_CODES[received[0] if received else signal.SIGINT]
    except Exception as error:
        details = f"its config and the traceback are in {plan.folder / LOG}"
        print(mask(f"error: the training raised {raised(error)}; {details}"), file=sys.stderr)
        return 1
    return 0


def train_plan(plan: Plan) -> Result:
    """Carry a plan out: train, test once, log and register; with the plan's seeds and recipes where it has them.

    summary.json has what was trained so far whenever a training ends, however the rest of them ends.

    Raises:
        UserError: Something in the config cannot be trained, or its folder cannot be written to.
        KeyboardInterrupt: Interrupted; what was trained before is kept.
        Exception: What the user's code raises.
    """
    with disk_errors_said(plan.home):
        return _carry_out(plan)


@contextmanager
def _reason_kept(plan: Plan) -> Iterator[None]:
    """Have train.log keep what the user's code was given and the traceback of what it raised."""
    try:
        yield
    except UserError:
        raise
    except Exception:
        given = OmegaConf.to_yaml(OmegaConf.create(dict(plan.resolved)))
        _log.debug("the training raised\n%s", mask(f"{given}\n{traceback.format_exc()}"))
        raise


def _carry_out(plan: Plan) -> Result:
    plan.folder.mkdir(parents=True, exist_ok=True)
    is_new = not any(plan.folder.iterdir())
    try:
        with logging_to(plan.folder / LOG), _reason_kept(plan):
            return _run(plan)
    except UserError:
        if is_new and not (plan.folder / "summary.json").exists():
            discard(plan.folder, plan.home)
        raise
    except KeyboardInterrupt:
        if not (plan.folder / "config.yaml").exists():
            discard(plan.folder, plan.home)
        raise


def _run(plan: Plan) -> Result:
    """Train and mirror it to MLflow, whose run always ends."""
    from autotune.executors.memory import too_large_said
    from autotune.final.recipes import RECIPES
    from autotune.final.registry import FinalRun
    from autotune.final.training import FILES

    hush_libraries()
    recipes = {each.name: each.applied(plan.resolved, plan.epochs) for each in RECIPES if plan.with_recipes}
    with too_large_said():
        _rehearse(plan, recipes)
    _say_recipes(plan, recipes)
    run = None if plan.experiment is None else FinalRun(plan.uri, plan.experiment, plan.home)
    for name in RESULTS:  # of an earlier training of this name
        (plan.folder / name).unlink(missing_ok=True)
    shutil.rmtree(plan.folder / FILES, ignore_errors=True)
    write_whole(plan.folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(dict(plan.composed))))
    status = "FAILED"
    summary: dict[str, Any] = {}
    try:
        if run is not None:
            run.begin(plan.name, plan.resolved, plan.origin, naming.family(plan.resolved), plan.on)
        contenders = _train(plan, recipes, run, summary)
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        if run is not None:
            run.end(_numbers(summary), [plan.folder / name for name in RESULTS], status)
    result = Result(plan.folder, plan.folder / WEIGHTS, summary, None if run is None else run.ui_command)
    _say(plan, result, contenders)
    return result


def _rehearse(plan: Plan, recipes: Mapping[str, Mapping[str, Any]]) -> None:
    """Find out what cannot be trained before anything is written. Raises UserError."""
    from autotune.assembly import refusal
    from autotune.executors.lightning import LightningExecutor

    why = refusal(plan.resolved, plan.on)
    if why is not None:
        raise UserError("train", f"this configuration cannot work: {why}", "change it")
    LightningExecutor().rehearse(plan.resolved)
    for name, config in recipes.items():
        why = refusal(config, plan.on)
        if why is not None:
            problem = f"the recipe {name} cannot work: {why}"
            raise UserError("train.recipes", problem, "change it, or give train.recipes=false")
        LightningExecutor().rehearse(config)


def _say_recipes(plan: Plan, recipes: Mapping[str, Mapping[str, Any]]) -> None:
    """What of the recipes is not as one would expect."""
    if plan.seeds > 1 and plan.origin and "_target_" not in plan.resolved["optimizer"]:
        _log.info("no recipe is trained beside it: the module brings its own optimizer")
    for name, recipe in recipes.items():
        if recipe == plan.resolved:
            _log.info("the recipe %s is the configuration itself", name)
        elif recipe["data"].get("batch_size") != plan.resolved["data"].get("batch_size"):
            _log.info("the recipe %s has batches of %d, not the full batch", name, recipe["data"]["batch_size"])


def _train(
    plan: Plan, recipes: Mapping[str, Mapping[str, Any]], run: FinalRun | None, summary: dict[str, Any]
) -> Sequence[Contender]:
    """All trainings of a plan, one after another; the summary is filled in and written as they end.

    Returns:
        The searched strategy, then the recipes, with what each training measured on the test part.
    """
    summary |= _train_searched(plan, run)
    own_seed, *further = plan.seeded(plan.resolved)
    tested: dict[str, dict[int, Mapping[str, float]]] = {SEARCHED: {own_seed["seed"]: summary["test"]}}
    _write(plan, summary)
    if not summary["test"]:
        return _contenders(plan, recipes, tested)
    trainings = [(SEARCHED, "final-seed", config) for config in further]
    for name, recipe in recipes.items():
        if recipe == plan.resolved:
            tested[name] = tested[SEARCHED]
        else:
            trainings += [(name, "recipe", config) for config in plan.seeded(recipe)]
    for number, (name, stage, config) in enumerate(trainings, start=2):
        what = "" if name == SEARCHED else f"recipe {name}: "
        said = f"{what}{naming.strategy(config)} with seed {config['seed']}"
        _log.info("training %d of %d, %s", number, len(trainings) + 1, said)
        tested.setdefault(name, {})[config["seed"]] = _train_further(plan, config, run, stage, name)
        summary |= described(_contenders(plan, recipes, tested), plan.seeds)
        _write(plan, summary)
    summary |= described(_contenders(plan, recipes, tested), plan.seeds)
    _write(plan, summary)
    return _contenders(plan, recipes, tested)


def _contenders(
    plan: Plan, recipes: Mapping[str, Mapping[str, Any]], tested: Mapping[str, Mapping[int, Mapping[str, float]]]
) -> list[Contender]:
    """Those of which at least one training has ended."""
    configs = {SEARCHED: plan.resolved, **recipes}
    return [
        Contender(name, naming.strategy(config), tested[name]) for name, config in configs.items() if name in tested
    ]


def _train_searched(plan: Plan, run: FinalRun | None) -> dict[str, Any]:
    """The training that is kept, with the config's own seed; returns what summary.json has of it."""
    from autotune.final.registry import table_preprocess
    from autotune.final.training import is_tested, train_and_test

    def hear(metrics: Mapping[str, float], epoch: int, logged: Logged) -> None:
        numbers = "  ".join(f"{name} {value:.4g}" for name, value in sorted(metrics.items()))
        _log.info("epoch %*d/%d  %s", len(str(plan.epochs)), epoch, plan.epochs, numbers)
        if run is not None:
            run.log(metrics, epoch, logged)

    hush_libraries()
    _log.info("training %s for %d epochs on %s", naming.strategy(plan.resolved), plan.epochs, plan.on)
    weights = plan.folder / WEIGHTS
    trained = train_and_test(plan.resolved, plan.on, plan.epochs, plan.objective, weights, hear)
    if not is_tested(trained.assembly):
        _log.warning("nothing is tested: the module has no test_step, or the data no test_dataloader")
    summary: dict[str, Any] = {
        "name": plan.name,
        "origin": dict(plan.origin),
        "strategy": naming.strategy(plan.resolved),
        "trained_on": plan.on,
        "epochs": plan.epochs,
        "kept_epoch": trained.kept_epoch,
        "test": dict(trained.tested),
        "test_samples": trained.test_samples,
        "cost": dict(trained.cost),
    }
    if trained.score is not None:
        summary[plan.objective.metric] = trained.score
    table_encoding = table_preprocess(trained.assembly.data)
    if table_encoding is not None:
        table_encoding.write(plan.folder)
    if run is not None:
        run.log({}, plan.epochs, trained.logged)
        run.log_files(trained.logged)
        summary |= {"run_id": run.run_id, "model": _log_model(plan, run, trained.assembly)}
    return summary


def _train_further(
    plan: Plan, config: Mapping[str, Any], run: FinalRun | None, stage: str, name: str
) -> Mapping[str, float]:
    """A training of which only its numbers are kept; returns the metrics of the test part."""
    from autotune.final.training import train_and_test

    title = f"seed {config['seed']} {naming.strategy(config)}"
    if name != SEARCHED:
        title = f"recipe {name} {title}"
    with (
        TemporaryDirectory(prefix=".weights-", dir=plan.folder) as folder,
        nullcontext() if run is None else run.child(title, stage, config, naming.family(config), plan.on) as child,
    ):

        def hear(metrics: Mapping[str, float], epoch: int, logged: Logged) -> None:
            if child is not None:
                child.log(metrics, epoch, logged)

        trained = train_and_test(config, plan.on, plan.epochs, plan.objective, Path(folder) / WEIGHTS, hear)
        if child is not None:
            child.log({**trained.tested, **trained.cost}, 0, trained.logged)
            child.log_files(trained.logged)
    numbers = "  ".join(f"{metric} {value:.4g}" for metric, value in sorted(trained.tested.items()))
    _log.info("  kept epoch %d  %s", trained.kept_epoch, numbers)
    return trained.tested


def _write(plan: Plan, summary: Mapping[str, Any]) -> None:
    write_whole(plan.folder / "summary.json", json.dumps(summary, indent=2) + "\n")


def _numbers(summary: Mapping[str, Any]) -> dict[str, float]:
    """What MLflow's table of runs shows of a final training."""
    over_seeds = {
        f"seeds/{name}/{key}": repeats[key]
        for name, repeats in summary.get("seeds", {}).items()
        for key in ("mean", "std", "low", "high")
        if repeats[key] is not None
    }
    return {**summary.get("test", {}), **summary.get("cost", {}), **over_seeds}


def _log_model(plan: Plan, run: FinalRun, assembly: Assembly) -> str | None:
    from autotune.final.registry import servable

    served = None
    with measuring("the model in MLflow", "it is kept as best.ckpt alone"):
        served = servable(assembly)
        if served is None:
            target = plan.resolved["model"]["_target_"]
            _log.warning("%s has no forward of one tensor, so it is kept as best.ckpt alone", target)
    if served is None:
        return None
    return run.log_model(*served, plan.registered_as)


def _say(plan: Plan, result: Result, contenders: Sequence[Contender]) -> None:
    _log.info("")
    for name, value in sorted(result.test.items()):
        _log.info("%s %.6g", name, value)
    if (why := set_against_confirmed(result.summary, plan.objective.metric)) is not None:
        _log.info("%s", why)
    if result.test and (plan.seeds > 1 or len(contenders) > 1):
        _say_comparison(plan, result, contenders)
    _log.info("weights of epoch %d:  %s", result.summary["kept_epoch"], result.weights)
    if result.model:
        _log.info("model:               %s", result.model)
    if result.ui_command is not None:
        _log.info("browse:              %s", result.ui_command)


def set_against_confirmed(summary: Mapping[str, Any], metric: str) -> str | None:
    """One line on why the test score is not the search's; None where there is nothing to compare.

    The interval of an accuracy is what so many samples leave open (Clopper and Pearson 1934).

    Args:
        summary: What summary.json has.
        metric: The search's, of the validation part.
    """
    name = metric.replace("val", "test", 1)
    value, confirmed = summary.get("test", {}).get(name), summary["origin"].get("confirmed")
    if value is None or confirmed is None or name == metric:
        return None
    said = f"the search confirmed {metric} {confirmed['mean']:.4g} on the validation part, by which it also chose"
    samples = summary.get("test_samples")
    if samples is None:
        return f"{said}; the test part is other data"
    said += f"; the test part is {samples:,} other samples"
    if not name.endswith("/accuracy"):
        return said
    from scipy.stats import binomtest

    interval = binomtest(round(value * samples), samples).proportion_ci(0.95)
    return f"{said}, which alone leave {name} open between {interval.low:.3g} and {interval.high:.3g} (95 %)"


def _say_comparison(plan: Plan, result: Result, contenders: Sequence[Contender]) -> None:
    """Mean and interval over the seeds, by what the epochs were chosen by where the test part has it too."""
    chosen_by = plan.objective.metric.replace("val", "test", 1)
    judged = chosen_by in result.test
    first = plan.resolved["seed"]
    seeds = f"seed {first}" if plan.seeds == 1 else f"{plan.seeds} seeds from {first} on"
    _log.info("")
    _log.info("trained alike with %s, each tested once:", seeds)
    for metric in [chosen_by] if judged else sorted(result.test):
        for line in table(contenders, metric, plan.objective.direction if judged else None):
            _log.info("  %s", line)
    _log.info("")


def _config_of_run(run_id: str, home: str, uri: str | None) -> str:
    from autotune.final.registry import config_of_run

    return config_of_run(run_id, home, uri)


if __name__ == "__main__":
    as_program(main)
