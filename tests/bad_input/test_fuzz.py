"""Search values and files best.yaml that nobody would write: a `UserError`, or what really can be tried and built.

FUZZ_TIMES=20 tries twenty times as many.
"""

from __future__ import annotations

import copy
import math
import os
import string
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autotune.compose import compose
from autotune.errors import UserError
from autotune.search import check_config
from autotune.space import Space, check
from autotune.train import Plan, _rehearse, prepare

TIMES = int(os.environ.get("FUZZ_TIMES", "1"))


def many(examples: int) -> settings:
    """So many examples, in a directory that they share."""
    return settings(
        max_examples=examples * TIMES,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
    )


@pytest.fixture(scope="module", autouse=True)
def cwd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where all of it is typed."""
    folder = tmp_path_factory.mktemp("fuzz")
    with chdir(folder):
        yield folder


def check_line(error: UserError) -> None:
    """It is one line that says where, what and what else."""
    assert "\n" not in str(error)
    assert error.key
    assert error.problem
    assert error.remedy


def try_out(space: Space) -> None:
    """Draw from a space a few times, and make configs of what is drawn."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    known = space.parameters()
    for _ in range(3):
        params = space.suggest(study.ask())
        assert set(params) <= set(known)
        space.resolve(params)
    for point in space.tour():
        space.resolve(point)
    for search in known.values():
        for sampled in (search.options() or ())[:5]:
            assert search.label(search.value(sampled)) is not None
        assert list(search.extremes())


# The grammar: what is written there, put together in any way.

NUMBERS = st.one_of(
    st.integers().map(str),
    st.floats().map(repr),
    st.sampled_from(["0", "1", "-1", "0.1", "1e-3", "1e400", "-1e308", "nan", "inf", "9" * 400, "9007199254740993"]),
)
WORDS = st.one_of(
    NUMBERS,
    st.sampled_from(
        ["null", "true", "relu", "a b", "'a,b'", '"x"', "${seed}", "${nope}", "${", "???", "", "é", "\0", "full"]
    ),
    st.text(max_size=5),
)
FUNCTIONS = st.sampled_from(
    ["choice", "range", "interval", "tag", "int", "float", "str", "bool", "sort", "shuffle", "glob", "intervall", "f"]
)


def _call(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    several = st.lists(inner, max_size=4).map(",".join)
    return st.one_of(
        st.builds("{}({})".format, FUNCTIONS, several),
        st.builds("tag(log,{})".format, inner),
        st.builds("{{a:{}}}".format, inner),
        several.map("[{}]".format),
        several,
    )


GRAMMAR = st.recursive(WORDS, _call, max_leaves=6)
RIGHT = st.sampled_from(
    [
        *("choice(32,64,128)", "interval(0,1)", "tag(log,interval(1e-4,1))", "int(interval(16,512))", "range(5,50,5)"),
        *("32,64,128", "{type: float, low: 1e-4, high: 1, log: true}", "tag(log,int(interval(1,9)))", "range(0,1,0.1)"),
        *("{type: categorical, choices: [1, [2], {a: 3}]}", "shuffle(range(1,5))", "choice(null,1.0)"),
    ]
)


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A right search value with a few characters changed."""
    text = draw(RIGHT)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(text)))
        change = draw(st.sampled_from([*"()[]{},:.-'\"$ 019e=", "nan", "-1", "1e309", *string.ascii_letters[:3], ""]))
        text = text[:at] + change + text[at + draw(st.integers(0, 2)) :]
    return text


KEYS = st.sampled_from(
    ["optimizer.lr", "data.batch_size", "model.hidden", "model.dropout", "seed", "trainer.max_epochs", "+model.x"]
)


@pytest.mark.slow
@many(40)
@given(key=KEYS, text=GRAMMAR | mutated())
def test_what_is_typed_is_refused_or_can_be_searched(key: str, text: str) -> None:
    try:
        config = compose("search", ["optimizer=adam", "schedule=constant", f"{key}={text}"])
        _, space = check_config(config)
        try_out(space)
    except UserError as error:
        check_line(error)


@many(300)
@given(
    value=GRAMMAR
    | mutated()
    | st.dictionaries(
        st.sampled_from(["type", "low", "high", "log", "step", "choices", "only", "_target_", "_fix_"]),
        st.sampled_from(["float", "int", "categorical", "a", "", True, None, [], [1, 2], [[1], {"a": 2}], {"a": "b"}])
        | st.integers()
        | st.floats(),
    )
)
def test_what_a_file_says_is_refused_or_can_be_searched(value: Any) -> None:
    try:
        space = Space({"optimizer": {"_target_": "torch.optim.Adam", "lr": 0.1, "x": value}, "seed": 0, "x": [value]})
        check(space)
        try_out(space)
    except UserError as error:
        check_line(error)


# best.yaml.

BEST: dict[str, Any] = {
    "data": {
        "name": "seed_mlp",
        "_target_": "autotune.data.seed_mlp.SeedMLP",
        "task": "binary",
        "samples": 100,
        "features": 10,
        "batch_size": 32,
        "validation": 0.2,
        "test": 0.2,
        "seed": 1,
    },
    "model": {
        "name": "mlp",
        "_target_": "autotune.models.mlp.MLP",
        "hidden": [8, 4],
        "activation": "relu",
        "batch_norm": True,
        "dropout": 0.0,
    },
    "optimizer": {
        "name": "adam",
        "_target_": "torch.optim.Adam",
        "lr": 0.001,
        "betas": [0.9, 0.999],
        "weight_decay": 0.0,
    },
    "schedule": {
        "name": "exponential",
        "_target_": "autotune.optim.schedules.Exponential",
        "decay": 0.5,
        "warmup": 0.0,
    },
    "trainer": {
        "max_epochs": 2,
        "accelerator": "cpu",
        "devices": 1,
        "precision": "32-true",
        "accumulate_grad_batches": 1,
        "gradient_clip_val": None,
        "gradient_clip_algorithm": "norm",
        "ema": None,
        "deterministic": True,
    },
    "task": {"metrics": ["f1"], "regression_loss": "mse", "label_smoothing": 0.0, "class_weights": None},
    "objective": {"metric": "val/accuracy", "direction": "maximize", "worst": 0.0, "explodes_above": None},
    "seed": 0,
    "origin": {"study": "s", "trial": 3, "metric": "val/accuracy", "value": 0.5, "best_epoch": 2},
}
# No sizes that fit into memory and take all of it.
VALUES = st.sampled_from(
    [
        *(
            None,
            True,
            "",
            "a",
            "a b",
            "é\u2028",
            "nan",
            "1,2",
            "interval(0,1)",
            "choice(1)",
            "intervall(1)",
            "${seed}",
            "${",
        ),
        *(
            "???",
            "os.system",
            "torch.nn.ReLU",
            "torch.optim.SGD",
            "full",
            "auto",
            "val/loss",
            [],
            {},
            [1],
            [[]],
            [None],
        ),
        *(["a"], {"a": 1}, {"_target_": "os.system"}, {"only": None, "a": {}}, {"_fix_": {"seed.a": 1}}, {1: 2}),
        *(0, 1, -1, 2, 3, 0.5, -0.0, 1e-300, 1e300, math.nan, math.inf, 10**30, 10**400, -(2**63)),
    ]
).map(copy.deepcopy)  # they are changed further
NAMES = st.sampled_from(
    [
        *(
            "a",
            "",
            "only",
            "_fix_",
            "_args_",
            "_partial_",
            "_target_",
            "_convert_",
            "name",
            "seed",
            "type",
            "lr",
            "metrics",
        ),
        *(
            "a.b",
            "a/b",
            "a@b",
            "callbacks",
            "logger",
            "strategy",
            "num_nodes",
            "plugins",
            "profiler",
            "defaults",
            "hydra",
        ),
        *(1, True, "study", "home", "tracking", "origin", "nesterov", "foreach", "task", "samples", "outputs"),
    ]
)


@st.composite
def changed(draw: st.DrawFn) -> dict[str, Any]:
    """A best.yaml with something taken out, replaced, put into another section or put in, here and there."""
    config = copy.deepcopy(BEST)
    for _ in range(draw(st.integers(1, 4))):
        node: Any = config
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if not isinstance(node[key], dict | list) or not draw(st.integers(0, 3)):
                break
            node = node[key]
        how = draw(st.sampled_from(["delete", "replace", "text", "nest", "list", "insert"]))
        if how == "insert" or not keys:
            if isinstance(node, dict):
                node[draw(NAMES)] = draw(VALUES)
            else:
                node.append(draw(VALUES))
        elif how == "delete":
            del node[key]
        elif how == "replace":
            node[key] = draw(VALUES)
        elif how == "text":
            node[key] = str(node[key])
        else:
            node[key] = {draw(NAMES): node[key]} if how == "nest" else [node[key]]
    return config


def train_up_to_training(content: bytes) -> None:
    """What ``train from=best.yaml`` does before it trains."""
    Path("best.yaml").write_bytes(content)
    try:
        config = compose("train", ["from=best.yaml", "tracking=none", "train.on=train+val"], prepare=prepare)
        plan = Plan.of(config)
        assert plan.epochs >= 1
        _rehearse(plan, {})
    except UserError as error:
        check_line(error)


def test_what_is_changed_is_right_before() -> None:
    Path("best.yaml").write_text(yaml.safe_dump(BEST))
    plan = Plan.of(compose("train", ["from=best.yaml", "tracking=none"], prepare=prepare))
    _rehearse(plan, {})
    assert plan.resolved["optimizer"] == BEST["optimizer"]


@pytest.mark.slow
@many(40)
@given(config=changed())
def test_a_changed_best_yaml_is_refused_or_can_be_built(config: dict[str, Any]) -> None:
    train_up_to_training(yaml.safe_dump(config, allow_unicode=True).encode())


@many(40)
@given(content=st.binary(max_size=40), at=st.integers(0, 900), length=st.integers(0, 40))
def test_random_bytes_in_a_best_yaml_are_refused_or_can_be_built(content: bytes, at: int, length: int) -> None:
    whole = yaml.safe_dump(BEST).encode()
    train_up_to_training(whole[:at] + content + whole[at + length :])
