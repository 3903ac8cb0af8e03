from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from autotune.errors import UserError
from autotune.space import parse

FLOAT, INT, CHOICE = FloatDistribution, IntDistribution, CategoricalDistribution

GRAMMAR = {
    "interval": ("interval(0,1)", FLOAT(0.0, 1.0)),
    "log interval": ("tag(log, interval(1e-4, 1))", FLOAT(1e-4, 1.0, log=True)),
    "int interval": ("int(interval(16, 512))", INT(16, 512)),
    "log int interval": ("tag(log,int(interval(16,512)))", INT(16, 512, log=True)),
    "cast inside": ("int(tag(log,interval(16,512)))", INT(16, 512, log=True)),
    "range stops before stop": ("range(5,50,5)", INT(5, 45, step=5)),
    "range that misses stop": ("range(5,51,5)", INT(5, 50, step=5)),
    "range from 0": ("range(3)", INT(0, 2)),
    "falling range": ("range(5,1,-1)", INT(2, 5)),
    "float range": ("range(0,1,0.1)", FLOAT(0.0, 0.9, step=0.1)),
    "shuffled range": ("shuffle(range(1,5))", INT(1, 4)),
    "choice": ("choice(1,2)", CHOICE((1, 2))),
    "choice of words": ("choice(relu, gelu)", CHOICE(("relu", "gelu"))),
    "choice of flags": ("choice(true,false)", CHOICE((True, False))),
    "choice of lists": ("choice([64,32],[128])", CHOICE(("[64,32]", "[128]"))),
    "choice of mappings": ("choice({a:1},{a:2})", CHOICE(('{"a":1}', '{"a":2}'))),
    "choice with null": ("choice(null,1.0)", CHOICE((None, 1.0))),
    "comma list with null": ("null,1.0", CHOICE((None, 1.0))),
    "quoted words": ("choice('a b',c)", CHOICE(("a b", "c"))),
    "numbers": ("32,64,128", CHOICE((32, 64, 128))),
    "numbers with spaces": ("0.1, 1e-3", CHOICE((0.1, 1e-3))),
    "words": ("sgd,adam", CHOICE(("sgd", "adam"))),
}


@pytest.mark.parametrize(("text", "expected"), GRAMMAR.values(), ids=GRAMMAR)
def test_text_of_the_grammar(text: str, expected: object) -> None:
    found = parse("key", text)
    assert found is not None
    assert found.distribution == expected


ORDINARY = [
    "",
    "hello",
    "hello, world",
    ",",
    ";",
    "'a,b'",
    "a(b",
    "int(3)",
    "${a},${b}",
    "f(x)",
    "glob(*)",
    "a/b,c/d",
    3,
    0.1,
    None,
    True,
    [1, 2],
    {"a": 1},
]


@pytest.mark.parametrize("value", ORDINARY, ids=repr)
def test_ordinary_values_are_left_alone(value: object) -> None:
    assert parse("key", value) is None


MAPPINGS = {
    "float": ({"type": "float", "low": 1e-4, "high": 1, "log": True}, FLOAT(1e-4, 1.0, log=True)),
    "int": ({"type": "int", "low": 1, "high": 9}, INT(1, 9)),
    "int step": ({"type": "int", "low": 1, "high": 9, "step": 3}, INT(1, 7, step=3)),
    "float step": ({"type": "float", "low": 0, "high": 1, "step": 0.25}, FLOAT(0.0, 1.0, step=0.25)),
    "categorical": ({"type": "categorical", "choices": ["a", "b"]}, CHOICE(("a", "b"))),
}


@pytest.mark.parametrize(("value", "expected"), MAPPINGS.values(), ids=MAPPINGS)
def test_mapping_form(value: dict[str, object], expected: object) -> None:
    found = parse("key", value)
    assert found is not None
    assert found.distribution == expected


def test_a_mapping_that_happens_to_have_a_type_is_ordinary() -> None:
    assert parse("key", {"type": "gaussian", "low": 0, "sigma": 2}) is None


def test_choices_that_are_no_scalars_come_back_as_they_were() -> None:
    found = parse("key", "choice([64,32],[128])")
    assert found is not None
    assert [found.value(label) for label in ("[64,32]", "[128]")] == [[64, 32], [128]]


WRONG = {
    "reversed interval": (
        "interval(10,1)",
        "key: interval(10,1) begins above its end; write the lower bound first: 1.0, 10.0",
    ),
    "step of zero": ("range(5,1,0)", "key: range(5,1,0) has a step of 0; write a step above 0"),
    "empty range": (
        "range(5,1)",
        "key: range(5,1) is empty; range(start,stop,step) stops before stop: write range(1,5,1)",
    ),
    "misspelt tag": (
        "tag(lgo,interval(1,2))",
        "key: tag(lgo,interval(1,2)) has the tag lgo; did you mean log?; log is the only tag",
    ),
    "tag on a choice": (
        "tag(log,choice(1,2))",
        "key: tag(log,choice(1,2)) puts the tag log on a choice; log goes with interval: tag(log,interval(1e-4,1))",
    ),
    "log from zero": (
        "tag(log,interval(0,1))",
        "key: tag(log,interval(0,1)) is logarithmic from 0.0; a logarithmic range begins above 0",
    ),
    "misspelt function": (
        "intervall(0,1)",
        "key: intervall(0,1) calls intervall, which is no search function; did you mean interval?",
    ),
    "twice the same": ("choice(1,1.0)", "key: choice(1,1.0) has 1.0 twice; name each value once"),
    "true is one": ("choice(1,true)", "key: choice(1,true) has True twice; name each value once"),
    "not a number": ("interval(0,nan)", "key: interval(0,nan) has the bound nan; bounds are finite numbers"),
    "infinite": ("interval(0,inf)", "key: interval(0,inf) has the bound inf; bounds are finite numbers"),
    "mapping reversed": (
        {"type": "float", "low": 2, "high": 1},
        "key: {type: float, low: 2, high: 1} begins above its end; write the lower bound first: 1, 2",
    ),
    "mapping misspelt": (
        {"type": "flot", "low": 1, "high": 2},
        "key.type: flot is no type of search value; did you mean float?",
    ),
    "mapping without bound": (
        {"type": "int", "low": 1},
        "key: {type: int, low: 1} lacks a bound; write {type: int, low: 1, high: 9}",
    ),
    "mapping not whole": (
        {"type": "int", "low": 1, "high": 2.5},
        "key: {type: int, low: 1, high: 2.5} is of type int; write whole bounds, or type: float",
    ),
    "mapping with log and step": (
        {"type": "float", "low": 1, "high": 2, "log": True, "step": 1},
        "key.step: {type: float, low: 1, high: 2, log: True, step: 1} has the step 1; "
        "a step is above 0, whole for int, and not with log",
    ),
    "mapping with another key": (
        {"type": "float", "low": 1, "high": 2, "stepp": 1},
        "key.stepp: {type: float, low: 1, high: 2, stepp: 1} has the key stepp; did you mean step?",
    ),
}


@pytest.mark.parametrize(("value", "message"), WRONG.values(), ids=WRONG)
def test_wrong_search_values_say_what_is_right(value: object, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse("key", value)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "text", ["tag(log,b)", "choice()", "interval(1)", "choice(1,interval(0,1))", "range()", "tag(log)", "interval(a,b)"]
)
def test_what_hydra_cannot_read_is_one_line(text: str) -> None:
    with pytest.raises(UserError, match=r"^key: .*; write ") as caught:
        parse("key", text)
    assert "\n" not in str(caught.value)
    assert "NoneType" not in str(caught.value)


@given(
    st.text(max_size=40)
    | st.from_regex(r"(choice|range|interval|tag|int|float|sort|shuffle)\([^)]{0,20}\){0,2}", fullmatch=True)
)
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    refusals: list[str] = []
    found = None
    try:
        found = parse("key", text)
    except UserError as error:
        refusals.append(str(error))
    assert not any("\n" in refusal for refusal in refusals)
    assert found is None or list(found.extremes())


@given(
    start=st.integers(-50, 50),
    count=st.integers(1, 30),
    step=st.sampled_from([0.1, 0.25, 0.3, 1.0, 2.5]),
)
def test_a_float_range_has_the_values_that_hydra_counts(start: int, count: int, step: float) -> None:
    stop = round(start + count * step, 9)
    found = parse("key", f"range({start},{stop!r},{step})")
    assert found is not None
    options = found.options()
    assert options is not None
    assert len(options) == count
    assert all(math.isclose(option, start + index * step, abs_tol=1e-9) for index, option in enumerate(options))


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ({"type": "float", "low": 0, "high": 1, "step": 2}, "x.step"),
        ({"type": "int", "low": 1, "high": 3, "step": 4}, "x.step"),
        ("range(0,1,2)", "x"),
        ("range(0.0,0.5,0.7)", "x"),
    ],
)
def test_a_step_wider_than_its_range_is_refused(value: object, key: str) -> None:
    with pytest.raises(UserError, match="means") as caught:
        parse("x", value)
    assert caught.value.key == key


@pytest.mark.parametrize("value", ["choice(None, .1)", "None,0.1", {"type": "categorical", "choices": ["None", 0.1]}])
def test_pythons_none_is_no_null(value: object) -> None:
    with pytest.raises(UserError, match="write null") as caught:
        parse("x", value)
    assert caught.value.key == "x"


def test_a_quoted_none_is_a_text() -> None:
    found = parse("x", "choice('None', 'a')")
    assert found is not None
    assert found.options() == ("None", "a")
