"""One search value: Hydra's sweep grammar, or a mapping of type and bounds, as an Optuna distribution."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    Glob,
    IntervalSweep,
    QuotedString,
    RangeSweep,
    Sweep,
)
from hydra.errors import HydraException
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from autotune.errors import UserError, nearest
from autotune.settings import LARGEST

_FUNCTIONS = ("choice", "range", "interval", "tag", "int", "float", "str", "bool", "sort", "shuffle", "glob")
_CALL = re.compile(r"\s*([A-Za-z_]\w*)\s*\(.*\)\s*", re.DOTALL)
_NUMBER = re.compile(r"[-+]?(\d[\d_]*\.?\d*|\.\d+)([eE][-+]?\d+)?|true|false|null", re.IGNORECASE)
_MAPPING_KEYS = {"type", "low", "high", "log", "step", "choices"}
_MAPPING_TYPES = ("float", "int", "categorical")
# Whole numbers up to here are told apart as floats, which samplers count in.
LARGEST_WHOLE = 2**53
MOST_STEPS = 100_000  # of a range of fractions
LONGEST = 10_000  # characters of a search value

_OFF_STEP = 1e-8  # parts of a step, as Optuna counts

_BARE_NONE = re.compile(r"""(?<![\w'"])None(?![\w'"])""")
EXAMPLE = "write choice(a,b), range(1,10,2), interval(0,1), int(interval(1,9)) or tag(log,interval(1e-4,1))"


@dataclass(frozen=True, slots=True)
class SearchValue:
    """A value that a trial is given by the sampler.

    Attributes:
        distribution: What the sampler draws from.
        choices: For a categorical distribution, what each of its labels stands for. Optuna's labels are scalars; lists
            and mappings are labelled by their JSON.
    """

    distribution: BaseDistribution
    choices: Mapping[Any, Any] | None = None

    def value(self, sampled: Any) -> Any:
        """The config's value for what the sampler drew."""
        return sampled if self.choices is None else self.choices[sampled]

    def label(self, value: Any) -> tuple[Any] | None:
        """What the sampler would have drawn for a config value, as a 1-tuple; None where it never draws it."""
        if self.misfit(value) is not None:
            return None
        if self.choices is not None:
            return next((label,) for label, choice in self.choices.items() if _is_same(choice, value))
        return (int(value) if isinstance(self.distribution, IntDistribution) else float(value),)

    def misfit(self, value: Any) -> str | None:
        """Why the sampler never draws a config value, in a few words; None where it may."""
        match self.distribution:
            case FloatDistribution(low=low, high=high, step=step) | IntDistribution(low=low, high=high, step=step):
                if isinstance(value, bool) or not isinstance(value, int | float):
                    return f"is no number of {self.words}"
                if not low <= value <= high:
                    return f"lies outside {self.words}"
                if isinstance(self.distribution, IntDistribution) and not float(value).is_integer():
                    return f"is no whole number of {self.words}"
                steps = 0.0 if step is None else (value - low) / step
                return None if abs(steps - round(steps)) < _OFF_STEP else f"is off the step of {self.words}"
        assert self.choices is not None
        return None if any(_is_same(each, value) for each in self.choices.values()) else f"is not among {self.words}"

    @property
    def words(self) -> str:
        """The search value as it would be typed."""
        return as_grammar(self.distribution)

    def options(self) -> Sequence[Any] | None:
        """Every value the sampler can draw, or None where they cannot be counted."""
        match self.distribution:
            case CategoricalDistribution(choices=choices):
                return choices
            case IntDistribution(low=low, high=high, step=step):
                return range(low, high + 1, step)
            case FloatDistribution(low=low, high=high, step=step):
                if low == high:
                    return (low,)
                return (
                    None
                    if step is None
                    else [
                        float(Decimal(str(low)) + i * Decimal(str(step))) for i in range(round((high - low) / step) + 1)
                    ]
                )
        return None

    def extremes(self) -> Iterator[Any]:
        """The config values at the ends of a range, or all choices: if a rule holds there, it holds in between."""
        if self.choices is not None:
            yield from self.choices.values()
        elif isinstance(self.distribution, FloatDistribution | IntDistribution):
            yield self.distribution.low
            yield self.distribution.high


def _is_same(choice: Any, value: Any) -> bool:
    return bool(choice == value) and isinstance(choice, bool) == isinstance(value, bool)


def parse(key: str, value: Any) -> SearchValue | None:
    """Read a config value as a search value; None where it is an ordinary value.

    A text is a search value when it calls one of Hydra's sweep functions, or is a comma list as on Hydra's command line
    (numbers, or words without white space). Quotes inside the text make it an ordinary one: ``"'a,b'"``.

    Raises:
        UserError: It is meant as a search value and is wrong.
    """
    if isinstance(value, str):
        return _parse_text(key, value)
    if isinstance(value, Mapping) and "type" in value and ("choices" in value or {"low", "high"} & set(value)):
        return _parse_mapping(key, value)
    return None


def _parse_text(key: str, text: str) -> SearchValue | None:
    call = _CALL.fullmatch(text)
    if call is None:
        return _parse_comma_list(key, text)
    if call[1] not in _FUNCTIONS:
        remedy = nearest(call[1], _FUNCTIONS)
        if remedy.startswith("did you mean"):
            raise UserError(key, f"{text} calls {call[1]}, which is no search function", remedy)
        return None
    if len(text) > LONGEST:
        raise UserError(key, f"{text[:20]}... has {len(text)} characters", f"a search value has at most {LONGEST}")
    sweep = _hydra_value(key, text)
    return _from_sweep(key, text, sweep) if isinstance(sweep, Sweep) else None


def _parse_comma_list(key: str, text: str) -> SearchValue | None:
    if "," not in text or "${" in text:
        return None
    parts = [part.strip() for part in text.split(",")]
    numbers = all(_NUMBER.fullmatch(part) for part in parts)
    if not numbers and (re.search(r"\s", text) or not all(re.fullmatch(r"[\w.+-]+", part) for part in parts)):
        return None
    if len(text) > LONGEST:
        raise UserError(key, f"{text[:20]}... has {len(text)} characters", f"a search value has at most {LONGEST}")
    return _from_sweep(key, text, _hydra_value(key, f"choice({text})"))


def _hydra_value(key: str, text: str) -> Any:
    # Hydra's choice() refuses null, which its comma list allows; both mean the same.
    inner = re.fullmatch(r"\s*choice\s*\((.*\bnull\b.*,.*|.*,.*\bnull\b.*)\)\s*", text, re.DOTALL)
    try:
        return OverridesParser.create().parse_override(f"key={inner[1] if inner else text}").value()
    except (HydraException, TypeError, ValueError, AttributeError) as error:
        raise UserError(key, f"{text} is no search value ({_reason(error)})", EXAMPLE) from error


def _reason(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or ["not understood"]
    said = lines[-1] if lines[0].startswith("Error parsing") else lines[0]
    return said.split(": ", 1)[-1].strip() if "NoneType" not in said else "tag takes a range or an interval"


def _from_sweep(key: str, text: str, sweep: Any) -> SearchValue:
    tags = {str(tag) for tag in sweep.tags}
    for tag in tags - {"log"}:
        raise UserError(key, f"{text} has the tag {tag}", f"{nearest(tag, ['log'])}; log is the only tag")
    log = "log" in tags
    match sweep:
        case ChoiceSweep():
            if log:
                raise UserError(
                    key, f"{text} puts the tag log on a choice", "log goes with interval: tag(log,interval(1e-4,1))"
                )
            _check_null(key, text, sweep.list, is_bare=_BARE_NONE.search(text) is not None)
            return choice(key, text, [_plain(element) for element in sweep.list])
        case IntervalSweep():
            return interval(key, text, sweep.start, sweep.end, log=log)
        case RangeSweep():
            if log:
                raise UserError(key, f"{text} puts the tag log on a range", "write tag(log,int(interval(low,high)))")
            return stepped(key, text, sweep.start, sweep.stop, sweep.step)
    raise UserError(key, f"{text} is no search value here", EXAMPLE)


def _plain(element: Any) -> Any:
    match element:
        case QuotedString():
            return element.text
        case list():
            return [_plain(item) for item in element]
        case dict():
            return {_plain(name): _plain(item) for name, item in element.items()}
        case Sweep() | Glob():
            return element
    return element


def choice(key: str, text: str, values: Sequence[Any]) -> SearchValue:
    """A choice among values of any kind, refused where it is empty, repeats itself or nests another search value."""
    if not values:
        raise UserError(key, f"{text} has nothing to choose from", "write at least one value: choice(a,b)")
    choices: dict[Any, Any] = {}
    for value in values:
        if isinstance(value, Sweep | Glob):
            raise UserError(key, f"{text} has a search value inside a choice", "choose among plain values")
        scalar = value is None or isinstance(value, bool | int | float | str)
        if isinstance(value, int | float) and not abs(value) <= LARGEST:
            raise UserError(key, f"{text} has {value}", "choose among finite numbers")
        label = value if scalar else json.dumps(value, separators=(",", ":"))
        # Optuna finds a choice by equality, so 1, 1.0 and true are one and the same to it.
        if label in choices:
            raise UserError(key, f"{text} has {value!r} twice", "name each value once")
        choices[label] = value
    return SearchValue(CategoricalDistribution(tuple(choices)), choices)


def interval(key: str, text: str, low: Any, high: Any, *, log: bool) -> SearchValue:
    """All numbers from low to high, whole ones where both ends were cast to int."""
    _check_bounds(key, text, low, high)
    if log and low <= 0:
        raise UserError(key, f"{text} is logarithmic from {low}", "a logarithmic range begins above 0")
    if not log and not float(high) - float(low) < math.inf:
        raise UserError(key, f"{text} is wider than any number", "write closer bounds")
    if isinstance(low, int) and isinstance(high, int):
        return SearchValue(IntDistribution(low, high, log=log))
    return SearchValue(FloatDistribution(float(low), float(high), log=log))


def stepped(key: str, text: str, start: Any, stop: Any, step: Any) -> SearchValue:
    """From start by steps up to, and without, stop: Hydra's and Python's range."""
    for number in (start, stop, step):
        _check_number(key, text, number)
    if step == 0:
        raise UserError(key, f"{text} has a step of 0", "write a step above 0")
    _check_width(key, text, start, stop, step)
    is_whole = all(isinstance(number, int) for number in (start, stop, step))
    if not is_whole:
        _check_steps(key, text, start, stop, step)
    # In decimals, as Hydra counts: (1 - 0) / 0.1 must be 10, whatever binary fractions make of it.
    first, end, by = (Decimal(str(number)) for number in (start, stop, step))
    count = math.ceil((end - first) / by)
    if count <= 0:
        raise UserError(
            key, f"{text} is empty", f"range(start,stop,step) stops before stop: write range({stop},{start},{step})"
        )
    last = first + (count - 1) * by
    low, high = min(first, last), max(first, last)
    if is_whole:
        return SearchValue(IntDistribution(int(low), int(high), step=abs(step)))
    return SearchValue(FloatDistribution(float(low), float(high), step=abs(float(step))))


def _check_null(key: str, text: str, values: Sequence[Any], *, is_bare: bool) -> None:
    """Refuse Python's word for no value, which would be a text of four letters; quoted it is meant."""
    if is_bare and "None" in values:
        raise UserError(key, f"{text} has the text None", "write null for no value, or choice('None',...) for the text")


def _check_width(key: str, text: str, low: Any, high: Any, step: Any) -> None:
    if low != high and abs(Decimal(str(high)) - Decimal(str(low))) < abs(Decimal(str(step))):
        raise UserError(key, f"{text} has a step wider than its range, so it means {low} alone", "give a smaller step")


def _check_steps(key: str, text: str, low: Any, high: Any, step: Any) -> None:
    if abs(float(high) - float(low)) > MOST_STEPS * abs(step):
        raise UserError(key, f"{text} has more than {MOST_STEPS} steps", "write a range without steps: interval(0,1)")


def _check_number(key: str, text: str, number: Any) -> None:
    if isinstance(number, bool) or not isinstance(number, int | float) or not abs(number) < math.inf:
        raise UserError(key, f"{text} has the bound {number}", "bounds are finite numbers")
    if isinstance(number, int) and abs(number) > LARGEST_WHOLE:
        raise UserError(key, f"{text} has the bound {number}", f"whole bounds lie within {LARGEST_WHOLE} of 0")


def _check_bounds(key: str, text: str, low: Any, high: Any) -> None:
    _check_number(key, text, low)
    _check_number(key, text, high)
    if low > high:
        raise UserError(key, f"{text} begins above its end", f"write the lower bound first: {high}, {low}")


def _parse_mapping(key: str, value: Mapping[str, Any]) -> SearchValue | None:
    if set(value) - _MAPPING_KEYS and value["type"] not in _MAPPING_TYPES:
        return None  # an ordinary mapping that happens to have a type
    text = "{" + ", ".join(f"{name}: {item}" for name, item in value.items()) + "}"
    for name in set(value) - _MAPPING_KEYS:
        raise UserError(f"{key}.{name}", f"{text} has the key {name}", nearest(name, _MAPPING_KEYS))
    kind = value["type"]
    if kind not in _MAPPING_TYPES:
        raise UserError(f"{key}.type", f"{kind} is no type of search value", nearest(str(kind), _MAPPING_TYPES))
    if kind == "categorical" or "choices" in value:
        if kind != "categorical" or not isinstance(value.get("choices"), list):
            raise UserError(key, f"{text} is no choice", "write {type: categorical, choices: [a, b]}")
        for each in value["choices"]:
            call = _CALL.fullmatch(each) if isinstance(each, str) else None
            if call is not None and call[1] in _FUNCTIONS:
                raise UserError(
                    key, f"{text} has a search value inside a choice", f"quote it in a call: choice('{each}',...)"
                )
        _check_null(key, text, value["choices"], is_bare=True)  # YAML keeps no quotes
        return choice(key, text, value["choices"])
    if "low" not in value or "high" not in value:
        raise UserError(key, f"{text} lacks a bound", f"write {{type: {kind}, low: 1, high: 9}}")
    low, high, step, log = value["low"], value["high"], value.get("step"), value.get("log", False)
    if not isinstance(log, bool):
        raise UserError(f"{key}.log", f"{log} is neither true nor false", "write log: true or log: false")
    _check_bounds(key, text, low, high)
    if kind == "int":
        if not all(float(bound).is_integer() for bound in (low, high)):
            raise UserError(key, f"{text} is of type int", "write whole bounds, or type: float")
        low, high = int(low), int(high)
    if step is None:
        return interval(key, text, *((low, high) if kind == "int" else (float(low), float(high))), log=log)
    _check_number(key, text, step)
    if log or step <= 0 or (kind == "int" and not float(step).is_integer()):
        raise UserError(
            f"{key}.step", f"{text} has the step {step}", "a step is above 0, whole for int, and not with log"
        )
    _check_width(f"{key}.step", text, low, high, step)
    if kind == "int":
        _check_bounds(key, text, low, high)
        step = int(step)
        return SearchValue(IntDistribution(low, low + (high - low) // step * step, step=step))
    _check_steps(key, text, low, high, step)
    first, by = Decimal(str(low)), Decimal(str(step))
    last = first + (Decimal(str(high)) - first) // by * by
    return SearchValue(FloatDistribution(float(first), float(last), step=float(by)))


def as_grammar(distribution: BaseDistribution) -> str:
    """A distribution as it would be typed."""
    match distribution:
        case CategoricalDistribution(choices=choices):
            return f"choice({', '.join(each if isinstance(each, str) else json.dumps(each) for each in choices)})"
        case FloatDistribution(low=low, high=high, step=None, log=log):
            text = f"interval({_short(low)}, {_short(high)})"
            return f"tag(log, {text})" if log else text
        case IntDistribution(low=low, high=high, step=1, log=log):
            text = f"int(interval({low}, {high}))"
            return f"tag(log, {text})" if log else text
        case FloatDistribution() | IntDistribution():
            by = distribution.step or 1
            stop = Decimal(str(distribution.high)) + Decimal(str(by))
            return f"range({_short(distribution.low)}, {_short(float(stop))}, {_short(by)})"
    raise TypeError(f"the grammar has no {distribution}")


def _short(value: float) -> str:
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else repr(value)
