"""From a command line to a composed config: Hydra, with sweeps left in the config for the study to search.

Hydra itself takes ``key=a,b`` for a request for ``--multirun``. So before Hydra sees the command line, sweeps of values
are quoted, which makes them ordinary texts that `autotune.space` reads, and sweeps of config groups are replaced by one
option that holds them all as branches of a choice.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, IntervalSweep, Override, Quote, QuotedString
from hydra.core.plugins import Plugins
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, MissingMandatoryValue, OmegaConfBaseException

from autotune.errors import UserError, nearest
from autotune.settings import folder_name
from autotune.space import SETTINGS
from autotune.trust import targets
from autotune.trust.config_files import check_resolvers, conf_dir
from autotune.trust.masking import mask

Prepare = Callable[[list[str]], list[str]]

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


@contextmanager
def handling_signals(handle: Callable[[signal.Signals], None]) -> Iterator[None]:
    """Within it, Ctrl-C and SIGTERM are handled so; afterwards as before. Only the main thread hears them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handler(number: int, _: FrameType | None) -> None:
        handle(signal.Signals(number))

    previous = {number: signal.signal(number, handler) for number in EXIT_CODES}
    try:
        yield
    finally:
        for number, earlier in previous.items():
            signal.signal(number, earlier)


def as_program(main: Callable[[], None]) -> None:
    """Run a command as what this process is for: one that was interrupted is no more disturbed in its ending."""
    code: Any = EXIT_CODES[signal.SIGINT]
    try:
        main()
    except KeyboardInterrupt:
        pass
    except SystemExit as end:
        code = end.code
    if code in EXIT_CODES.values():
        for number in EXIT_CODES:
            signal.signal(number, signal.SIG_IGN)
        # An interrupt on its way out of an exec() of a text (as class makers have) leaves a mark, by which Python would
        # end by SIGINT and not by this code, though it was caught; the next such exec() takes the mark away.
        exec("")
    raise SystemExit(code)


class _ConfSearchPath(SearchPathPlugin):
    """Puts the user's config directories in front of the shipped one, so that a user's file wins over ours."""

    in_front: tuple[str, ...] = ()

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for path in self.in_front:
            search_path.append("user", path)
        search_path.append("autotune", f"file://{conf_dir()}")


def _job_suffix() -> str:
    """Tells the jobs of one multirun apart: -0, -1, ...; nothing in a single run."""
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        return f"-{HydraConfig.get().job.num}"
    return ""


Plugins.instance().register(_ConfSearchPath)
OmegaConf.register_new_resolver("job_suffix", _job_suffix, replace=True)
# Hydra makes the folder of each job of a multirun before anybody else sees the job's config.
OmegaConf.register_new_resolver("folder", partial(folder_name, "study.name"), replace=True)


def compose(
    config_name: str, overrides: Sequence[str], config_dir: str | None = None, prepare: Prepare = list
) -> DictConfig:
    """Compose a config as the commands do, Hydra's own section included.

    Args:
        config_name: ``search`` or ``train``.
        overrides: As typed; sweeps and choices of groups included.
        config_dir: A directory of the user's that goes in front of the shipped one.
        prepare: What else turns the overrides as typed into Hydra's, before all else.

    Raises:
        UserError: Whatever is wrong with the overrides or the files.
    """
    _put_in_front(config_dir, overrides)
    again = partial(compose, config_name, config_dir=config_dir, prepare=prepare)
    with _hydra_errors(config_name, list(overrides), again), hydra.initialize(config_path=None, version_base="1.3"):
        allowed = targets.Allowed.typed(overrides)
        loader = GlobalHydra.instance().config_loader()
        config = hydra.compose(
            config_name, overrides=_leave_sweeps(prepare(list(overrides)), loader), return_hydra_config=True
        )
        _check_trusted(config, allowed)
    targets.remember(config, allowed)
    return config


def _check_trusted(config: DictConfig, allowed: targets.Allowed) -> None:
    """Refuse what a composed config may only hold where the user typed it. Raises UserError."""
    check_resolvers(plain(config))
    several = setting(config, targets.OPTION)
    for name in several if isinstance(several, list) else [several]:
        if name is not None and name not in allowed.prefixes:
            problem = f"{name} comes from a file, and a file does not say what is trusted"
            raise UserError(targets.OPTION, problem, f"type it behind the command: {targets.OPTION}=[{name}]")


def run_command(
    config_name: str,
    check: Callable[[DictConfig], object],
    task: Callable[[DictConfig], int],
    prepare: Prepare = list,
) -> None:
    """Run a command: compose, check before anything is written, hand over to Hydra's own main; never returns.

    Args:
        config_name: The primary config.
        check: Finds out what is wrong with the composed config, by raising a `UserError`.
        task: Does the work; returns the exit code.
        prepare: See `compose`.

    Raises:
        SystemExit: Always. Code 2 after a `UserError`, 130 after a Ctrl-C that the task did not see to.
    """
    arguments = get_args_parser().parse_args()
    name = arguments.config_name or config_name
    front = arguments.config_dir or arguments.config_path
    exit_code = 0

    def job(config: DictConfig) -> None:
        nonlocal exit_code
        _mask_multirun()
        with _one_line(), targets.allowing(allowed):
            _check_trusted(config, allowed)
            exit_code = max(exit_code, task(config))

    allowed = targets.Allowed()
    with _one_line():
        asks_for_hydra = arguments.hydra_help or arguments.shell_completion
        if not asks_for_hydra:
            typed = list(arguments.overrides)
            again = partial(compose, name, config_dir=front, prepare=prepare)
            with _hydra_errors(name, typed, again):
                first = _first_job(typed) if arguments.multirun else typed
            config = again(first)
            with _hydra_errors(name, typed, again):
                allowed = targets.Allowed.typed(typed)
            if not (arguments.help or arguments.cfg or arguments.info):
                with targets.allowing(allowed):
                    check(config)
            with _hydra_errors(name, typed, again), hydra.initialize(config_path=None, version_base="1.3"):
                loader = GlobalHydra.instance().config_loader()
                ready = prepare(typed)
                ready = _leave_intervals(ready) if arguments.multirun else _leave_sweeps(ready, loader)
            flags = [argument for argument in sys.argv[1:] if argument not in typed]
            sys.argv[1:] = [*flags, *ready]
    with _one_line():
        try:
            hydra.main(config_path=None, config_name=name, version_base="1.3")(job)()
        except InterpolationResolutionError as error:
            said = str(error).splitlines()[0]
            raise UserError(str(error.full_key), said, "point the interpolation at what it can take") from error
    raise SystemExit(exit_code)


def _mask_multirun() -> None:
    """Leave secrets out of what Hydra writes of a multirun, which has the command line in it."""
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        file = Path(HydraConfig.get().sweep.dir, "multirun.yaml")
        if file.is_file():
            file.write_text(mask(file.read_text()))


@contextmanager
def _one_line() -> Iterator[None]:
    """End the process with one line and code 2 on a `UserError`, unless all is to be shown; with 130 on Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit(EXIT_CODES[signal.SIGINT]) from None
    except UserError as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            print(mask(traceback.format_exc()), end="", file=sys.stderr)
        print(f"error: {mask(str(error))}", file=sys.stderr)
        raise SystemExit(2) from None


def _put_in_front(config_dir: str | None, overrides: Sequence[str]) -> None:
    front: list[str] = []
    if config_dir is not None:
        if not Path(config_dir).is_dir():
            raise UserError("--config-dir", f"{config_dir} is no directory", "give the directory of your config files")
        front.append(f"file://{Path(config_dir).resolve()}")
    for override in overrides:
        if override.startswith("hydra.searchpath="):
            paths = OverridesParser.create().parse_override(override).value()
            front += [str(path) for path in paths] if isinstance(paths, list) else []
    _ConfSearchPath.in_front = tuple(front)


def _parse(overrides: Sequence[str]) -> list[Override]:
    return OverridesParser.create().parse_overrides(list(overrides))


def _first_job(overrides: list[str]) -> list[str]:
    """The overrides of the first search of a multirun."""
    first = []
    for override in _parse(overrides):
        if override.is_sweep_override() and not isinstance(override.value(), IntervalSweep):
            value = next(iter(override.sweep_string_iterator()))
            first.append(f"{override.get_key_element()}={value}")
        else:
            first.append(str(override.input_line))
    return first


def _leave_intervals(overrides: Sequence[str]) -> list[str]:
    """Turn what no multirun can list into texts: each of its searches searches it."""
    return [
        _as_text(override) if isinstance(override.value(), IntervalSweep) else str(override.input_line)
        for override in _parse(overrides)
    ]


def _as_text(sweep: Override) -> str:
    typed = str(sweep.input_line).split("=", 1)[1]
    value = sweep.value()
    if isinstance(value, ChoiceSweep) and value.simple_form:
        typed = f"choice({typed})"
    return f"{sweep.get_key_element()}={QuotedString(typed, Quote.single).with_quotes()}"


def _leave_sweeps(overrides: Sequence[str], loader: ConfigLoader) -> list[str]:
    """Turn sweeps of values into texts, and sweeps of groups into one option with a branch for each."""
    left: list[str] = []
    branches: dict[str, list[str]] = {}
    for override in _parse(overrides):
        group = override.key_or_group
        text = str(override.input_line)
        if not override.is_sweep_override():
            _check_option(override, loader)
            left.append(text)
        elif loader.get_group_options(group):
            options = _swept_options(override, loader)
            branches[group.replace("/", ".")] = options
            left.append(f"{override.get_key_element()}={_store_choice(group, options, loader)}")
        else:
            left.append(_as_text(override))
    return [each for text in left for each in _for_each_branch(text, branches)]


def _check_option(override: Override, loader: ConfigLoader) -> None:
    group = override.key_or_group
    if not group:
        raise UserError("command line", f"{override.input_line} is not understood", "write key=value")
    known = loader.get_group_options(group)
    if known and not override.is_delete() and not isinstance(override.value(), str | list | dict):
        value = override.get_value_string()
        raise UserError(group, f"no option {value}", nearest(value, known))


def _swept_options(override: Override, loader: ConfigLoader) -> list[str]:
    group = override.key_or_group
    if group in SETTINGS:
        raise UserError(
            group,
            f"{override.get_value_string()} is a choice",
            f"a search has one {group}; --multirun runs a search for each",
        )
    sweep = override.value()
    known = loader.get_group_options(group)
    if isinstance(sweep, Glob):
        options = sweep.filter(known)
    elif isinstance(sweep, ChoiceSweep):
        options = [element.text if isinstance(element, QuotedString) else str(element) for element in sweep.list]
    else:
        raise UserError(group, f"{override.get_value_string()} is a range", f"choose among {', '.join(known)}")
    for option in options:
        if option not in known:
            raise UserError(group, f"no option {option}", nearest(option, known))
    return options


def _store_choice(group: str, options: list[str], loader: ConfigLoader) -> str:
    """Make an option of a group that is a choice among others; its name is theirs, joined."""
    name = "+".join(options)
    with_space = set(loader.get_group_options(f"{group}/space"))
    defaults: list[str] = []
    for option in options:
        defaults.append(f"{option}@{option}")
        if option in with_space:
            defaults.append(f"space/{option}@{option}")
    ConfigStore.instance().store(
        group=group, name=name, node={"defaults": [*defaults, "_self_"], "only": options}, provider="autotune"
    )
    return name


def _for_each_branch(override: str, branches: Mapping[str, list[str]]) -> Iterator[str]:
    """``optimizer.lr=1`` beside ``optimizer=sgd,adam`` is meant for both."""
    key, _, value = override.partition("=")
    for group, names in branches.items():
        if key.startswith(f"{group}."):
            rest = key.removeprefix(f"{group}.")
            if rest.split(".")[0] not in (*names, "only"):
                yield from (f"{group}.{name}.{rest}={value}" for name in names)
                return
    yield override


@contextmanager
def _hydra_errors(config_name: str, overrides: list[str], again: Callable[[list[str]], DictConfig]) -> Iterator[None]:
    """Turn what Hydra and OmegaConf say of a mistake into one line with the remedy."""
    try:
        yield
    except MissingConfigException as error:
        raise _missing_option(error, config_name) from error
    except OverrideParseException as error:
        key = error.override.partition("=")[0]
        said = " ".join(error.message.split("\nSee http")[0].split()).removeprefix(
            f"Error parsing override '{error.override}' "
        )
        function = re.search(r"Unknown function '(\w+)' Available: ([\w,]+)", said)
        if function is not None:
            problem = f"{error.override.partition('=')[2]} calls {function[1]}, which is no search function"
            raise UserError(key, problem, nearest(function[1], function[2].split(","))) from error
        raise UserError(
            key or "command line", f"{error.override} is not understood ({said})", "write key=value"
        ) from error
    except (HydraException, OmegaConfBaseException) as error:
        raise _composition_error(error, overrides, again) from error


def _missing_option(error: MissingConfigException, config_name: str) -> UserError:
    missing = error.missing_cfg_file or ""
    if "/" not in missing:
        known = [path.stem for path in conf_dir().glob("*.yaml")]
        return UserError("--config-name", f"no config {missing or config_name}", nearest(missing, known))
    group, option = missing.rsplit("/", 1)
    return UserError(group.replace("/", "."), f"no option {option}", nearest(option, error.options or []))


def _composition_error(error: Exception, overrides: list[str], again: Callable[[list[str]], DictConfig]) -> UserError:
    message = str(error)
    cause = str(error.__cause__ or "")
    already = re.search(r"An item is already at '([^']+)'", message)
    if already is not None:
        return UserError(already[1], "is there already", f"leave out the +: {already[1]}=...")
    unknown = re.search(r"Could not (?:override|append|delete|find) '?([^\s']+?)'?\.?(?:\s|$)", message)
    if unknown is not None:
        return _unknown_key(unknown[1], message, cause, overrides, again)
    key = getattr(error.__cause__ or error, "full_key", None) or "config"
    said = " ".join(line.strip() for line in (message or cause).splitlines() if line.strip() and "full_key" not in line)
    return UserError(str(key), said, "see --cfg job for the composed config")


def _unknown_key(
    key: str, message: str, cause: str, overrides: list[str], again: Callable[[list[str]], DictConfig]
) -> UserError:
    if cause and "not in struct" not in cause:
        return UserError(key, " ".join(cause.split("full_key")[0].split()), "see --cfg job for the composed config")
    if "Multiple values" in message:
        return UserError(key, "is given twice", "give it once")
    others = [override for override in overrides if override.lstrip("+~").partition("=")[0] != key]
    if len(others) == len(overrides):
        return UserError(key, " ".join(message.split()), "see --cfg job for the composed config")
    config = again(others)
    parent, _, last = key.rpartition(".")
    section = OmegaConf.select(config, parent) if parent else config
    while parent and not isinstance(section, DictConfig):
        parent, _, last = parent.rpartition(".")
        section = OmegaConf.select(config, parent) if parent else config
    known = [str(name) for name in section if name != "hydra"]
    if "only" in known:
        known.remove("only")
        return UserError(
            key, f"{parent} is a choice among {', '.join(known)}", f"name the branch: {parent}.{known[0]}.{last}=..."
        )
    prefix = f"{parent}." if parent else ""
    remedy = nearest(f"{prefix}{last}", [f"{prefix}{name}" for name in known])
    return UserError(key, "there is no such key", f"{remedy}{'' if remedy.endswith('?') else f'; +{key}=... adds one'}")


def plain(config: DictConfig) -> dict[str, Any]:
    """A composed config without Hydra's section, as plain containers, interpolations and search values left in."""
    container = OmegaConf.to_container(config, resolve=False)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items() if key != "hydra"}


def section(config: DictConfig, key: str) -> dict[str, Any]:
    """A section of a composed config as plain values, interpolations resolved.

    Raises:
        UserError: There is no such section, or a value in it is missing or leads nowhere.
    """
    check_sections(config, [key])
    content = setting(config, key)
    assert isinstance(content, dict)
    return {str(name): value for name, value in content.items()}


def setting(config: DictConfig, key: str) -> Any:
    """A value of a composed config as plain values; None where there is none.

    Raises:
        UserError: It, or a value in it, is missing or leads nowhere.
    """
    try:
        value = config.get(key)
        return (
            OmegaConf.to_container(value, resolve=True, throw_on_missing=True) if OmegaConf.is_config(value) else value
        )
    except MissingMandatoryValue as error:
        raise UserError(str(error.full_key), "a value is missing", f"give it: {error.full_key}=...") from error
    except OmegaConfBaseException as error:
        said = str(error).splitlines()[0]
        raise UserError(str(error.full_key or key), said, "point the interpolation at a key that exists") from error


def check_sections(config: DictConfig, keys: Iterable[str]) -> None:
    """Find out whether a composed config has sections, whatever is in them.

    Raises:
        UserError: One is missing, or is no section.
    """
    for key in keys:
        value = config._get_node(key) if key in config else None
        if not isinstance(value, DictConfig):
            problem = "is missing" if value is None else f"{value} is no section"
            raise UserError(key, problem, f"leave it as it is, and give single values: {key}.<name>=...")
