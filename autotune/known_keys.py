"""Keys of a composed config that nothing reads: mistakes, whoever put them there.

What is left out here is left to whoever takes it: a section with a ``_target_`` is held against the arguments of its
class when that is made, and the Trainer's against Lightning's.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from autotune.errors import UserError, nearest
from autotune.trust.config_files import conf_dir
from autotune.trust.yaml_limits import strings

# Groups whose sections are read key by key; their options name every key there is.
READ = ("objective", "task", "storage")
# In a final training, which makes no tracker of it.
READ_BY_TRAIN = (*READ, "tracking")


def check(command: str, config: Mapping[str, Any], brought: Collection[str] = ()) -> None:
    """Refuse keys of a composed config that nothing reads.

    A key that an interpolation may mean by its name is read.

    Args:
        command: Whose config it is, by the name of its primary config.
        config: Without Hydra's own section, interpolations left in.
        brought: Further keys at the top that ``from=`` brought.

    Raises:
        UserError: There is one; names the nearest that is read.
    """
    if not (conf_dir() / f"{command}.yaml").is_file():
        return
    meant = _names_in_interpolations(config)
    for key, known in _known(command).items():
        section = config if not key else config.get(key)
        if not isinstance(section, Mapping) or (key and "only" in section):
            continue
        for name in section:
            if name not in known and str(name) not in meant and not (not key and name in brought):
                raise _unread(f"{key}.{name}" if key else str(name), remedy(key, str(name), known))


def _unread(key: str, near: str) -> UserError:
    if (conf_dir() / key).is_dir():  # a group whose options fill no section of their own
        return UserError(
            key, "its option fills a section that nothing reads", "begin its file with # @package _global_"
        )
    return UserError(key, "there is no such key", near)


def is_whole(command: str, section: str) -> bool:
    """Whether all keys of a section are known; an empty section is the top of the config."""
    return section in _known(command)


def remedy(section: str, name: str, known: Collection[str]) -> str:
    """Which of the known keys of a section was probably meant."""
    prefix = f"{section}." if section else ""
    whole = {each: f"{prefix}{each}" for each in known if each not in ("_target_", "name")}
    close = difflib.get_close_matches(name, whole, n=1)
    return f"did you mean {whole[close[0]]}?" if close else nearest("", whole.values())


@cache
def _known(command: str) -> Mapping[str, Collection[str]]:
    """The sections of a command that are read key by key, and their keys; under an empty name the sections."""
    file = conf_dir() / f"{command}.yaml"
    if not file.is_file():
        return {}
    primary = OmegaConf.to_container(OmegaConf.load(file))
    assert isinstance(primary, dict)
    groups = [str(name) for item in primary.pop("defaults", []) if isinstance(item, dict) for name in item]
    groups = [name for name in groups if not name.startswith(("override ", "optional "))]
    sections: dict[str, Collection[str]] = {
        str(key): [str(name) for name in section]
        for key, section in primary.items()
        if isinstance(section, dict) and key not in ("hydra", *groups)
    }
    for group in READ_BY_TRAIN if command == "train" else READ:
        if group in groups:
            sections[group] = sorted({key for option in (conf_dir() / group).glob("*.yaml") for key in _keys(option)})
    top = [key for key in dict.fromkeys([*map(str, primary), *groups]) if key not in ("hydra", "experiment")]
    return {"": top, **sections}


def _keys(option: Path) -> list[str]:
    content = OmegaConf.load(option)
    return ["_target_", "name", *(str(key) for key in content)]


def _names_in_interpolations(config: Mapping[str, Any]) -> set[str]:
    return {
        name for text in strings(dict(config)) for found in re.findall(r"\$\{[^}]*", text) for name in _words(found)
    }


def _words(text: str) -> Iterator[str]:
    yield from re.findall(r"[^\s${}.:,'\"\[\]]+", text)
