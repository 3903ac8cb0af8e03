"""Where a final training's config comes from: a study, a best.yaml or an MLflow run."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser

from autotune.errors import UserError, nearest
from autotune.space import LITERAL, SETTINGS, literals
from autotune.trust import resolved_yaml, yaml_limits
from autotune.trust.targets import OPTION as ALLOWS

GROUPS = ("data", "model", "optimizer", "schedule", "trainer", "task", "objective")
OPTION = "from"
_RUN_ID = re.compile(r"[0-9a-f]{32}")

FetchRun = Callable[[str, str, str | None], str]


def overrides_from(overrides: Sequence[str], fetch_run: FetchRun) -> list[str]:
    """Turn ``from=...`` into overrides that put the resolved config it names in the place of the groups.

    What else was typed stays: ``optimizer=adam`` replaces the whole optimizer, ``optimizer.lr=0.01`` one value of it.
    Nothing that ``from=`` brings is a search value: what looks like one is listed under ``origin.literal``.

    Args:
        overrides: As typed.
        fetch_run: Given a run id, a home and ``tracking.uri``, the text of the resolved config that a run of MLflow
            holds.

    Raises:
        UserError: What is named does not exist or is no resolved config.
    """
    typed = dict(_split(override) for override in overrides)
    origin = typed.get("from", "null")
    if origin in ("", "null"):
        return list(overrides)
    uri = typed.get("tracking.uri", "null")
    config = resolved(origin, typed.get("home", "mlruns"), None if uri in ("", "null") else uri, fetch_run)
    literal = dict(literals({key: value for key, value in config.items() if key not in SETTINGS}))
    store = ConfigStore.instance()
    chosen = []
    for group in GROUPS:
        if group not in typed:
            store.store(group=group, name=OPTION, node=dict(config[group]), provider="autotune")
            chosen.append(f"{group}={OPTION}")
    rest = {key: value for key, value in config.items() if key not in GROUPS}
    rest["origin"] = {
        "max_epochs": config["trainer"].get("max_epochs"),
        **{key: value for key, value in (rest.get("origin") or {}).items() if key != LITERAL},
        **({LITERAL: literal} if literal else {}),
    }
    store.store(group="origin", name=OPTION, node=rest, package="_global_", provider="autotune")
    return [*chosen, f"+origin={OPTION}", *overrides]


def resolved(origin: str, home: str, uri: str | None, fetch_run: FetchRun) -> dict[str, Any]:
    """The resolved config that ``from=`` names, with its own section ``origin`` where it has one.

    Raises:
        UserError: There is none.
    """
    study = Path(home) / "studies" / origin
    if origin.endswith((".yaml", ".yml")):
        return _checked(origin, _read(origin, Path(origin)))
    if "/" not in origin and origin not in (".", "..") and _is_folder(study):
        if not (study / "best.yaml").is_file():
            raise UserError("from", f"the study {origin} has no trial that was trained to its end", "let it search on")
        return _checked(origin, _read(origin, study / "best.yaml"))
    if _RUN_ID.fullmatch(origin):
        return _checked(origin, fetch_run(origin, home, uri))
    folder = Path(home) / "studies"
    known = [each.name for each in folder.iterdir() if each.is_dir()] if folder.is_dir() else []
    remedy = nearest(origin, known) if known else "give a study's name, a best.yaml or an MLflow run id"
    raise UserError("from", f"no study {origin} in {home}", remedy)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # of a name that is too long
        return False


def _split(override: str) -> tuple[str, str]:
    parsed = OverridesParser.create().parse_override(override)
    value = "" if parsed.is_sweep_override() else parsed.value()
    return str(parsed.key_or_group), value if isinstance(value, str) else parsed.get_value_string()


def _read(origin: str, path: Path) -> str:
    return yaml_limits.read("from", origin, path, "give a best.yaml")


def parsed(origin: str, text: str) -> Any:
    """A YAML of somebody's as plain data. Raises UserError where it is none, or beyond what a config comes near."""
    try:
        yaml_limits.check(text, aliases=False)
        config = resolved_yaml.load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise UserError("from", f"{origin} is no YAML ({yaml_limits.said(error)})", "give a best.yaml") from error
    if not yaml_limits.is_plain(config):
        raise UserError("from", f"{origin} holds more than texts and numbers", "give a best.yaml")
    return config


def _checked(origin: str, text: str) -> dict[str, Any]:
    config = parsed(origin, text)
    if not isinstance(config, Mapping):
        raise UserError("from", f"{origin} holds no config", "give a best.yaml")
    for key in (*GROUPS, "seed"):
        if key not in config or (key != "seed" and not isinstance(config[key], Mapping)):
            raise UserError("from", f"{origin} lacks the section {key}", "give a best.yaml as a search writes it")
    if not isinstance(config.get("origin") or {}, Mapping):
        raise UserError(
            "from", f"{origin} has {config['origin']} under origin", "give a best.yaml as a search writes it"
        )
    epoch = (config.get("origin") or {}).get("best_epoch")
    if epoch is not None and (isinstance(epoch, bool) or not isinstance(epoch, int) or epoch < 1):
        problem = f"{origin} has {epoch} under origin.best_epoch"
        raise UserError("from", problem, "give a best.yaml as a search writes it")
    if any(map(resolved_yaml.is_interpolated, yaml_limits.strings(config))):
        raise UserError("from", f"{origin} has interpolations", "give a best.yaml, which has every value written out")
    if any("defaults" in each for each in (config, *config.values()) if isinstance(each, Mapping)):
        raise UserError("from", f"{origin} has defaults", "give a best.yaml, which has every value written out")
    if ALLOWS in config:
        remedy = f"take it out, and type {ALLOWS}=[...] behind the command for what you trust"
        raise UserError("from", f"{origin} says itself what is trusted ({ALLOWS})", remedy)
    # What a command is run by (its home, its tracking, Hydra's own section) is the user's to say, not a file's.
    return {str(key): value for key, value in config.items() if key == "origin" or key not in SETTINGS}
