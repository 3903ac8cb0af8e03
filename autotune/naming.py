"""Short words for strategies and costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

OWN = "own"  # the optimizer that a module brings itself
MOST_VALUES = 5  # searched values that a name has
LONGEST = 20  # characters of one


def family(config: Mapping[str, Any]) -> str:
    """The name of a resolved config's optimizer."""
    return _option(config["optimizer"])


def schedule(config: Mapping[str, Any]) -> str:
    """The name of a resolved config's learning-rate schedule."""
    return _option(config["schedule"])


def strategy(config: Mapping[str, Any], params: Mapping[str, Any] | None = None) -> str:
    """A resolved config in a few words: ``adam lr 3e-3 b128 bn cosine``; what it does not say is left out.

    Args:
        config: The resolved config.
        params: The values that were searched. Those of a module that brings its own optimizer tell its trials apart:
            ``lr 3e-3 width 64 b128``.
    """
    if family(config) == OWN:
        return " ".join(_own(config, params or {}))
    words = [family(config)]
    rate = config["optimizer"].get("lr")
    if isinstance(rate, int | float):
        words.append(f"lr {short(rate)}")
    batch = config["data"].get("batch_size")
    if batch is not None:
        words.append("full batch" if batch == "full" else f"b{batch}")
    if config["model"].get("batch_norm"):
        words.append("bn")
    words.append(schedule(config))
    return " ".join(words)


def trial(number: int, config: Mapping[str, Any], params: Mapping[str, Any]) -> str:
    """The name of a trial: ``t0007 adam lr 3e-3 b128 bn cosine``."""
    return f"t{number:04d} {strategy(config, params)}"


def confirmation(number: int, seed: int, config: Mapping[str, Any], params: Mapping[str, Any]) -> str:
    """The name of a trial's config trained again with another seed: ``t0007 seed 3 adam lr 3e-3 b128 bn cosine``."""
    return f"t{number:04d} seed {seed} {strategy(config, params)}"


def short(value: float) -> str:
    """A rate with two digits at most: 3e-3, 0.1, 1.5e-4."""
    if 0.01 <= abs(value) < 100:
        return f"{value:.2g}"
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def cost(key: str, value: float) -> str:
    """A cost with its unit: 3.2 ms, 27 kB, 6,666 parameters. A latency is in ms, as MLflow shows it."""
    if "latency" in key:
        return f"{1000 * value:.3g} ms" if value < 1 else f"{1000 * value:.0f} ms"
    if key.endswith("_seconds"):
        return f"{value:.3g} s" if value >= 1 else f"{1000 * value:.3g} ms"
    if key.endswith("_bytes"):
        for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
            if value >= factor:
                return f"{value / factor:.3g} {unit}"
        return f"{value:.0f} bytes"
    return f"{value:,.0f}"


def _own(config: Mapping[str, Any], params: Mapping[str, Any]) -> Iterator[str]:
    """The searched values of a module that brings its own optimizer, each behind the last part of its name."""
    said = {"optimizer", "schedule", "data.batch_size"}
    shown = {name: value for name, value in params.items() if name not in said}
    yield from (f"{name.rpartition('.')[2]} {_brief(value)}" for name, value in list(shown.items())[:MOST_VALUES])
    batch = config["data"].get("batch_size")
    if batch is not None:
        yield f"b{batch}"
    if not shown:
        yield _option(config["model"])


def _brief(value: Any) -> str:
    text = short(value) if isinstance(value, float) and value else str(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _option(section: Mapping[str, Any]) -> str:
    target = str(section.get("_target_", "unnamed")).rpartition(".")[2]
    return str(section.get("name") or target.lower())
