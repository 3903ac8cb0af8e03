"""What `from=` may name, and what it brings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.core.config_store import ConfigStore

from autotune.compose import compose
from autotune.errors import UserError
from autotune.final.origin import GROUPS, overrides_from, resolved
from autotune.train import Plan
from autotune.trust import resolved_yaml

CONFIG: Mapping[str, Any] = {
    **{group: {"name": f"my {group}"} for group in GROUPS},
    "optimizer": {"name": "sgd", "_target_": "torch.optim.SGD", "lr": 0.25},
    "trainer": {"max_epochs": 7, "accelerator": "cpu"},
    "seed": 3,
    "origin": {"study": "s", "trial": 4, "best_epoch": 5},
}
RUN = "0123456789abcdef" * 2


def nothing_fetched(run_id: str, home: str, uri: str | None) -> str:
    raise AssertionError(f"{run_id} was looked for in {home} and {uri}")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with two studies, one of which has a best.yaml."""
    for name in ("good", "begun"):
        (tmp_path / "studies" / name).mkdir(parents=True)
    (tmp_path / "studies" / "good" / "best.yaml").write_text(yaml.safe_dump(dict(CONFIG)))
    return tmp_path


def refusal_of(origin: str, home: Path) -> str:
    with pytest.raises(UserError) as caught:
        resolved(origin, str(home), None, nothing_fetched)
    assert caught.value.key == "from"
    return str(caught.value)


def test_a_study_a_file_and_a_run_bring_the_same(home: Path) -> None:
    file = home / "studies" / "good" / "best.yaml"
    asked: list[tuple[str, str, str | None]] = []

    def fetched(*what: Any) -> str:
        asked.append(what)
        return file.read_text()

    assert resolved("good", str(home), None, nothing_fetched) == CONFIG
    assert resolved(str(file), str(home), None, nothing_fetched) == CONFIG
    assert resolved(RUN, str(home), "sqlite://", fetched) == CONFIG
    assert asked == [(RUN, str(home), "sqlite://")]


def test_a_study_goes_before_a_run_of_the_same_name(home: Path) -> None:
    (home / "studies" / "good").rename(home / "studies" / RUN)
    assert resolved(RUN, str(home), None, nothing_fetched) == CONFIG


def test_numbers_are_read_as_they_are_meant(tmp_path: Path) -> None:
    text = yaml.safe_dump({key: value for key, value in CONFIG.items() if key != "optimizer"})
    optimizer = "{lr: 1e-3, eps: 1.0e-08, name: e5, kind: 26e05a, width: 10, flag: off}"
    (tmp_path / "a.yaml").write_text(f"{text}optimizer: {optimizer}\n")
    read = resolved(str(tmp_path / "a.yaml"), "mlruns", None, nothing_fetched)
    assert read["optimizer"] == {"lr": 0.001, "eps": 1e-8, "name": "e5", "kind": "26e05a", "width": 10, "flag": False}


NAMES = {
    "misspelt study": ("goood", "from: no study goood in {home}; did you mean good?"),
    "unknown study": ("zzz", "from: no study zzz in {home}; known are begun, good"),
    "study without a best": (
        "begun",
        "from: the study begun has no trial that was trained to its end; let it search on",
    ),
    "missing file": (
        "missing.yaml",
        "from: missing.yaml cannot be read (No such file or directory); give a best.yaml that exists",
    ),
    "path of no file": ("../studies/good", "from: no study ../studies/good in {home}; known are begun, good"),
    "almost a run": (RUN[1:], f"from: no study {RUN[1:]} in {{home}}; known are begun, good"),
}


@pytest.mark.parametrize(("origin", "message"), NAMES.values(), ids=NAMES)
def test_names_of_nothing(origin: str, message: str, home: Path) -> None:
    assert refusal_of(origin, home) == message.format(home=home)


def test_a_folder_is_no_file(home: Path) -> None:
    (home / "a.yaml").mkdir()
    assert refusal_of(str(home / "a.yaml"), home) == (
        f"from: {home}/a.yaml cannot be read (Is a directory); give a best.yaml that exists"
    )


LACKS = "give a best.yaml as a search writes it"
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
WHOLE = yaml.safe_dump(dict(CONFIG))
CONTENTS = {
    "binary": (b"\x89PNG\r\n\x1a\n\xff\xfe", "is no text; give a best.yaml"),
    "no YAML": (b"data: [1, 2\nmodel: }", "is no YAML (while parsing a flow sequence"),
    "text": (b"hello", "holds no config; give a best.yaml"),
    "list": (b"- data\n- model\n", "holds no config; give a best.yaml"),
    "empty": (b"", "holds no config; give a best.yaml"),
    "no model": (yaml.safe_dump({**CONFIG, "model": None}).encode(), f"lacks the section model; {LACKS}"),
    "number for a model": (yaml.safe_dump({**CONFIG, "model": 3}).encode(), f"lacks the section model; {LACKS}"),
    "no seed": (
        yaml.safe_dump({key: value for key, value in CONFIG.items() if key != "seed"}).encode(),
        f"lacks the section seed; {LACKS}",
    ),
    "number for an origin": (yaml.safe_dump({**CONFIG, "origin": 3}).encode(), f"has 3 under origin; {LACKS}"),
    "interpolation": (WHOLE.replace("my data", "${oc.env:HOME}").encode(), "has interpolations; give a best.yaml"),
    "interpolation in disguise": (
        WHOLE.replace("my data", '"\\x24{oc.env:HOME}"').encode(),
        "has interpolations; give",
    ),
    "interpolation for a key": (f"{WHOLE}'${{x}}': 1\n".encode(), "has interpolations; give a best.yaml"),
    "defaults": (f"{WHOLE}defaults: [hydra/launcher: x]\n".encode(), "has defaults; give a best.yaml"),
    "defaults of a group": (
        yaml.safe_dump({**CONFIG, "model": {"defaults": ["/x@hydra.callbacks.y"]}}).encode(),
        "has defaults; give a best.yaml",
    ),
    "its own trust": (
        f"{WHOLE}allow_targets: [os]\n".encode(),
        "says itself what is trusted (allow_targets); take it out, and type allow_targets=[...] behind the command",
    ),
    "a date": (f"{WHOLE}begun: 2026-01-01\n".encode(), "holds more than texts and numbers; give a best.yaml"),
    "bytes": (f"{WHOLE}raw: !!binary aGVsbG8=\n".encode(), "holds more than texts and numbers; give a best.yaml"),
    "too many values": (f"x: [{'1,' * 200_000}]\n".encode(), "is no YAML (it holds more than 100000 values)"),
    "aliases that multiply": (f"{BOMB}{WHOLE}".encode(), "is no YAML (aliases are not taken); give a best.yaml"),
    "objects": (
        f"x: !!python/object/apply:os.system [exit]\n{WHOLE}".encode(),
        "is no YAML (python/object/apply:os.system is an",
    ),
    "bottomless": (b"[" * 100_000, "is no YAML ("),
    "too large": (f"{WHOLE}#{'x' * 1_000_000}\n".encode(), "is larger than 1000000 bytes; give a best.yaml"),
}


@pytest.mark.parametrize(("content", "message"), CONTENTS.values(), ids=CONTENTS)
def test_files_that_hold_no_resolved_config(content: bytes, message: str, home: Path) -> None:
    (home / "a.yaml").write_bytes(content)
    said = refusal_of(f"{home}/a.yaml", home)
    assert said.startswith(f"from: {home}/a.yaml {message}")
    assert "\n" not in said


def test_what_a_run_holds_is_looked_at_as_closely(home: Path) -> None:
    with pytest.raises(UserError, match=rf"^from: {RUN} holds no config; give a best.yaml$"):
        resolved(RUN, str(home), None, lambda *_: "hello")


# As overrides of the command.


@pytest.mark.parametrize("nothing", [[], ["from=null"], ["from="], ["from=''"]])
def test_without_an_origin_the_overrides_stay(nothing: list[str]) -> None:
    typed = [*nothing, "optimizer=sgd", "seed=5"]
    assert overrides_from(typed, nothing_fetched) == typed


@pytest.mark.parametrize("home_first", [True, False])
def test_the_origin_is_looked_for_in_the_home_and_place_that_are_typed(home_first: bool, home: Path) -> None:
    asked: list[tuple[str, str, str | None]] = []

    def fetched(*what: Any) -> str:
        asked.append(what)
        return WHOLE

    places = [f"home={home}", "tracking.uri='sqlite:///x.db'"]
    origin = [f"from={RUN}"]
    overrides_from([*places, *origin] if home_first else [*origin, *places], fetched)
    assert asked == [(RUN, str(home), "sqlite:///x.db")]


def composed(*overrides: str) -> Any:
    return compose("train", overrides, prepare=lambda typed: overrides_from(typed, nothing_fetched))


def test_the_origin_stands_in_the_place_of_the_groups(home: Path) -> None:
    config = composed("from=good", f"home={home}")
    for group in GROUPS:
        assert config[group] == CONFIG[group]
    assert config.seed == 3
    assert config.origin == {"study": "s", "trial": 4, "best_epoch": 5, "max_epochs": 7}
    assert config.train["on"] == "train"


def test_what_is_typed_goes_before_the_origin(home: Path) -> None:
    config = composed("from=good", f"home={home}", "optimizer.lr=0.5", "seed=9", "trainer.max_epochs=100", "model=mlp")
    assert config.optimizer == {**CONFIG["optimizer"], "lr": 0.5}
    assert (config.seed, config.trainer.max_epochs, config.origin.max_epochs) == (9, 100, 7)
    assert config.model.name == "mlp"
    assert config.data == CONFIG["data"]


def test_a_misspelt_key_is_compared_with_the_origins(home: Path) -> None:
    with pytest.raises(UserError, match=r"^optimizer.lrr: there is no such key; did you mean optimizer.lr\?$"):
        composed("from=good", f"home={home}", "optimizer.lrr=0.5")
    with pytest.raises(UserError, match=r"^optimizer.betas: there is no such key; "):
        composed("from=good", f"home={home}", "optimizer.betas=[0.9,0.99]")


def test_one_origin_leaves_nothing_behind_for_the_next(home: Path) -> None:
    composed("from=good", f"home={home}")
    (home / "other.yaml").write_text(WHOLE.replace("lr: 0.25", "weight_decay: 0.125").replace("seed: 3", "seed: 4"))
    config = composed(f"from={home}/other.yaml")
    assert (config.optimizer, config.seed) == (
        {"name": "sgd", "_target_": "torch.optim.SGD", "weight_decay": 0.125},
        4,
    )
    assert composed().optimizer.name == "adam"
    assert "origin" not in composed()
    assert "from.yaml" in ConfigStore.instance().list("optimizer")


def test_a_file_does_not_say_what_a_command_is_run_by(home: Path) -> None:
    file = home / "theirs.yaml"
    hostile = {"hydra": {"run": {"dir": "/elsewhere"}}, "home": "/elsewhere", "tracking": {"uri": "http://elsewhere"}}
    file.write_text(yaml.safe_dump({**CONFIG, **hostile, "train": {"register": "theirs"}}))
    assert resolved(str(file), str(home), None, nothing_fetched) == CONFIG


TEXTS = [
    "relu,relu",
    "interval(0,1)",
    "rnage(1,2)",
    "a , b",
    "1,2",
    "",
    "null",
    "'a,b'",
    '"',
    "\\${a,b}",
    "é,ü",
    "1e-3",
]
MAPPINGS = [{"type": "float", "low": 0, "high": 1}, {"only": ["a"], "a": {"b": 1}}, {"type": "a,b", 3: [{"x": "c,d"}]}]


def test_nothing_it_brings_is_a_search_value(home: Path) -> None:
    values = {f"v{number}": value for number, value in enumerate([*TEXTS, *MAPPINGS, TEXTS, [1, "1", 1.0, True]])}
    config = {**CONFIG, "model": {"name": "m", "_target_": "torch.nn.Linear", **values}, "width": "8,9"}
    config["objective"] = {"metric": "val/accuracy"}
    (home / "studies" / "good" / "best.yaml").write_text(resolved_yaml.dump(config))
    plan = Plan.of(composed("from=good", f"home={home}", "train.name=t"))
    assert repr({**plan.resolved["model"]}) == repr({"name": "m", "_target_": "torch.nn.Linear", **values})
    assert plan.resolved["width"] == "8,9"
    assert plan.origin == {**CONFIG["origin"], "max_epochs": 7}


@pytest.mark.parametrize("typed", ["model.v=interval(0,1)", "model.v=1,2", "model.v=choice(a,b)"])
def test_what_is_typed_over_it_may_be_one(typed: str, home: Path) -> None:
    config = {**CONFIG, "model": {"name": "m", "_target_": "torch.nn.Linear", "v": "a,b"}}
    config["objective"] = {"metric": "val/accuracy"}
    (home / "studies" / "good" / "best.yaml").write_text(resolved_yaml.dump(config))
    with pytest.raises(UserError, match=r"^model\.v: is still open, and a final training has one value for it; "):
        Plan.of(composed("from=good", f"home={home}", typed))
