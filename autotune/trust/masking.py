"""Secrets in addresses, made unreadable before anything is written or said."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# The user and password of a URL, and what a query says of them.
_USER = re.compile(r"(?<=://)(?:[^/\s@]*:\S*|[^/\s@]+)(?=@)")
_PASSWORD = re.compile(r"://[^/\s@]*:\S*@")
_QUERY = re.compile(r"(?i)([?&](?:\w*password|passwd|pwd|\w*token|\w*secret|\w*api_?key)=)[^&\s'\"]+")


def mask(text: str) -> str:
    """A text with the user and password of every URL in it made unreadable."""
    return _QUERY.sub(r"\1***", _USER.sub("***", text))


def kept(composed: Mapping[str, Any]) -> dict[str, Any]:
    """A composed config as it is kept: every address in it masked, but for a study's own that has no password."""
    whole: dict[str, Any] = masked(composed)
    url = (composed.get("storage") or {}).get("url")
    if isinstance(url, str) and not _PASSWORD.search(url) and not _QUERY.search(url):
        whole["storage"]["url"] = url  # whoever reads the study needs it
    return whole


def masked(config: Any) -> Any:
    """A config with every text in it masked."""
    if isinstance(config, Mapping):
        return {name: masked(value) for name, value in config.items()}
    if isinstance(config, list | tuple):
        return [masked(value) for value in config]
    return mask(config) if isinstance(config, str) else config
