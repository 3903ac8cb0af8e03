"""YAML that others may have written: read as plain data, within limits that a file of settings never comes near."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from autotune.errors import UserError

LARGEST = 1_000_000  # bytes
MOST = 100_000  # values, with those of aliases counted wherever they stand
DEEPEST = 50

_PYTHON = "tag:yaml.org,2002:python"


def read(key: str, shown: str, path: Path, remedy: str) -> str:
    """The text of a file that is not too large.

    Args:
        key: For mistakes, as is `remedy`.
        shown: What the file is called in them.
        path: The file.
        remedy: What would be right.

    Raises:
        UserError: It is too large, cannot be read, or is no text.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise UserError(key, f"{shown} is larger than {LARGEST} bytes", remedy)
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(key, f"{shown} cannot be read ({error.strerror})", f"{remedy} that exists") from error
    except UnicodeDecodeError as error:
        raise UserError(key, f"{shown} is no text", remedy) from error
    except ValueError as error:  # of a zero byte
        raise UserError(key, f"{shown} is no path ({error})", remedy) from error


def check(text: str, aliases: bool) -> None:
    """Find out whether a YAML can be loaded within the limits, by its events alone: nothing is made of it.

    Args:
        text: The YAML.
        aliases: Whether it may have any.

    Raises:
        yaml.YAMLError: It cannot, or is no YAML.
    """
    if len(text) > LARGEST:
        raise yaml.YAMLError(f"it is larger than {LARGEST} bytes")
    counted = 0
    sizes: dict[str, int] = {}  # of what an anchor stands for, once it is whole
    begun: list[tuple[str | None, int]] = []
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        tag = getattr(event, "tag", None)
        if tag is not None and tag.startswith(_PYTHON):
            raise yaml.YAMLError(f"{tag.removeprefix('tag:yaml.org,2002:')} is an object of Python's, not data")
        match event:
            case yaml.AliasEvent():
                if not aliases:
                    raise yaml.YAMLError("aliases are not taken")
                if event.anchor not in sizes:
                    raise yaml.YAMLError(f"the alias {event.anchor} stands for nothing whole")
                counted += sizes[event.anchor]
            case yaml.ScalarEvent():
                counted += 1
                if event.anchor is not None:
                    sizes[event.anchor] = 1
            case yaml.CollectionStartEvent():
                begun.append((event.anchor, counted))
                counted += 1
                if len(begun) > DEEPEST:
                    raise yaml.YAMLError(f"it is nested more than {DEEPEST} levels deep")
            case yaml.CollectionEndEvent():
                anchor, before = begun.pop()
                if anchor is not None:
                    sizes[anchor] = counted - before
        if counted > MOST:
            raise yaml.YAMLError(f"it holds more than {MOST} values")


def said(error: Exception) -> str:
    """What is wrong with a YAML, in one line."""
    return " ".join(str(error).split())


def is_plain(value: Any) -> bool:
    """Whether a value is of the kinds that a resolved config has: no dates, bytes or sets."""
    if isinstance(value, dict):
        return all(isinstance(name, str | int | float | bool) and is_plain(each) for name, each in value.items())
    if isinstance(value, list):
        return all(map(is_plain, value))
    return value is None or isinstance(value, str | int | float | bool)


def strings(value: Any) -> list[str]:
    """Every text in a config, those of keys included."""
    if isinstance(value, dict):
        return [text for name, each in value.items() for text in (*strings(name), *strings(each))]
    if isinstance(value, list):
        return [text for each in value for text in strings(each)]
    return [value] if isinstance(value, str) else []
