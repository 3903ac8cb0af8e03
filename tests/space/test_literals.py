"""What a trial was given is trained as it is, whatever it looks like."""

from __future__ import annotations

from typing import Any

from hydra.core.override_parser.types import Quote, QuotedString
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from autotune.space import LITERAL, Space, literals
from autotune.trust import resolved_yaml

LOOKS = st.sampled_from(
    [
        *(
            "a,b",
            "relu,relu",
            "1,2",
            "interval(0,1)",
            "choice(a,b)",
            "rnage(1,2)",
            "[1,2]",
            "{a: 1}",
            "",
            "null",
            "true",
        ),
        *("it's", '"', "'a,b'", "é,ü", " a , b ", "1e-3", "on", "only", r"\${a,b}", "x" * 10_001 + ",y", "2026_12_01"),
    ]
)
TEXTS = LOOKS | st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]))
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
KEYS = st.sampled_from(["type", "low", "high", "step", "choices", "only", "a", "b.c"])
VALUES = st.recursive(
    SCALARS.filter(lambda value: value != "???"),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(KEYS, each, max_size=4),
)


def trained_again(resolved: Any) -> Any:
    """The resolved config of a final training: a best.yaml is read and composed."""
    config = resolved_yaml.load(resolved_yaml.dump(resolved))
    config["origin"] = {LITERAL: dict(literals(config))}
    space = Space(OmegaConf.create(config))
    assert space.parameters() == {}
    return space.resolve({})


@given(VALUES)
def test_every_value_stays_what_it_is(value: Any) -> None:
    assert repr(trained_again({"model": {"value": value}})) == repr({"model": {"value": value}})


@given(st.lists(TEXTS.filter(lambda text: text != "???" and len(text) < 1000), min_size=1, max_size=3, unique=True))
def test_a_text_is_searched_and_trained_as_it_was_written(texts: list[str]) -> None:
    quoted = [QuotedString(resolved_yaml.escaped(text), Quote.single).with_quotes() for text in texts]
    space = Space(OmegaConf.create({"model": {"text": f"choice({','.join(quoted)})"}}))
    for point in space.points():
        resolved = space.resolve(point)
        assert repr(trained_again(resolved)) == repr(resolved)


def test_what_is_typed_over_it_is_searched_still() -> None:
    config = {"model": {"a": "choice(1,2)", "b": "1,2"}, "origin": {LITERAL: {"model.a": "x,y", "model.b": "1,2"}}}
    assert list(Space(config).parameters()) == ["model.a"]


def test_a_key_below_a_mapping_is_a_value_of_its_own() -> None:
    config = {
        "model": {"a": {"type": "float", "low": "choice(1,2)", "high": 3}},
        "origin": {LITERAL: {"model.a": {}}},
    }
    assert list(Space(config).parameters()) == ["model.a.low"]


def test_what_is_escaped_is_resolved_once() -> None:
    space = Space(OmegaConf.create({"model": {"a": r"\${model.b}", "b": 1, "c": "choice('\\${model.b}', x)"}}))
    (first, _) = space.points()
    assert space.resolve(first) == {"model": {"a": "${model.b}", "b": 1, "c": "${model.b}"}}
