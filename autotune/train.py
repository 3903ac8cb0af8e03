"""The final training: ``python -m autotune.train from=<study | best.yaml | MLflow run id> [key=value ...]``."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from autotune import naming
from autotune.compose import plain, run_command
from autotune.errors import UserError, nearest
from autotune.logs import hush_libraries, logging_to
from autotune.origin import overrides_from
from autotune.settings import Objective, folder_name, home_folder
from autotune.space import Space, check

if TYPE_CHECKING:
    from autotune.registry import FinalRun

_log = logging.getLogger("autotune.train")  # not __name__, which is __main__ where it is run as a command

TRAINED_ON = ("train", "train+val")


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
        space = Space(config)
        check(space)
        for name in space.parameters():
            raise UserError(name, "is still open, and a final training has one value for it", f"give it: {name}=...")
        section = config.train
        if section["on"] not in TRAINED_ON:
            raise UserError(
                "train.on", f"{section['on']} is no part of the data", nearest(str(section["on"]), TRAINED_ON)
            )
        resolved = space.resolve({})
        origin = OmegaConf.to_container(config.origin, resolve=True) if "origin" in config else {}
        assert isinstance(origin, dict)
        return cls(
            folder_name("train.name", section.name),
            home_folder(config.home),
            section["on"],
            None if section.register is None else folder_name("train.register", section.register),
            resolved,
            {str(key): value for key, value in origin.items()},
            Objective.of(resolved["objective"]),
            config.tracking.get("uri"),
            config.tracking.get("experiment"),
        )


def main() -> None:
    """Run the command."""
    run_command("train", Plan.of, train, lambda overrides: overrides_from(overrides, _config_of_run))


def train(config: DictConfig) -> int:
    """Train, test once, log and register; returns the exit code: 0 done, 1 the user's code broke, 130 interrupted."""
    plan = Plan.of(config)
    plan.folder.mkdir(parents=True, exist_ok=True)
    with logging_to(plan.folder / "train.log"):
        from autotune.registry import FinalRun

        run = None if plan.experiment is None else FinalRun(plan.uri, plan.experiment, plan.home)
        (plan.folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(plain(config))))
        status = "FAILED"
        summary: dict[str, Any] = {}
        if run is not None:
            run.begin(plan.name, plan.resolved, plan.origin, naming.family(plan.resolved), plan.on)
        try:
            summary = _train(plan, run)
            status = "FINISHED"
        except KeyboardInterrupt:
            status = "KILLED"
            return 130
        except UserError:
            raise
        except Exception:
            traceback.print_exc(file=sys.stderr)
            return 1
        finally:
            if run is not None:
                numbers = {name: value for name, value in summary.items() if name.startswith(("test/", "cost/"))}
                run.end(numbers, [plan.folder / "summary.json", plan.folder / "best.ckpt"], status)
        _say(plan, run, summary)
    return 0


def _train(plan: Plan, run: FinalRun | None) -> dict[str, Any]:
    import torch
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.callbacks import Callback, Checkpoint, ModelCheckpoint

    from autotune.assembly import assemble
    from autotune.executors.lightning import QUIET, callbacks, cost_meter, measured, raise_interrupt

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
    ours: list[Callback] = [meter, keeper, Progress()]
    arguments = {**QUIET, **assembly.trainer, "callbacks": callbacks(assembly, ours), "max_epochs": plan.epochs}
    if plan.on != "train":
        arguments["limit_val_batches"] = 0
    trainer = Trainer(**arguments)
    try:
        trainer.fit(assembly.module, datamodule=assembly.data)
        kept = torch.load(plan.folder / "best.ckpt", weights_only=True)
        assembly.module.load_state_dict(kept["state_dict"])
        tested = trainer.test(assembly.module, datamodule=assembly.data, verbose=False)
    except SystemExit as end:
        raise_interrupt(end)
        raise
    summary: dict[str, Any] = {
        "name": plan.name,
        "origin": dict(plan.origin),
        "strategy": naming.strategy(plan.resolved),
        "trained_on": plan.on,
        "epochs": plan.epochs,
        "kept_epoch": kept["epoch"] + 1,
        **{name: float(value) for part in tested for name, value in part.items()},
        **meter.cost(assembly.module, batch_size),
    }
    if keeper.best_model_score is not None:
        summary[plan.objective.metric] = float(keeper.best_model_score)
    if run is not None:
        summary |= {"run_id": run.run_id, "model": _log_model(plan, run, assembly)}
    (plan.folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    return summary


def _log_model(plan: Plan, run: FinalRun, assembly: Any) -> str | None:
    from autotune.data.batches import ArrayData
    from autotune.learner import Learner
    from autotune.registry import Predictor

    module, data = assembly.module.cpu().eval(), assembly.data
    if isinstance(module, Learner) and isinstance(data, ArrayData):
        model = Predictor(data.split.preprocess, module.network, module.task)
        return run.log_model(model.eval(), data.split.examples, plan.registered_as)
    _log.warning("the model of %s is kept as best.ckpt alone", plan.resolved["model"]["_target_"])
    return None


def _say(plan: Plan, run: FinalRun | None, summary: Mapping[str, Any]) -> None:
    _log.info("")
    for name in sorted(name for name in summary if name.startswith("test/")):
        _log.info("%s %.6g", name, summary[name])
    _log.info("weights of epoch %d:  %s", summary["kept_epoch"], plan.folder / "best.ckpt")
    if run is not None:
        if summary["model"]:
            _log.info("model:               %s", summary["model"])
        _log.info("browse:              %s", run.ui_command)


def _config_of_run(run_id: str, home: str) -> str:
    from autotune.registry import config_of_run

    return config_of_run(run_id, home)


if __name__ == "__main__":
    main()
