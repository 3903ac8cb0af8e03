"""Addresses of servers and databases: whatever is at one is sent the user's credentials, so no file says one.

An address is typed behind the command, or the environment has it. What a file may name is the home's own: its
mlflow.db, and a database in the folder of the study itself.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from autotune.errors import UserError
from autotune.sqlite_url import quoted_below, sqlite_path
from autotune.trust.config_files import ENVIRONMENT, conf_dir, references, resolvers
from autotune.trust.masking import mask

KEYS = ("tracking.uri", "storage.url", "uri")

# What the user says of a search elsewhere, and an address may take up.
_TAKEN_UP = {"${home}", "${study.name}"}
_MISSING = "???"


def typed(overrides: Iterable[Override]) -> frozenset[str]:
    """The keys of the addresses that a command line says itself."""
    return frozenset(
        key
        for override in overrides
        if override.key_or_group and not override.is_delete()
        for key in _keys(str(override.key_or_group), override.value())
        if key in KEYS
    )


def _keys(key: str, value: Any) -> Iterator[str]:
    """The keys of all values that are typed behind one."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield from _keys(f"{key}.{name}", each)
    elif isinstance(value, ChoiceSweep):
        for each in value.list:
            yield from _keys(key, each)
    else:
        yield key


def check(config: DictConfig, said: frozenset[str], files: Mapping[str, Any]) -> None:
    """Refuse an address in a composed config that comes from a file of the user's.

    Args:
        config: Composed.
        said: The keys of those that were typed (`typed`).
        files: What the files hold that it was composed of, by their names.

    Raises:
        UserError: There is one; the message has the override to type.
    """
    content = OmegaConf.to_container(config, resolve=False)
    for key in KEYS:
        text = _at(content, key)
        if text is None or text in (_MISSING, *_shipped(key)):
            continue
        if key not in said:
            where = next((name for name, each in files.items() if text in _leaves(each)), "a file")
            raise refusal(key, where, _resolved(config, key))
        if isinstance(text, str):
            _check_typed(key, text)


def refusal(key: str, where: str, address: object, variable: str = "") -> UserError:
    """The mistake that a file names an address.

    Args:
        key: What it is typed behind.
        where: The file.
        address: As the file has it.
        variable: Of the environment, which has the address where no command line does.
    """
    shown = mask(str(address))
    problem = f"{where} names {shown}, and an address is not taken from a file: your credentials would go there"
    word = f"{variable}={shlex.quote(shown)}" if variable else shlex.quote(f"{key}={_value(shown)}")
    where_to = "set it in front of the command" if variable else "type it"
    return UserError(key, problem, f"{where_to} if you trust it: {word}")


def _check_typed(key: str, text: str) -> None:
    """Refuse a typed address that leads to what a file says. Raises UserError."""
    if not set(resolvers(key, text)) <= {ENVIRONMENT} or not set(references(key, text)) <= _TAKEN_UP:
        problem = f"{text} leads to what a file may say, and an address is not taken from a file"
        raise UserError(key, problem, f"write the address, or '${{{ENVIRONMENT}:NAME}}'")


def is_the_homes(key: str, text: str) -> bool:
    """Whether an address takes up the home and the study's name and nothing else."""
    return not any(resolvers(key, text)) and set(references(key, text)) <= _TAKEN_UP


def check_local(key: str, folder: object) -> None:
    """Refuse the address of a file system elsewhere in the place of a folder. Raises UserError."""
    if re.search(r"://|::|^data:", str(folder)):
        raise UserError(key, f"{mask(str(folder))} is an address", f"give a folder of this machine: {key}=...")


def in_folder(address: str, folder: Path) -> bool:
    """Whether an address names an SQLite file that lies in a folder."""
    whole = quoted_below(address, folder)
    path = sqlite_path(whole)
    return path is not None and "?" not in whole and path.resolve().is_relative_to(folder.resolve())


def _at(content: Any, key: str) -> Any:
    """The value of a key; that of a section which is a text itself, as an interpolation of all of it is."""
    for part in key.split("."):
        if isinstance(content, str):
            return content
        content = content.get(part) if isinstance(content, Mapping) else None
    return content


def _resolved(config: DictConfig, key: str) -> Any:
    try:
        return OmegaConf.select(config, key)
    except OmegaConfBaseException:
        return _at(OmegaConf.to_container(config, resolve=False), key)


@cache
def _shipped(key: str) -> tuple[Any, ...]:
    """What the shipped options say of an address."""
    group, _, last = key.rpartition(".")
    options = [yaml.safe_load(path.read_text()) for path in (conf_dir() / group).glob("*.yaml")]
    return tuple(option[last] for option in options if option.get(last) is not None)


def _leaves(content: Any) -> Iterator[Any]:
    if isinstance(content, Mapping):
        for each in content.values():
            yield from _leaves(each)
    elif isinstance(content, list):
        for each in content:
            yield from _leaves(each)
    else:
        yield content


def _value(text: str) -> str:
    """A text as Hydra reads it behind a key."""
    try:
        if OverridesParser.create().parse_override(f"key={text}").value() == text:
            return text
    except HydraException:
        pass
    return str(QuotedString(text, Quote.single).with_quotes())
