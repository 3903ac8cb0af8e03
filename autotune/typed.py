"""Commands as people type them: overrides quoted for Hydra, words quoted for the shell."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException

from autotune.trust.masking import mask
from autotune.trust.resolved_yaml import escaped

HOME = "mlruns"  # where nothing is typed
# Sections of which a final training has those of the search, where they were typed.
REPEATED = ("tracking",)
FLAG = "--config-dir"
# Names and paths, which are what was typed: 2026_12_01 and 007 are no numbers there, off is no truth value.
NAMES = ("study.name", "train.name", "train.register", "from", "tracking.experiment", "data.target")
FOLDERS = ("home", "data.path")


def override(key: str, text: str) -> str:
    """An override that gives a key a text, which is read as that text and nothing else."""
    plain = f"{key}={text}"
    try:
        if text and OverridesParser.create().parse_override(*as_typed([plain])).value() == escaped(text):
            return plain
    except HydraException:
        pass
    return f"{key}={_quoted(text)}"


def as_typed(overrides: Sequence[str]) -> list[str]:
    """Overrides whose names and paths Hydra reads as the texts that were typed; ``~`` is the home directory.

    Raises:
        HydraException: One is not understood.
    """
    parser = OverridesParser.create()
    return [_as_typed(text, parser.parse_override(text)) for text in overrides]


def _as_typed(text: str, parsed: Override) -> str:
    key = parsed.key_or_group
    if key not in (*NAMES, *FOLDERS) or parsed.is_sweep_override() or parsed.is_delete():
        return text
    value = parsed.value()
    if value is None or isinstance(value, list | dict):
        return text
    named = parsed.get_value_string() if not isinstance(value, str) else value
    if key in FOLDERS and named.startswith("~"):
        named = str(Path(named).expanduser())
    return text if named == value else f"{parsed.get_key_element()}={_quoted(named)}"


def _quoted(text: str) -> str:
    return str(QuotedString(escaped(text), Quote.single).with_quotes())


def command(name: str, *words: str) -> str:
    """A command of autotune's for the shell, in one line and without secrets."""
    return mask(" ".join(shlex.join(["python", "-m", f"autotune.{name}", *words]).splitlines()))


def on_study(name: str, study: str, home: Any, typed: Sequence[str] = ()) -> str:
    """A command that takes a study by ``from=``.

    Args:
        name: Of the command.
        study: The study's name.
        home: Where the study is.
        typed: What else has to be typed (`repeated`): flags, each with its value, then overrides.
    """
    flags = typed[:2] if typed[:1] == [FLAG] else []
    of_home = [] if str(home) == HOME else [override("home", str(home))]
    return command(name, *flags, override("from", study), *of_home, *typed[len(flags) :])


def repeated(flags: Sequence[str], overrides: Sequence[str], allowed: Sequence[str]) -> list[str]:
    """What a final training needs to be told again of how its search was begun, as words: flags first.

    Args:
        flags: The directory of config files, where one was given: the flag and its value.
        overrides: As typed.
        allowed: What the user trusts beyond what is trusted anyway.
    """
    again = [each for each in overrides if _section(each) in REPEATED and each.lstrip("+") != "tracking=none"]
    searchpath = [each for each in overrides if each.startswith("hydra.searchpath=")]
    trusted = [f"allow_targets=[{','.join(allowed)}]"] if allowed else []
    return [*flags, *trusted, *searchpath, *again]


def _section(override: str) -> str:
    return override.lstrip("+~").partition("=")[0].partition(".")[0]


def train_command(study: str, config: Mapping[str, Any], notes: Mapping[str, Any]) -> str:
    """The command that trains a study's winner at full length.

    Args:
        study: The study's name.
        config: The search's composed config.
        notes: What the search's last run left, of which ``typed`` is what `repeated` gave.
    """
    return on_study("train", study, config.get("home", HOME), notes.get("typed") or ())
