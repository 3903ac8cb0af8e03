"""The final training: ``python -m autotune.train from=<study | best.yaml | MLflow run id> [key=value ...]``."""

from __future__ import annotations

import json
import logging
import signal
import sys
import traceback
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from autotune import compose, naming
from autotune.compose import EXIT_CODES, check_sections, handling_signals, plain, run_command, setting
from autotune.errors import UserError, nearest
from autotune.logs import hush_libraries, logging_to
from autotune.origin import GROUPS, overrides_from
from autotune.settings import TRAINED_ON, Objective, complete_objective, discard, folder_name, home_folder
from autotune.space import Space, check

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from autotune.assembly import Assembly
    from autotune.registry import FinalRun

_log = logging.getLogger("autotune.train")  # not __name__, which is __main__ where it is run as a command

RESULTS = ("summary.json", "best.ckpt", "preprocess.json")


@dataclass(frozen=True, slots=True)
class Plan:
    """What a final training does, read from the composed config and checked once.

    Attributes:
        name: Of its folder and its run.
        home: The home.
        on: ``train`` or ``train+val``.
        registered_as: The name in the model registry; None registers nothing.
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
        on, register = section.get("on"), section.get("register")
        if on not in TRAINED_ON:
            raise UserError("train.on", f"{on} is no part of the data", nearest(str(on), TRAINED_ON))
        experiment = tracking.get("experiment")
        if "experiment" in tracking and (not isinstance(experiment, str) or not experiment.strip()):
            raise UserError("tracking.experiment", f"{experiment!r} is no name", "give the experiment's name: autotune")
        resolved = space.resolve({})
        return cls(
            folder_name("train.name", section.get("name")),
            home_folder(setting(config, "home")),
            on,
            None if register is None else folder_name("train.register", register),
            resolved,
            compose.section(config, "origin") if "origin" in config else {},
            Objective.of(resolved["objective"]),
            tracking.get("uri"),
            experiment,
        )


def main() -> None:
    """Run the command."""
    run_command("train", Plan.of, train, lambda overrides: overrides_from(overrides, _config_of_run))


def train(config: DictConfig) -> int:
    """Train, test once, log and register.

    Returns:
        The exit code: 0 done, 1 the user's code broke, 130 and 143 interrupted.
    """
    plan = Plan.of(config)
    plan.folder.mkdir(parents=True, exist_ok=True)
    is_new = not any(plan.folder.iterdir())
    received: list[signal.Signals] = []

    def interrupt(by: signal.Signals) -> None:
        received.append(by)
        raise KeyboardInterrupt

    try:
        with handling_signals(interrupt), logging_to(plan.folder / "train.log"):
            _run(config, plan)
    except UserError:
        if is_new:
            discard(plan.folder, plan.home)
        raise
    except KeyboardInterrupt:
        if not (plan.folder / "config.yaml").exists():
            discard(plan.folder, plan.home)
        return EXIT_CODES[received[0] if received else signal.SIGINT]
    except Exception:
        traceback.print_exc(file=sys.stderr)
        return 1
    return 0


def _run(config: DictConfig, plan: Plan) -> None:
    """Train and mirror it to MLflow, whose run always ends."""
    from autotune.registry import FinalRun

    _rehearse(plan)
    run = None if plan.experiment is None else FinalRun(plan.uri, plan.experiment, plan.home)
    for name in RESULTS:  # of an earlier training of this name
        (plan.folder / name).unlink(missing_ok=True)
    composed = plain(config)
    composed["train"]["name"] = plan.name
    (plan.folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(composed)))
    status = "FAILED"
    summary: dict[str, Any] = {}
    if run is not None:
        run.begin(plan.name, plan.resolved, plan.origin, naming.family(plan.resolved), plan.on)
    try:
        summary = _train(plan, run)
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        if run is not None:
            numbers = {**summary.get("test", {}), **summary.get("cost", {})}
            run.end(numbers, [plan.folder / name for name in RESULTS], status)
    _say(plan, run, summary)


def _rehearse(plan: Plan) -> None:
    """Find out what cannot be trained before anything is written. Raises UserError."""
    from autotune.assembly import refusal
    from autotune.executors.lightning import LightningExecutor

    hush_libraries()
    why = refusal(plan.resolved, plan.on)
    if why is not None:
        raise UserError("train", f"this configuration cannot work: {why}", "change it")
    LightningExecutor().rehearse(plan.resolved)


def _train(plan: Plan, run: FinalRun | None) -> dict[str, Any]:
    import torch
    from lightning.fabric.utilities.exceptions import MisconfigurationException
    from lightning.pytorch import LightningModule
    from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint

    from autotune.assembly import assemble
    from autotune.executors.lightning import cost_meter, make_trainer, measured, raise_interrupt
    from autotune.registry import table_preprocess

    class Progress(Checkpoint):
        """Says and logs what each epoch measured, after all else has logged."""

        def on_train_epoch_end(self, trainer: Trainer, _: LightningModule) -> None:
            metrics = measured(trainer)
            epoch = trainer.current_epoch + 1
            numbers = "  ".join(f"{name} {value:.4g}" for name, value in sorted(metrics.items()))
            _log.info("epoch %*d/%d  %s", len(str(plan.epochs)), epoch, plan.epochs, numbers)
            if run is not None:
                run.log(metrics, epoch)

    hush_libraries()
    _log.info("training %s for %d epochs on %s", naming.strategy(plan.resolved), plan.epochs, plan.on)
    assembly = assemble(plan.resolved, plan.on)
    meter, batch_size = cost_meter(assembly)
    keeper = ModelCheckpoint(
        plan.folder,
        "best",
        monitor=plan.objective.metric if plan.on == "train" else None,
        mode=plan.objective.direction[:3],
        save_weights_only=True,
        enable_version_counter=False,
    )
    warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")  # our own files are there
    unjudged = {} if plan.on == "train" else {"limit_val_batches": 0}
    trainer = make_trainer(assembly, [meter, keeper, Progress()], max_epochs=plan.epochs, **unjudged)
    try:
        trainer.fit(assembly.module, datamodule=assembly.data)
        kept = torch.load(plan.folder / "best.ckpt", weights_only=True)
        assembly.module.load_state_dict(kept["state_dict"])
        tested = _test(trainer, assembly)
    except SystemExit as end:
        raise_interrupt(end)
        raise
    except MisconfigurationException as error:
        logged = measured(trainer)
        if keeper.monitor is not None and plan.objective.metric not in logged:
            raise plan.objective.not_among(logged) from error
        raise
    summary: dict[str, Any] = {
        "name": plan.name,
        "origin": dict(plan.origin),
        "strategy": naming.strategy(plan.resolved),
        "trained_on": plan.on,
        "epochs": plan.epochs,
        "kept_epoch": kept["epoch"] + 1,
        "test": tested,
        "cost": meter.cost(assembly.module, batch_size),
    }
    if keeper.best_model_score is not None:
        summary[plan.objective.metric] = float(keeper.best_model_score)
    table = table_preprocess(assembly.data)
    if table is not None:
        table.write(plan.folder)
    if run is not None:
        summary |= {"run_id": run.run_id, "model": _log_model(plan, run, assembly)}
    (plan.folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    return summary


def _test(trainer: Trainer, assembly: Assembly) -> dict[str, float]:
    """Test once; a module that does not say how to is not tested."""
    from lightning.pytorch.utilities.model_helpers import is_overridden

    if not is_overridden("test_step", assembly.module) or not is_overridden("test_dataloader", assembly.data):
        _log.warning("nothing is tested: the module has no test_step, or the data no test_dataloader")
        return {}
    parts = trainer.test(assembly.module, datamodule=assembly.data, verbose=False)
    return {name: float(value) for part in parts for name, value in part.items()}


def _log_model(plan: Plan, run: FinalRun, assembly: Assembly) -> str | None:
    from autotune.registry import servable

    served = servable(assembly)
    if served is None:
        target = plan.resolved["model"]["_target_"]
        _log.warning("%s has no forward of one tensor, so it is kept as best.ckpt alone", target)
        return None
    return run.log_model(*served, plan.registered_as)


def _say(plan: Plan, run: FinalRun | None, summary: Mapping[str, Any]) -> None:
    _log.info("")
    for name, value in sorted(summary["test"].items()):
        _log.info("%s %.6g", name, value)
    _log.info("weights of epoch %d:  %s", summary["kept_epoch"], plan.folder / "best.ckpt")
    if run is not None:
        if summary["model"]:
            _log.info("model:               %s", summary["model"])
        _log.info("browse:              %s", run.ui_command)


def _config_of_run(run_id: str, home: str, uri: str | None) -> str:
    from autotune.registry import config_of_run

    return config_of_run(run_id, home, uri)


if __name__ == "__main__":
    main()
