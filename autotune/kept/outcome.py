"""What a study has come to, as its storage tells it: while it is searched, at its end, and years later."""

from __future__ import annotations

import io
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from optuna.trial import FrozenTrial

from autotune.chance import Verdict, judge
from autotune.errors import UserError, nearest
from autotune.kept.lease import Holder
from autotune.kept.ledger import LedgerView
from autotune.kept.storage import folders, read_storage
from autotune.settings import Objective
from autotune.standing import Standing, standing
from autotune.tracking import Study
from autotune.trial import Chance, Record, State
from autotune.trust import addresses, yaml_limits
from autotune.trust.config_files import check_resolvers

# Has the address of a database that is not in the study's folder: none is taken from config.yaml.
URL = "AUTOTUNE_STORAGE_URL"


@dataclass(frozen=True)
class Outcome:
    """A study: its trials, its confirmations and what only the runs of the search know.

    Attributes:
        name: The study's name.
        objective: What it searches for.
        config: The composed config, search values and interpolations left in.
        trials: Optuna's trials, by number.
        records: Their stories, by number.
        confirmations: Configs of the best trained again with other seeds.
        seconds: How long it has been searched, over all runs.
        notes: As the last run left it: ``executor``, ``sampler`` and ``pruner`` (names), ``finished`` (why it ended),
            ``typed`` (what a final training has to be told again, see `autotune.typed.repeated`),
            ``refused`` (why, and how many configurations), ``duplicates``, ``guessing`` (the fields of a `Chance`, or
            None), ``paired`` (the ``look``, see `best_look`, and its ``luck``, see `autotune.chance.judge`). What is
            not known yet is missing.
        study: Which study it is; None where it is kept nowhere.
        holder: The search that holds it in a database; None where none does.
    """

    name: str
    objective: Objective
    config: Mapping[str, Any]
    trials: Sequence[FrozenTrial]
    records: Sequence[Record]
    confirmations: Sequence[Record]
    seconds: float
    notes: Mapping[str, Any]
    study: Study | None = None
    holder: Holder | None = None

    @classmethod
    def of(cls, ledger: LedgerView, name: str, objective: Objective, config: Mapping[str, Any]) -> Outcome:
        """What a ledger tells of a study now."""
        return cls(
            name,
            objective,
            config,
            ledger.trials(),
            ledger.records(),
            ledger.confirmations(),
            ledger.seconds,
            ledger.notes,
            ledger.study,
            ledger.holder,
        )

    @cached_property
    def history(self) -> list[tuple[int, float]]:
        """The best value so far, at each trial that improved it: pairs of trial number and value."""
        history: list[tuple[int, float]] = []
        for record in self.records:
            if record.objective is None or record.state != State.COMPLETE:
                continue
            if not history or self.objective.better(record.objective, history[-1][1]):
                history.append((record.number, record.objective))
        return history

    @cached_property
    def best(self) -> Record | None:
        """The trial of the best value that was trained to its end, the earliest of equals; None where there is none."""
        return self.records[self.history[-1][0]] if self.history else None

    @cached_property
    def standing(self) -> Standing | None:
        """How the confirmed configurations compare; None where none is confirmed."""
        return standing(self.records, self.confirmations, self.objective)

    @property
    def winner(self) -> Record | None:
        """The trial whose config is the answer: what confirmation chose, else the best."""
        return self.best if self.standing is None else self.standing.winner.record

    @cached_property
    def verdict(self) -> Verdict | None:
        """Whether the best is more than guessing reaches; None where that is not known."""
        guessing, paired = self.notes.get("guessing"), self.notes.get("paired")
        luck = paired["luck"] if paired is not None and paired["look"] == self.best_look else None
        return None if guessing is None else judge(self.records, Chance(**guessing), luck)

    @property
    def best_look(self) -> list[int] | None:
        """The number of the best trial and of its best epoch, counted from 1; None where there is none."""
        if self.best is None:
            return None
        curve = self.best.curves.get(self.objective.metric, ())
        measured = [value for value in curve if math.isfinite(value)]
        return [self.best.number, list(curve).index(self.objective.best(measured)) + 1] if measured else None

    @property
    def is_noise(self) -> bool:
        """Whether nothing learnable was found."""
        return self.verdict is not None and not self.verdict.learnt


def read(study: str, home: Path) -> Outcome:
    """What a study of a home has come to; it may be searched at the moment.

    Raises:
        UserError: There is no such study, or it has no trial yet.
    """
    folder = study_folder(study, home)
    kept = _kept(folder / "config.yaml")
    config = OmegaConf.create({**kept, "home": str(home)})  # it may have been moved since
    container = OmegaConf.to_container(config)
    assert isinstance(container, dict)
    storage = read_storage(_storage(config, folder), folder)
    try:
        ledger = LedgerView(storage, study)
    except KeyError:
        raise UserError("from", f"the study {study} has no trial yet", "let it search on") from None
    objective = Objective.of(_section(config, "objective"))
    return Outcome.of(ledger, study, objective, {str(key): value for key, value in container.items()})


def study_folder(study: str, home: Path, key: str = "from") -> Path:
    """The folder of a study that was begun.

    Raises:
        UserError: There is none of that name.
    """
    folder = home / "studies" / study
    if re.fullmatch(r"[\w.-]{1,128}", study) and study not in (".", "..") and (folder / "config.yaml").is_file():
        return folder
    known = studies(home)
    remedy = nearest(study, known) if known else "search first: python -m autotune.search"
    raise UserError(key, f"no study {study} in {home}", remedy)


def studies(home: Path) -> list[str]:
    """The names of a home's studies, in alphabetical order."""
    return sorted(folder.name for folder in folders(home) if [*folder.glob("config.yaml")])


def _kept(file: Path) -> dict[str, Any]:
    """What a study's config.yaml has; nothing in it is read from the environment.

    Raises:
        UserError: It is no config.
    """
    remedy = "give a study that autotune.search wrote"
    text = yaml_limits.read("from", str(file), file, remedy)
    try:
        yaml_limits.check(text, aliases=False)
        config = OmegaConf.to_container(OmegaConf.load(io.StringIO(text)))
    except (yaml.YAMLError, OmegaConfBaseException, OSError) as error:
        raise UserError("from", f"{file} is no YAML ({yaml_limits.said(error)})", remedy) from error
    sections = ("objective", "storage", "study")
    if not isinstance(config, dict) or not all(isinstance(config.get(key), dict) for key in sections):
        raise UserError("from", f"{file} holds no config", remedy)
    whole = {str(key): value for key, value in config.items()}
    check_resolvers(whole)
    return whole


def _storage(config: Any, folder: Path) -> dict[str, Any]:
    """The section ``storage``; an address other than that of a database in the study's folder is the environment's."""
    needed = OmegaConf.masked_copy(config, ["home", "study", "storage"])
    needed.study.name = folder.name
    plain = OmegaConf.to_container(needed)
    assert isinstance(plain, dict)
    kept = plain["storage"].get("url")
    if kept is None:
        return {}
    if addresses.is_the_homes("storage.url", str(kept)):
        kept = _section(needed, "storage")["url"]
        if addresses.in_folder(str(kept), folder):
            return {"url": kept}
    if URL in os.environ:
        return {"url": os.environ[URL]}
    if "***" in str(kept) or "${" in str(kept):
        raise UserError("storage.url", f"{kept} is all that config.yaml keeps of it", f"set {URL} to the address")
    raise addresses.refusal("storage.url", f"config.yaml of {folder.name}", kept, URL)


def _section(config: Any, key: str) -> dict[str, Any]:
    section = OmegaConf.to_container(config[key], resolve=True)
    assert isinstance(section, dict)
    return {str(name): value for name, value in section.items()}
