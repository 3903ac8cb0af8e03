"""Names of their own for searches and trainings that are named by the clock."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

_CLOCK = re.compile(r"\$\{now:[^}]*\}")
_JOB = "${job_suffix:}"


def named_by_clock(config: DictConfig, section: str, alone: bool = False) -> bool:
    """Find out whether the name in a section of a composed config says the time, so that it is to be a new one.

    Args:
        config: Composed.
        section: ``study`` or ``train``.
        alone: Whether only a name counts in which nothing else is filled in but the number of a job, at its end.
    """
    named: Any = OmegaConf.to_container(config[section]) if section in config else {}
    name = str(named.get("name"))
    rest = _CLOCK.sub("", name)
    return rest != name and not (alone and "${" in rest.removesuffix(_JOB))


def claim(folder: Path, suffix: str = "") -> str:
    """Make the folder, or one with a number behind its name where others were faster; returns the name, which is ours.

    Args:
        folder: By its wanted name.
        suffix: What the name of what is made ends with, and the returned name does not.
    """
    for number in itertools.count(1):
        name = folder.name if number == 1 else f"{folder.name}_{number}"
        try:
            folder.with_name(f"{name}{suffix}").mkdir(parents=True)
        except FileExistsError:
            continue
        return name
    raise AssertionError  # there is always a further number
