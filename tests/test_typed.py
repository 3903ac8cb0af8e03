"""Commands as they are printed: typed again, they say the same."""

from __future__ import annotations

import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from autotune.compose import compose, typed_again
from autotune.typed import FLAG, as_typed, on_study, override, repeated, train_command

PATHS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1) | st.sampled_from(
    ["2026_12_01", "1e5", "007", "null", "true", "a,b", "~/runs", "a b", "it's", "q?a", "100%25", "[x]", "${x}", "c#d"]
)


@given(PATHS)
def test_an_override_is_read_as_the_text_it_was_made_of(text: str) -> None:
    words = shlex.split(shlex.join([override("from", text)]))
    value = OverridesParser.create().parse_override(*as_typed(words)).value()
    assert OmegaConf.create({"from": getattr(value, "text", value)})["from"] == text


def test_what_was_typed_is_repeated_flags_first() -> None:
    typed = [FLAG, "my conf", "allow_targets=[a]", "tracking.experiment=e"]
    assert on_study("train", "s", "else where", typed) == (
        "python -m autotune.train --config-dir 'my conf' from=s 'home=else where' 'allow_targets=[a]' "
        "tracking.experiment=e"
    )
    assert on_study("train", "2026_12_01", "mlruns") == "python -m autotune.train from=2026_12_01"
    assert train_command("s", {}, {}) == "python -m autotune.train from=s"


def test_only_what_a_final_training_needs_is_repeated() -> None:
    overrides = ["optimizer=adam", "budget.trials=3", "home=x", "tracking=none", "+tracking.x=1", "study.name=tracking"]
    assert repeated([], overrides, []) == ["+tracking.x=1"]


@pytest.mark.parametrize("inside", [True, False])
def test_what_was_typed_is_found_in_a_composed_config(
    inside: bool, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("user")
    (folder / "conf").mkdir()
    monkeypatch.chdir(folder if inside else folder.parent)
    overrides = ["allow_targets=[my_net]", "model._target_=other.Net", "home=x"]
    assert typed_again(compose("search", overrides, str(folder / "conf"))) == [
        FLAG,
        "conf" if inside else f"{folder.name}/conf",
        "allow_targets=[my_net,other.Net]",
    ]
    monkeypatch.chdir("/")
    assert typed_again(compose("search", [], str(folder / "conf"))) == [FLAG, str(folder / "conf").lstrip("/")]
    assert typed_again(compose("search", [])) == []


@pytest.mark.parametrize(
    ("typed", "ready"),
    [
        ("study.name=2026_12_01", "study.name='2026_12_01'"),
        ("study.name=007", "study.name=007"),
        ("study.name=1e5", "study.name='1e5'"),
        ("+train.name=true", "+train.name='true'"),
        ("from=1_0", "from='1_0'"),
        ("study.name=digits", "study.name=digits"),
        ("study.name='1_0'", "study.name='1_0'"),
        ("from=null", "from=null"),
        ("study.name=a,b", "study.name=a,b"),
        ("data.target=[1,2]", "data.target=[1,2]"),
        ("study.seed=1_0", "study.seed=1_0"),
        ("home='~/runs'", "home='/homes/me/runs'"),
        ("data.path='~/rows.csv'", "data.path='/homes/me/rows.csv'"),
        ("data.target='~x'", "data.target='~x'"),
    ],
)
def test_names_and_paths_stay_as_typed(typed: str, ready: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/homes/me")
    assert as_typed([typed]) == [ready]
