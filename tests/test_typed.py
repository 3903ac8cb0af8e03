"""Commands as they are printed: typed again, they say the same."""

from __future__ import annotations

import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from autotune.compose import compose, typed_again
from autotune.typed import FLAG, on_study, override, repeated, train_command

PATHS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1) | st.sampled_from(
    ["2026_12_01", "1e5", "007", "null", "true", "a,b", "~/runs", "a b", "it's", "q?a", "100%25", "[x]", "${x}", "c#d"]
)


@given(PATHS)
def test_an_override_is_read_as_the_text_it_was_made_of(text: str) -> None:
    [word] = shlex.split(shlex.join([override("home", text)]))
    value = OverridesParser.create().parse_override(word).value()
    assert OmegaConf.create({"home": getattr(value, "text", value)}).home == text


def test_what_was_typed_is_repeated_flags_first() -> None:
    typed = [FLAG, "my conf", "allow_targets=[a]", "tracking.experiment=e"]
    assert on_study("train", "s", "else where", typed) == (
        "python -m autotune.train --config-dir 'my conf' from=s 'home=else where' 'allow_targets=[a]' "
        "tracking.experiment=e"
    )
    assert on_study("train", "2026_12_01", "mlruns") == "python -m autotune.train 'from='\"'\"'2026_12_01'\"'\"''"
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
