"""Config files that a command composes, the user's own ones above all: read within limits, and as settings alone.

A file says what is searched and trained. What it cannot say is how Hydra runs the command (its callbacks, launchers,
loggers and environment make objects of their own), nor have anything read from the environment: that is for the
command line.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import yaml
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigLoadError, ConfigResult
from omegaconf import OmegaConf
from omegaconf.errors import GrammarParseError
from omegaconf.grammar_parser import parse

from autotune.errors import UserError
from autotune.trust import yaml_limits

REMEDY = "give a file of settings"

# Resolvers that only look into the config or at the clock.
HARMLESS = ("job_suffix", "now", "oc.dict.keys", "oc.dict.values", "oc.select", "python_version")
# Another one, for what a search is run by, where the user types it.
ENVIRONMENT = "oc.env"
MAY_READ_ENVIRONMENT = ("storage", "tracking")

_HYDRA = re.compile(r"(?:^|[\s/@.:])hydra(?:$|[\s/@.:])")


def conf_dir() -> Path:
    """Where the shipped config files are: beside the package in a clone, inside it in a wheel."""
    package = Path(__file__).resolve().parents[1]
    shipped = package / "conf"
    return shipped if shipped.is_dir() else package.parent / "conf"


class ConfigFiles(FileConfigSource):
    """A folder of config files, in the place of Hydra's.

    Attributes:
        held: What the user's files hold that were read, by their names. Of the class, since Hydra copies its sources.
    """

    held: ClassVar[dict[str, Any]] = {}

    def is_group(self, config_path: str) -> bool:
        """Whether there is such a folder within this one."""
        return self._is_within(config_path) and super().is_group(config_path)

    def is_config(self, config_path: str) -> bool:
        """Whether there is such a file within this folder."""
        return self._is_within(config_path) and super().is_config(config_path)

    def load_config(self, config_path: str) -> ConfigResult:
        """Read a file.

        Raises:
            UserError: It is beyond the limits, no YAML, or says what only the command line may.
        """
        if Path(self.path).resolve() == conf_dir():
            return super().load_config(config_path)
        name = self._normalize_file_name(config_path)
        if not self.is_config(config_path):
            raise ConfigLoadError(f"Config not found : {name}")
        text = yaml_limits.read(name, "it", Path(self.path, name), REMEDY)
        try:
            yaml_limits.check(text, aliases=True)
            config = OmegaConf.load(io.StringIO(text))
            header = self._get_header_dict(text[:512])
        except (yaml.YAMLError, ValueError, OSError, GrammarParseError) as error:
            raise UserError(name, f"it is no YAML ({yaml_limits.said(error)})", REMEDY) from error
        content = OmegaConf.to_container(config, resolve=False)
        _check(name, content, header.get("package") or "")
        self.held[name] = content
        return ConfigResult(config=config, path=f"{self.scheme()}://{self.path}", provider=self.provider, header=header)

    def _is_within(self, config_path: str) -> bool:
        whole = os.path.normpath(os.path.join(self.path, config_path))  # noqa: PTH118  # links may lead elsewhere
        return Path(whole).is_relative_to(os.path.normpath(self.path))


Plugins.instance()  # registers Hydra's own first
SourcesRegistry.instance().types[ConfigFiles.scheme()] = ConfigFiles


def _check(name: str, content: Any, package: str) -> None:
    """Refuse what a file may not say."""
    if not isinstance(content, Mapping):
        raise UserError(name, "it holds no settings", REMEDY)
    defaults = content.get("defaults") or []
    if not isinstance(defaults, list) or not all(map(_is_default, defaults)):
        raise UserError(name, f"its defaults are no list of options ({defaults})", "write defaults: [group: option]")
    of_hydra = [text for text in yaml_limits.strings(defaults) if _HYDRA.search(text)]
    if "hydra" in content or of_hydra or _HYDRA.search(package) or name.startswith("hydra/"):
        raise UserError(name, "it sets how Hydra runs the command", "type hydra.<name>=... on the command line")
    for text in yaml_limits.strings(content):
        for resolver in resolvers(name, text):
            if resolver not in HARMLESS:
                raise _not_resolved(name, text, resolver)


def _is_default(item: Any) -> bool:
    if isinstance(item, Mapping):
        several = next(iter(item.values())) if len(item) == 1 else 0
        texts = several if isinstance(several, list) else [several or ""]
        return all(isinstance(text, str) for text in texts)
    return isinstance(item, str)


def check_resolvers(config: Mapping[str, Any]) -> None:
    """Refuse resolvers in a composed config, wherever they come from, that may not be where they are.

    What a trial is made of goes to MLflow and into files; only addresses of a store and a tracker may be read from the
    environment.

    Args:
        config: Unresolved, without Hydra's own section.

    Raises:
        UserError: There is one.
    """
    for section, content in config.items():
        further = (ENVIRONMENT,) if section in MAY_READ_ENVIRONMENT else ()
        for key, text in _texts(content, str(section)):
            for resolver in resolvers(key, text):
                if resolver not in (*HARMLESS, *further):
                    raise _not_resolved(key, text, resolver)


def resolvers(key: str, text: str) -> Iterator[str]:
    """The names of the resolvers that a text calls. Raises UserError where it is no interpolation."""
    return _parts(key, text, "ResolverNameContext")


def references(key: str, text: str) -> Iterator[str]:
    """The other keys that a text takes up, ``${key}`` each. Raises UserError where it is no interpolation."""
    return _parts(key, text, "InterpolationNodeContext")


def _parts(key: str, text: str, kind: str) -> Iterator[str]:
    """The parts of one kind of an interpolation. Raises UserError where it is none."""
    if "${" not in text:
        return
    try:
        nodes = [parse(text)]
    except GrammarParseError as error:
        raise UserError(key, f"{text} is no interpolation ({yaml_limits.said(error)})", "write ${key}") from error
    while nodes:
        node = nodes.pop()
        if type(node).__name__ == kind:
            yield node.getText()
        nodes += list(getattr(node, "getChildren", list)())


def _texts(value: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, each in value.items():
            yield from _texts(each, f"{key}.{name}")
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _texts(each, f"{key}.{index}")
    elif isinstance(value, str):
        yield key, value


def _not_resolved(key: str, text: str, resolver: str) -> UserError:
    if resolver == ENVIRONMENT:
        remedy = (
            "write the value, or let your shell put it in; "
            "storage.url and tracking.uri alone may be typed as '${oc.env:NAME}'"
        )
        return UserError(key, f"{text} would be read from the environment, and be kept with every trial", remedy)
    return UserError(key, f"{text} calls {resolver}, which is not called here", f"known are {', '.join(HARMLESS)}")
