r"""A resolved config as YAML: what is written reads back as the same values.

A text that holds ``${`` is written as OmegaConf escapes it (``\${``), since ``${x}`` would be read as another's value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

# What YAML 1.1 leaves a text and people mean as a number: 1e-3.
_FLOAT = (
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+$"),
    list("-+0123456789."),
)
_INTERPOLATION = re.compile(r"(\\*)\$\{")


class Loader(yaml.CSafeLoader):
    """YAML as plain data, floats as 1e-3 is meant."""


class Dumper(yaml.CSafeDumper):
    """Quotes each text that `Loader` would read as something else."""


Loader.add_implicit_resolver(*_FLOAT)
Dumper.add_implicit_resolver(*_FLOAT)


def dump(config: Mapping[str, Any]) -> str:
    """The YAML of a resolved config."""
    return written(escaped(config))


def written(content: Any) -> str:
    """The YAML of what `load` read, or of what is escaped by other means."""
    return str(yaml.dump(content, Dumper=Dumper, sort_keys=False, allow_unicode=True))


def load(text: str) -> Any:
    """A YAML as plain data; what is escaped in it stays so. Raises yaml.YAMLError or ValueError."""
    return yaml.load(text, Loader=Loader)


def escaped(value: Any) -> Any:
    """A value in which OmegaConf takes no text for an interpolation."""
    if isinstance(value, Mapping):
        return {name: escaped(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [escaped(each) for each in value]
    return _INTERPOLATION.sub(_escape, value) if isinstance(value, str) else value


def is_interpolated(text: str) -> bool:
    """Whether OmegaConf would put other values into a text."""
    return any(len(found[1]) % 2 == 0 for found in _INTERPOLATION.finditer(text))


def _escape(found: re.Match[str]) -> str:
    return f"{found[1] * 2}\\${{"
