"""From a command line to a composed config: Hydra, with sweeps left in the config for the study to search.

Hydra itself takes ``key=a,b`` for a request for ``--multirun``. So before Hydra sees the command line, sweeps of values
are quoted, which makes them ordinary texts that `autotune.space` reads, and sweeps of config groups are replaced by one
option that holds them all as branches of a choice.
"""

from __future__ import annotations

import os
import re
import sys
import traceback
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

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
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, MissingMandatoryValue, OmegaConfBaseException

from autotune import known_keys
from autotune.claims import claim, named_by_clock
from autotune.disk import disk_errors_said, file_errors_said, stdout_errors_said
from autotune.errors import UserError, first_line, nearest
from autotune.imports import leave_unswept
from autotune.interrupts import exit_code as exit_code_of
from autotune.interrupts import undone_first
from autotune.settings import check_folder, discard_empty, folder_name
from autotune.space import EXAMPLE, SETTINGS
from autotune.trust import addresses, targets
from autotune.trust.config_files import ConfigFiles, check_resolvers, conf_dir
from autotune.trust.masking import mask
from autotune.typed import FLAG, as_typed, repeated
from autotune.typed import override as typed_override

ORIGIN = "origin"  # the group and the section of what ``from=`` brings

Prepare = Callable[[list[str]], list[str]]

LONGEST = 50_000  # characters of an override
DEEPEST = 30  # lists, sections and calls inside one another
DIGITS = 1000  # of a number
KEY = 100  # characters of a key, where it is no key


class _ConfSearchPath(SearchPathPlugin):
    """Puts the user's config directories in front of the shipped one, so that a user's file wins over ours."""

    in_front: tuple[tuple[str, str], ...] = ()

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for provider, path in self.in_front:
            search_path.append(provider, path)
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
    config_name: str,
    overrides: Sequence[str],
    config_dir: str | None = None,
    prepare: Prepare = list,
    command: str | None = None,
) -> DictConfig:
    """Compose a config as the commands do, Hydra's own section included.

    Args:
        config_name: ``search`` or ``train``.
        overrides: As typed; sweeps and choices of groups included.
        config_dir: A directory of the user's that goes in front of the shipped one.
        prepare: What else turns the overrides as typed into Hydra's, before all else.
        command: Whose config it is, where a file of another name was asked for.

    Raises:
        UserError: Whatever is wrong with the overrides or the files.
    """
    _check_size(overrides)
    _put_in_front(config_dir, overrides)
    command = command or config_name
    again = partial(compose, config_name, config_dir=config_dir, prepare=prepare, command=command)
    with _hydra_errors(config_name, list(overrides), again), hydra.initialize(config_path=None, version_base="1.3"):
        allowed = targets.Allowed.typed(overrides)
        loader = GlobalHydra.instance().config_loader()
        ready = prepare(as_typed(overrides))
        config = hydra.compose(config_name, overrides=_leave_sweeps(ready, loader), return_hydra_config=True)
        _expand_home(config)
        _check_trusted(config, allowed)
        known_keys.check(command, plain(config), _brought(ready))
        _check_branches(config, loader)
    targets.remember(config, allowed)
    return config


def _expand_home(config: DictConfig) -> None:
    """Have ``~`` in a home that a file says mean the home directory."""
    home = plain(OmegaConf.masked_copy(config, "home")).get("home")
    if isinstance(home, str) and home.startswith("~"):
        config.home = str(Path(home).expanduser())


def _brought(ready: Sequence[str]) -> Sequence[str]:
    """Keys at the top of a config that an option of the group ``origin`` brings, or values of it that are added."""
    brought: list[str] = []
    for override in _parse(ready):
        if override.key_or_group.startswith(f"{ORIGIN}.") and override.is_add():
            brought.append(ORIGIN)
        if override.key_or_group == ORIGIN and override.is_add():
            brought += ConfigStore.instance().load(f"{ORIGIN}/{override.value()}.yaml").node
    return brought


def _check_branches(config: DictConfig, loader: ConfigLoader) -> None:
    """Say which option of a group has a branch that the chosen one has not. Raises UserError."""
    for group, content in plain(config).items():
        if not isinstance(content, dict) or "only" not in content:
            continue
        only = content["only"]
        for branch in re.findall(r"[\w-]+", only) if isinstance(only, str) else only or []:
            if branch in content or branch == "choice":
                continue
            options = loader.get_group_options(group)
            having = [option for option in options if branch in _branches(f"{group}/{option}", loader)]
            if having:
                raise UserError(f"{group}.only", f"no branch {branch}", f"{group}={' or '.join(having)} has it")


def _branches(option: str, loader: ConfigLoader) -> Sequence[Any]:
    """The branches that an option of a group says it has."""
    found = loader.repository.load_config(option)  # type: ignore[attr-defined]
    only = found.config.get("only") if found is not None and isinstance(found.config, DictConfig) else None
    return list(only) if isinstance(only, ListConfig) else []


def _check_trusted(config: DictConfig, allowed: targets.Allowed) -> None:
    """Refuse what a composed config may only hold where the user typed it. Raises UserError."""
    check_resolvers(plain(config))
    addresses.check(config, allowed.addresses, ConfigFiles.held)
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
    leave_unswept()
    with _one_line():
        arguments = _arguments()
    name = arguments.config_name or config_name
    front = arguments.config_dir or arguments.config_path
    exit_code = 0

    def job(config: DictConfig) -> None:
        nonlocal exit_code
        _mask_multirun()
        with _one_line(), file_errors_said(home), stdout_errors_said(), targets.allowing(allowed):
            _check_trusted(config, allowed)
            exit_code = max(exit_code, task(config))

    allowed, home, folder = targets.Allowed(), Path(), None
    pinned: list[str] = []
    with _one_line(), file_errors_said(home), stdout_errors_said():
        asks_for_hydra = arguments.hydra_help or arguments.shell_completion
        if not asks_for_hydra:
            typed = list(arguments.overrides)
            _check_size(typed)
            again = partial(compose, name, config_dir=front, prepare=prepare, command=config_name)
            with _hydra_errors(name, typed, again):
                first = _first_job(typed) if arguments.multirun else typed
                _check_names(typed)
            config = again(first)
            with _hydra_errors(name, typed, again):
                allowed = targets.Allowed.typed(typed)
            if not (arguments.help or arguments.cfg or arguments.info):
                with targets.allowing(allowed):
                    check(config)
                home = Path(str(setting(config, "home") or ""))
                _check_hydras_folder(config, arguments.multirun)
            with _hydra_errors(name, typed, again), hydra.initialize(config_path=None, version_base="1.3"):
                loader = GlobalHydra.instance().config_loader()
                ready = prepare(as_typed(typed))
                ready = _leave_intervals(ready) if arguments.multirun else _leave_sweeps(ready, loader)
            if not (arguments.help or arguments.cfg or arguments.info):
                with disk_errors_said(home):
                    pinned = _pinned(config, home, arguments.multirun)
                folder = None if arguments.multirun else Path(setting(config.hydra, "run")["dir"])
            flags = [argument for argument in sys.argv[1:] if argument not in typed]
            sys.argv[1:] = [*flags, *ready, *pinned]
    undone = nullcontext() if folder is None else undone_first(partial(discard_empty, folder, home))
    with _one_line(), disk_errors_said(home), stdout_errors_said(), undone:
        try:
            if folder is not None:  # Hydra makes it too, and would tell by a traceback where it cannot
                folder.mkdir(parents=True, exist_ok=True)
            hydra.main(config_path=None, config_name=name, version_base="1.3")(job)()
        except InterpolationResolutionError as error:
            said = str(error).splitlines()[0]
            raise UserError(str(error.full_key), said, "point the interpolation at what it can take") from error
    raise SystemExit(exit_code)


def _arguments() -> Namespace:
    """What is typed, flags and overrides in any order."""
    parser = get_args_parser()

    def refuse(message: str) -> NoReturn:
        raise UserError("command line", message, "see --help")

    parser.error = refuse  # type: ignore[method-assign]
    return parser.parse_intermixed_args()


def _check_names(overrides: Sequence[str]) -> None:
    """Refuse names of the later searches of a multirun too, before the first begins. Raises UserError."""
    for override in _parse(overrides):
        is_listed = override.is_sweep_override() and not isinstance(override.value(), IntervalSweep)
        if is_listed and override.key_or_group in ("study.name", "train.name"):
            for name in override.sweep_string_iterator():
                folder_name(override.key_or_group, name.strip("'\""))


def _pinned(config: DictConfig, home: Path, is_multirun: bool) -> list[str]:
    """Overrides that keep a name that the clock is part of, and that is claimed: Hydra composes again, maybe later."""
    pinned = [typed_override("home", str(home))] if home != Path("mlruns") else []
    for key, parent in (("study", "studies"), ("train", "trained")):
        if named_by_clock(config, key, alone=is_multirun):
            wanted = home / parent / setting(config, key)["name"]
            if is_multirun:  # whose searches are told apart by their numbers, so that the first stands for all
                pinned.append(f"{key}.name='{claim(wanted, '-0')}${{job_suffix:}}'")
            else:
                config[key].name = claim(wanted)
                pinned.append(f"{key}.name='{config[key].name}'")
    return pinned


def _check_hydras_folder(config: DictConfig, is_multirun: bool) -> None:
    """Refuse a folder that Hydra could not make, which it would tell by a traceback. Raises UserError."""
    key = "sweep" if is_multirun else "run"
    folder = str(setting(config.hydra, key)["dir"])
    with suppress(OSError):
        if Path(folder).is_dir():
            return
    check_folder(f"hydra.{key}.dir", folder)


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
    except KeyboardInterrupt as interrupt:
        raise SystemExit(exit_code_of(interrupt)) from None
    except UserError as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            print(mask(traceback.format_exc()), end="", file=sys.stderr)
        print(f"error: {mask(str(error))}", file=sys.stderr)
        raise SystemExit(2) from None


def _check_size(overrides: Sequence[str]) -> None:
    """Refuse what would take Hydra long to read. Raises UserError."""
    for override in overrides:
        key = override.partition("=")[0][:KEY] or "command line"
        if len(override) > LONGEST:
            raise UserError(key, f"has {len(override)} characters", f"an override has at most {LONGEST}")
        if re.search(rf"\d{{{DIGITS}}}", override):
            raise UserError(key, f"has a number of more than {DIGITS} digits", "give a smaller one")
        depth = 0
        for sign in override:
            depth += (sign in "([{") - (sign in ")]}")
            if depth > DEEPEST:
                raise UserError(key, f"is nested more than {DEEPEST} levels deep", "write fewer levels")


def _put_in_front(config_dir: str | None, overrides: Sequence[str]) -> None:
    front: list[tuple[str, str]] = []
    if config_dir is not None:
        if not Path(config_dir).is_dir():
            raise UserError("--config-dir", f"{config_dir} is no directory", "give the directory of your config files")
        front.append((FLAG, f"file://{Path(config_dir).resolve()}"))
    for override in overrides:
        if override.startswith("hydra.searchpath="):
            paths = OverridesParser.create().parse_override(override).value()
            front += [("user", str(path)) for path in paths] if isinstance(paths, list) else []
    _ConfSearchPath.in_front = tuple(front)
    ConfigFiles.held.clear()


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
    if known and not override.is_delete() and not isinstance(override.value(), str | list):
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
    if not options:
        raise UserError(group, f"{override.get_value_string()} matches no option", f"known are {', '.join(known)}")
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
        evaluated = re.match(r"\w+ while evaluating '(.*)': (.*)", said)
        if evaluated is not None:
            raise UserError(key, f"{evaluated[1]} is no value ({evaluated[2]})", EXAMPLE) from error
        if "LexerNoViableAlt" in said:
            raise UserError(
                key, f"{error.override} has a character that means nothing there", f"quote the value: {key}=\"'...'\""
            ) from error
        raise UserError(
            key or "command line", f"{error.override} is not understood ({said})", "write key=value"
        ) from error
    except (HydraException, OmegaConfBaseException) as error:
        raise _composition_error(config_name, error, overrides, again) from error
    except RecursionError as error:
        raise UserError("config", "is nested too deeply", "write fewer levels") from error
    except ValueError as error:  # of a number with more digits than Python reads
        raise UserError("command line", f"is not understood ({first_line(error)})", "write key=value") from error


def _missing_option(error: MissingConfigException, config_name: str) -> UserError:
    missing = error.missing_cfg_file or ""
    if "/" not in missing:
        known = [path.stem for path in conf_dir().glob("*.yaml")]
        return UserError("--config-name", f"no config {missing or config_name}", nearest(missing, known))
    group, option = missing.rsplit("/", 1)
    return UserError(group.replace("/", "."), f"no option {option}", nearest(option, error.options or []))


def _composition_error(
    config_name: str, error: Exception, overrides: list[str], again: Callable[[list[str]], DictConfig]
) -> UserError:
    message = str(error)
    cause = str(error.__cause__ or "")
    already = re.search(r"An item is already at '([^']+)'", message)
    if already is not None:
        return UserError(already[1], "is there already", f"leave out the +: {already[1]}=...")
    if message.startswith("Error merging override"):
        key, _, value = message.partition("override ")[2].partition("=")
        key = key.lstrip("+")
        said = (cause or message).splitlines()[0]
        remedy = f"give single values: {key}.<name>=..."
        if "type annotation" in cause:  # of a sweep within a list or a mapping
            said, remedy = "a search value inside it", f"quote that: {key}=['interval(0,1)',...]"
        elif "${" in value:
            remedy = "write ${key}"
        return UserError(key, f"{value} does not fit there ({said})", remedy)
    unknown = re.search(r"Could not (?:override|append|delete|find) '?([^\s']+?)'?\.?(?:\s|$)", message)
    if unknown is not None:
        return _unknown_key(config_name, unknown[1], message, cause, overrides, again)
    key = getattr(error.__cause__ or error, "full_key", None) or "config"
    said = " ".join(line.strip() for line in (message or cause).splitlines() if line.strip() and "full_key" not in line)
    return UserError(str(key), said, "see --cfg job for the composed config")


def _unknown_key(
    config_name: str,
    key: str,
    message: str,
    cause: str,
    overrides: list[str],
    again: Callable[[list[str]], DictConfig],
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
    remedy = known_keys.remedy(parent, last, known)
    adds = "" if remedy.endswith("?") or known_keys.is_whole(config_name, parent) else f"; +{key}=... adds one"
    return UserError(key, "there is no such key", f"{remedy}{adds}")


def plain(config: DictConfig) -> dict[str, Any]:
    """A composed config without Hydra's section, as plain containers, interpolations and search values left in."""
    container = OmegaConf.to_container(config, resolve=False)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items() if key != "hydra"}


def typed_again(config: DictConfig) -> list[str]:
    """What a final training has to be told again of what was typed for a composed search."""
    hydras = config.get("hydra") or (HydraConfig.get() if HydraConfig.initialized() else None)
    if hydras is None:
        return []
    sources = [Path(each.path) for each in hydras.runtime.config_sources if each.provider == FLAG]
    folders = [path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path for path in sources]
    flags = [FLAG, str(folders[0])] if folders else []
    overrides = [str(each) for each in (*hydras.overrides.hydra, *hydras.overrides.task)]
    return repeated(flags, overrides, targets.further(overrides))


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
