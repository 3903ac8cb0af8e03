"""What a file of somebody's can have made: hostile files through the real commands, none of which does a thing."""

from __future__ import annotations

import importlib
import os
import pickle
import sys
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from omegaconf import OmegaConf

import autotune
from autotune.compose import compose, conf_dir
from autotune.construct import construct, target
from autotune.errors import UserError
from autotune.trust.targets import PREFIXES, Allowed, allowing, check_name, covered, typed_with

from ..commands import Ended, files, run
from ..fakes import resolved

TINY = ("trainer.accelerator=cpu", "trainer.max_epochs=1", "budget.trials=1", "tracking=none", "study.name=s")
EVIL = "import pathlib\npathlib.Path({effect!r}).mkdir()\nclass Net: ...\n"


class Effect:
    """Unpickled, it makes a folder."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (self.path,)


@pytest.fixture
def effect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """What a hostile file makes if it can; beside it lie a module, a repository and a pickle that make it too."""
    made = tmp_path / "effect"
    (tmp_path / "evil").mkdir()
    for name in ("evil_effects.py", "hubconf.py"):
        (tmp_path / "evil" / name).write_text(EVIL.format(effect=str(made)))
    (tmp_path / "evil" / "evil.pt").write_bytes(pickle.dumps(Effect(str(made))))
    monkeypatch.syspath_prepend(str(tmp_path / "evil"))
    monkeypatch.delenv("AUTOTUNE_EFFECT", raising=False)
    yield made
    sys.modules.pop("evil_effects", None)


def at(key: str, value: Any) -> dict[str, Any]:
    """A config with a value at a dotted key."""
    for part in reversed(key.split(".")):
        value = {part: value}
    assert isinstance(value, dict)
    return value


def made_by(name: str, /, **arguments: Any) -> dict[str, Any]:
    return {"_target_": name, **arguments}


SYSTEM = made_by("os.system", command="mkdir EFFECT")

# EFFECT and EVIL stand for the effect and for the folder with what is hostile.
HOSTILE: Mapping[str, dict[str, Any]] = {
    "os.system": at("model", SYSTEM),
    "os.mkdir for data": at("data", made_by("os.mkdir", path="EFFECT")),
    "os.makedirs for a schedule": at("schedule", made_by("os.makedirs", name="EFFECT")),
    "os.mkdir for an optimizer": at("optimizer", made_by("os.mkdir", path="EFFECT")),
    "os.putenv": at("model", made_by("os.environ.setdefault", key="AUTOTUNE_EFFECT", value="1")),
    "posix.mkdir": at("model", made_by("posix.mkdir", path="EFFECT")),
    "builtins.eval": at("model", made_by("builtins.eval", source="__import__('os').mkdir('EFFECT')")),
    "builtins.exec": at("model", made_by("builtins.exec", source="import os; os.mkdir('EFFECT')")),
    "subprocess.run": at("model", made_by("subprocess.run", args=["mkdir", "EFFECT"])),
    "shutil.copytree": at("model", made_by("shutil.copytree", src="EVIL", dst="EFFECT")),
    "torch.load": at("model", made_by("torch.load", f="EVIL/evil.pt", weights_only=False)),
    "torch.hub.load": at("model", made_by("torch.hub.load", repo_or_dir="EVIL", model="Net", source="local")),
    "torch.utils": at("model", made_by("torch.utils.cpp_extension.load", name="x", sources=["EVIL/x.cpp"])),
    "importlib": at("model", made_by("importlib.import_module", name="evil_effects")),
    "runpy": at("model", made_by("runpy.run_path", path_name="EVIL/evil_effects.py")),
    "an import that acts": at("model", made_by("evil_effects.Net")),
    "functools.partial": at("model", made_by("functools.partial", _args_=["os.mkdir", "EFFECT"])),
    "operator.call": at("model", made_by("operator.methodcaller", name="mkdir")),
    "hydra.utils.get_object": at("model", made_by("hydra.utils.get_object", path="evil_effects.Net")),
    "hydra.utils.instantiate": at("model", made_by("hydra.utils.instantiate", config=SYSTEM)),
    "hydra.utils.call of a part": at("model.activation", made_by("hydra.utils.call", config=SYSTEM)),
    "omegaconf": at("model", made_by("omegaconf.OmegaConf.save", config={}, f="EFFECT")),
    "chain through torch.nn": at("model", made_by("torch.nn.modules.module.torch.load", f="EVIL/evil.pt")),
    "chain through torch.optim": at("optimizer", made_by("torch.optim.optimizer.functools.partial", func="os.mkdir")),
    "chain through autotune": at(
        "model", made_by("autotune.trust.targets.importlib.import_module", name="evil_effects")
    ),
    "chain through what is given": at("model", made_by("autotune.given.importlib.import_module", name="evil_effects")),
    "chain through lightning": at("model", made_by("lightning.pytorch.trainer.trainer.os.mkdir", path="EFFECT")),
    "chain through a class": at("model", made_by("torch.nn.Linear.__init__.__globals__")),
    "a metaclass": at("model", made_by("torch.nn.Linear.__class__", name="x")),
    "a function of autotune's": at("model", made_by("autotune.kept.storage.OwnedJournal", path="EFFECT")),
    "a function of lightning's": at("model", made_by("lightning.pytorch.seed_everything", seed=1)),
    "a command line of lightning's": at("model", made_by("lightning.pytorch.cli.LightningCLI")),
    "data to be downloaded": at("data", made_by("lightning.pytorch.demos.mnist_datamodule.MNISTDataModule")),
    "weights to be loaded": at(
        "model", made_by("lightning.pytorch.LightningModule.load_from_checkpoint", checkpoint_path="EVIL/evil.pt")
    ),
    "in a list": at("trainer.callbacks", [SYSTEM]),
    "partial in a list": at("trainer.callbacks", [made_by("os.mkdir", _partial_=True, path="EFFECT")]),
    "deep in lists": at("model.hidden", [[{"deep": [SYSTEM]}]]),
    "within what is allowed": at("model", made_by("torch.nn.Sequential", _args_=[made_by("torch.nn.ReLU"), SYSTEM])),
    "a callback that writes": at(
        "trainer.callbacks", [made_by("lightning.pytorch.callbacks.ModelCheckpoint", dirpath="EFFECT")]
    ),
    "a logger that writes": at("trainer.logger", made_by("lightning.pytorch.loggers.CSVLogger", save_dir="EFFECT")),
    "a profiler that writes": at(
        "trainer.profiler", made_by("lightning.pytorch.profilers.SimpleProfiler", dirpath="EFFECT")
    ),
    "by interpolation": {**at("task.name", "os.mkdir"), **at("model", made_by("${task.name}", path="EFFECT"))},
    "the environment": at("model.note", "${oc.env:HOME}"),
    "the environment in a key's value": at("data", {"path": "a${oc.env:HOME}b"}),
    "text that is decoded": at("model.note", r"${oc.decode:'\${oc.env:HOME}'}"),
    "text that is made a config": at("model.note", "${oc.create:'{a: 1}'}"),
    "hydra's own": at("model.note", "${hydra:overrides.task}"),
    "a resolver by interpolation": {**at("task.name", "oc.env"), **at("model.note", "${${task.name}:HOME}")},
    "what to trust": {"allow_targets": ["os"], **at("model", SYSTEM)},
    "as little of it": {"allow_targets": "os.system", **at("model", SYSTEM)},
}


def filled(content: Any, effect: Path) -> Any:
    match content:
        case dict():
            return {key: filled(value, effect) for key, value in content.items()}
        case list():
            return [filled(value, effect) for value in content]
        case str():
            return content.replace("EFFECT", str(effect)).replace("EVIL", str(effect.with_name("evil")))
    return content


def assert_refused(ended: Ended, effect: Path) -> None:
    """One line, and nothing was done."""
    assert not effect.exists()
    assert "evil_effects" not in sys.modules
    assert "AUTOTUNE_EFFECT" not in os.environ
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("error: ")
    assert ended.err.count("\n") == 1
    assert os.environ["HOME"] not in ended.err.replace(str(effect.parent), "")


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_no_config_file_does_a_thing(content: dict[str, Any], effect: Path, tmp_path: Path) -> None:
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    text = yaml.safe_dump(filled(content, effect))
    (tmp_path / "mine" / "experiment" / "evil.yaml").write_text(f"# @package _global_\n{text}")
    before = files(tmp_path)
    assert_refused(run("search", "--config-dir", "mine", "experiment=evil", *TINY, cwd=tmp_path), effect)
    assert_refused(run("train", "--config-dir", "mine", "experiment=evil", cwd=tmp_path), effect)
    assert files(tmp_path) == before


def best(content: dict[str, Any], effect: Path) -> str:
    """A best.yaml as a search writes it, but for what is hostile."""
    whole = OmegaConf.merge(
        OmegaConf.create({**resolved(), "task": {}}), OmegaConf.create(deepcopy(filled(content, effect)))
    )
    return OmegaConf.to_yaml(whole)


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_no_best_yaml_does_a_thing(content: dict[str, Any], effect: Path, tmp_path: Path) -> None:
    (tmp_path / "best.yaml").write_text(best(content, effect))
    before = files(tmp_path)
    assert_refused(run("train", "from=best.yaml", "tracking=none", cwd=tmp_path), effect)
    assert files(tmp_path) == before


@pytest.mark.slow
def test_no_artifact_does_a_thing(effect: Path, tmp_path: Path) -> None:
    from autotune.tracking.store import Store

    store = Store(None, tmp_path / "mlruns")
    client, experiment = store.connect("autotune")
    runs = {}
    for name, content in HOSTILE.items():
        runs[name] = client.create_run(experiment, tags={"kind": "search"}).info.run_id
        client.log_text(runs[name], best(content, effect), "best.yaml")
    store.close()
    for run_id in runs.values():
        assert_refused(run("train", f"from={run_id}", cwd=tmp_path), effect)
    assert not (tmp_path / "mlruns" / "trained").exists()


def test_the_same_typed_is_the_users_own_word(effect: Path, tmp_path: Path) -> None:
    """Without which the tests above could not fail."""
    ended = run("search", *TINY, "model._target_=os.mkdir", f"+model.path={effect}", cwd=tmp_path)
    assert ended.err == "error: model.hidden: os.mkdir takes no argument hidden; known are dir_fd, mode, path\n"
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "evil.yaml").write_text(f"_target_: os.mkdir\npath: {effect}\n")
    ended = run("search", "--config-dir", "mine", *TINY, "model=evil", "allow_targets=[os.mkdir]", cwd=tmp_path)
    assert effect.is_dir()
    assert ended.err == "error: model._target_: os.mkdir makes no model; name an nn.Module or a LightningModule\n"


# What only files that Hydra composes can say.

GLOBAL = "# @package _global_\n"
COMPOSED = {
    "a callback of Hydra's": f"{GLOBAL}hydra: {{callbacks: {{x: {{_target_: evil_effects.Net}}}}}}\n",
    "a launcher": f"{GLOBAL}hydra: {{launcher: {{_target_: evil_effects.Net}}}}\n",
    "a logger": f"{GLOBAL}hydra: {{job_logging: {{version: 1, root: {{}}, handlers: {{x: {{(): os.mkdir}}}}}}}}\n",
    "an environment": f"{GLOBAL}hydra: {{job: {{env_set: {{AUTOTUNE_EFFECT: '1'}}}}}}\n",
    "a folder": f"{GLOBAL}hydra: {{run: {{dir: EFFECT}}}}\n",
    "a package to look in": f"{GLOBAL}hydra: {{searchpath: [pkg://evil_effects]}}\n",
    "hydra for a package": "# @package hydra.callbacks.x\n_target_: evil_effects.Net\n",
    "an option moved there": f"{GLOBAL}defaults: [/model@hydra.callbacks.x: mlp]\n",
    "another option of Hydra's": f"{GLOBAL}defaults: [override /hydra/launcher: basic]\n",
    "an option elsewhere": f"{GLOBAL}defaults: [override /model: ../../evil/secret]\n",
    "defaults that are none": f"{GLOBAL}defaults: {{a: b}}\n",
    "an option by the environment": f"{GLOBAL}defaults: ['override /model': '${{oc.env:HOME}}']\n",
    "a sampler": f"{GLOBAL}sampler: {{_target_: evil_effects.Net}}\n",
    "a pruner of a pruner": f"{GLOBAL}pruner: {{wrapped_pruner: {{_target_: evil_effects.Net}}}}\n",
    "an executor": f"{GLOBAL}executor: {{_target_: evil_effects.Net}}\n",
    "a tracker": f"{GLOBAL}tracking: {{_target_: evil_effects.Net}}\n",
    "a sampler of torch's": f"{GLOBAL}sampler: {{_target_: torch.nn.Linear}}\n",
    "one of several": f"{GLOBAL}model: {{_target_: 'choice(autotune.models.mlp.MLP, evil_effects.Net)'}}\n",
    "one of several, fixed": f"{GLOBAL}optimizer: {{sgd: {{_fix_: {{model._target_: evil_effects.Net}}}}}}\n",
    "a name that is a path": f"{GLOBAL}study: {{name: ../../effect}}\n",
    "Python's objects": f"{GLOBAL}model: !!python/object/apply:os.mkdir [EFFECT]\n",
    "Python's names": f"{GLOBAL}model: {{_target_: !!python/name:os.mkdir}}\n",
    "aliases that multiply": GLOBAL
    + "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
    + "".join(
        f"{now}: &{now} [{','.join([f'*{last}'] * 10)}]\n" for last, now in zip("abcdefg", "bcdefgh", strict=True)
    ),
    "an alias of itself": f"{GLOBAL}a: &a [*a]\n",
    "a bottomless list": f"{GLOBAL}a: {'[' * 100_000}\n",
    "no settings": "- hello\n",
    "the tracker's address": f"{GLOBAL}model: {{note: '${{tracking.uri}}'}}\n",
}
TOLD = {
    "a callback of Hydra's": "experiment/evil.yaml: it sets how Hydra runs the command; "
    "type hydra.<name>=... on the command line",
    "an option by the environment": "experiment/evil.yaml: ${oc.env:HOME} would be read from the environment, and be "
    "kept with every trial; write the value, or let your shell put it in; storage.url and tracking.uri alone may be "
    "typed as '${oc.env:NAME}'",
    "a sampler": "sampler._target_: evil_effects.Net is not allowed to be made; "
    "type allow_targets=[evil_effects] behind the command if you trust it",
    "a sampler of torch's": "sampler._target_: torch.nn.Linear makes no sampler; name one of optuna.samplers",
    "aliases that multiply": "experiment/evil.yaml: it is no YAML (it holds more than 100000 values); "
    "give a file of settings",
    "an alias of itself": "experiment/evil.yaml: it is no YAML (the alias a stands for nothing whole); "
    "give a file of settings",
    "a bottomless list": "experiment/evil.yaml: it is no YAML (it is nested more than 50 levels deep); "
    "give a file of settings",
    "Python's objects": "experiment/evil.yaml: it is no YAML (python/object/apply:os.mkdir is an object of Python's, "
    "not data); give a file of settings",
}


@pytest.mark.parametrize("name", COMPOSED)
def test_a_file_is_settings_alone(name: str, effect: Path, tmp_path: Path) -> None:
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "evil" / "secret.yaml").write_text("_target_: autotune.models.mlp.MLP\n")
    (tmp_path / "mine" / "experiment" / "evil.yaml").write_text(COMPOSED[name].replace("EFFECT", str(effect)))
    before = files(tmp_path)
    tiny = [each for each in TINY if not each.startswith(("study.name", "tracking"))]
    ended = run("search", "--config-dir", "mine", "experiment=evil", *tiny, cwd=tmp_path)
    assert_refused(ended, effect)
    assert files(tmp_path) == before
    if name in TOLD:
        assert ended.err == f"error: {TOLD[name]}\n"


def test_a_file_of_100_mb_is_not_read(effect: Path, tmp_path: Path) -> None:
    (tmp_path / "mine" / "model").mkdir(parents=True)
    for file in (tmp_path / "mine" / "model" / "large.yaml", tmp_path / "large.yaml"):
        with file.open("wb") as written:
            written.truncate(100_000_000)
    with mock.patch.object(Path, "read_text", side_effect=AssertionError("it is read")):
        ended = run("search", "--config-dir", "mine", "model=large", cwd=tmp_path)
        assert_refused(ended, effect)
        assert ended.err == "error: model/large.yaml: it is larger than 1000000 bytes; give a file of settings\n"
        ended = run("train", "from=large.yaml", cwd=tmp_path)
        assert ended.err == "error: from: large.yaml is larger than 1000000 bytes; give a best.yaml\n"


def test_aliases_of_ones_own_are_fine(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("_target_: autotune.models.mlp.MLP\nhidden: &h [4]\nnote: *h\n")
    assert compose("search", ["model=mine"], str(tmp_path)).model.note == [4]


# Which names.


@given(st.lists(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True), min_size=1, max_size=5).map(".".join))
def test_nothing_outside_the_prefixes_is_imported(name: str) -> None:
    imported: list[str] = []
    with mock.patch.object(importlib, "import_module", side_effect=imported.append), allowing(Allowed()):
        for section in ("model", "trainer.callbacks.0", "sampler", "anything"):
            if not covered(name, (*PREFIXES, "optuna")):
                with pytest.raises(UserError, match=" is not allowed to be made; "):
                    target(section, {"_target_": name})
    assert imported == []


@pytest.mark.parametrize(
    "name", ["torch.nnx.Linear", "torch.n", "lightning_evil.Net", "autotunes.Net", "optuna.samplersx.X", "torch"]
)
def test_prefixes_are_of_whole_parts(name: str) -> None:
    with allowing(Allowed(("mine",))):
        check_name("model", "mine.Net")
        check_name("model", "mine")
        for each in (name, "mines.Net"):
            with pytest.raises(UserError):
                check_name("model", each)


def test_each_kind_of_part_has_its_place() -> None:
    with allowing(Allowed()):
        assert target("trainer.callbacks.0", made_by("lightning.pytorch.callbacks.EarlyStopping")) is EarlyStopping
        strategy = target("trainer.strategy", made_by("lightning.pytorch.strategies.SingleDeviceStrategy"))
        assert strategy.__name__ == "SingleDeviceStrategy"
        assert target("optimizer", made_by("torch.optim.Adam")) is torch.optim.Adam
        for key, name, told in (
            ("model", "torch.optim.SGD", "makes no model; name an nn.Module or a LightningModule"),
            ("optimizer", "torch.nn.Linear", "makes no optimizer; name one of torch.optim"),
            ("schedule", "torch.nn.Linear", "makes no schedule; name one of autotune.optim.schedules"),
            ("executor", "autotune.tracking.none.NoTracker", "makes no executor; give executor=auto, population or"),
            ("tracking", "autotune.tracking.store.Store", "makes no tracker; give tracking=mlflow or none"),
            ("trainer.callbacks.0", "torch.nn.ReLU", "makes nothing that a Trainer takes; name a callback, strategy"),
            ("model.activation", "lightning.pytorch.callbacks.EarlyStopping", "makes no part of it; name an nn.Module"),
        ):
            with pytest.raises(UserError) as caught:
                target(key, made_by(name))
            assert str(caught.value).startswith(f"{key}._target_: {name} {told}")


def test_every_option_that_is_shipped_may_be_made() -> None:
    with allowing(Allowed()):
        sections = [
            (file.parent.name, OmegaConf.to_container(OmegaConf.load(file))) for file in conf_dir().glob("*/*.yaml")
        ]
        made = [target(group, found) for group, found in sections if isinstance(found, dict) and "_target_" in found]
    assert len(made) > 40


def test_what_writes_is_made_where_it_is_allowed_whole() -> None:
    section = made_by("lightning.pytorch.callbacks.ModelCheckpoint")
    told = (
        "trainer.callbacks.0._target_: lightning.pytorch.callbacks.ModelCheckpoint writes to wherever its arguments "
        "say; type allow_targets=[lightning.pytorch.callbacks.ModelCheckpoint] behind the command if you trust it"
    )
    with allowing(Allowed()), pytest.raises(UserError) as caught:
        target("trainer.callbacks.0", section)
    assert str(caught.value) == told
    with allowing(Allowed((section["_target_"],))):
        assert target("trainer.callbacks.0", section) is ModelCheckpoint


def test_a_prefix_is_for_what_is_defined_under_it() -> None:
    told = (
        r"^model._target_: tests.trust.test_targets.yaml is only imported there, and defined elsewhere; "
        r"type allow_targets=\[tests.trust.test_targets.yaml.YAMLObject\] behind the command if you trust it$"
    )
    with pytest.raises(UserError, match=told):
        target("model", made_by("tests.trust.test_targets.yaml.YAMLObject"))
    assert target("model", made_by("tests.trust.test_targets.Effect")) is Effect


# Who allows.


def test_what_is_typed_is_allowed() -> None:
    typed = Allowed.typed(
        [
            "allow_targets=[mine,other.module.Class]",
            "model._target_=a.Net",
            "optimizer._target_=choice(b.One,b.Two)",
            "+trainer.callbacks=[{_target_: c.Callback, inner: {_target_: 'd.Inner'}}]",
            "budget.trials=3",
            "~data",
        ]
    )
    assert typed.prefixes == ("mine", "other.module.Class")
    assert typed.names == {"a.Net", "b.One", "b.Two", "c.Callback", "d.Inner"}


@pytest.mark.parametrize("value", ["[1]", "[a..b]", "['a b']", "{a: 1}", "[${oc.env:HOME}]", "a,b"])
def test_only_names_can_be_allowed(value: str, tmp_path: Path) -> None:
    ended = run("search", f"allow_targets={value}", cwd=tmp_path)
    assert ended.code == 2
    assert ended.err.startswith("error: allow_targets: ")
    assert ended.err.count("\n") == 1


def test_what_is_allowed_goes_with_the_config_it_was_typed_for() -> None:
    config = compose("search", ["allow_targets=[mine]"])
    assert typed_with(config) == Allowed(("mine",))
    assert typed_with(deepcopy(config)) == Allowed()
    assert typed_with(compose("search", ["allow_targets=[]"])) == Allowed()


def test_a_program_allows_what_it_gives(tmp_path: Path) -> None:
    best = {**resolved(model=made_by("tests.trust.test_targets.Own")), "task": {}}
    (tmp_path / "best.yaml").write_text(yaml.safe_dump(best))
    with pytest.raises(
        UserError, match=r"tests.trust.test_targets.Own is not allowed to be made; type allow_targets=\[tests\]"
    ):
        autotune.run_train(tmp_path / "best.yaml", [f"home={tmp_path}"])
    with allowing(Allowed()):
        from autotune.given import model_section

        assert isinstance(construct("model", model_section(Own)), Own)
        assert isinstance(construct("model", {"_target_": "tests.trust.test_targets.Own"}), Own)


class Own(torch.nn.Module):
    """A user's own."""


# Secrets.

SECRET = "hunter2-SECRET"


@pytest.mark.parametrize("typed", ["${oc.env:TRACKER}", f"http://user:{SECRET}@127.0.0.1:9"])
@pytest.mark.slow
def test_the_secrets_of_an_address_are_written_nowhere(typed: str, tmp_path: Path) -> None:
    tiny = [each for each in TINY if not each.startswith("tracking")]
    address = f"http://user:{SECRET}@127.0.0.1:9"
    ended = run("search", *tiny, f"tracking.uri='{typed}'", "optimizer=adam", cwd=tmp_path, TRACKER=address)
    assert (ended.code, ended.err) == (0, "")
    assert SECRET not in ended.out
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"config.yaml", "search.log", "best.yaml"} <= {path.name for path in written}
    assert [path for path in written if SECRET.encode() in path.read_bytes()] == []


@pytest.mark.parametrize("typed", ["${oc.env:DB}", f"postgresql://user:{SECRET}@127.0.0.1:9/db"])
def test_the_secrets_of_a_database_are_not_said(typed: str, tmp_path: Path) -> None:
    address = f"nosuchdb://user:{SECRET}@127.0.0.1:9/db"
    typed = typed.replace("postgresql", "nosuchdb")
    ended = run("search", *TINY, "storage=rdb", f"storage.url='{typed}'", cwd=tmp_path, DB=address)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("error: storage.url: nosuchdb://***@127.0.0.1:9/db cannot be opened (")
    assert SECRET not in ended.err
    ended = run(
        "search", *TINY, "storage=rdb", f"storage.url='{typed}'", cwd=tmp_path, DB=address, HYDRA_FULL_ERROR="1"
    )
    assert SECRET not in ended.err


def test_a_multirun_keeps_no_secret(tmp_path: Path) -> None:
    address = f"storage.url='nosuchdb://user:{SECRET}@127.0.0.1:9/db'"
    tiny = [each for each in TINY if "name" not in each]
    ended = run("search", "--multirun", "optimizer=adam", "storage=rdb", address, *tiny, cwd=tmp_path)
    assert ended.code == 2
    assert SECRET not in ended.err
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert "multirun.yaml" in {path.name for path in written}
    assert [path for path in written if SECRET.encode() in path.read_bytes()] == []


@pytest.mark.slow
def test_a_later_job_of_a_multirun_makes_no_folder_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "cwd" / "mine" / "experiment").mkdir(parents=True)
    for option, name in (("one", "one"), ("two", "../../../outside")):
        text = f"{GLOBAL}study: {{name: {name}}}\n"
        (tmp_path / "cwd" / "mine" / "experiment" / f"{option}.yaml").write_text(text)
    tiny = [each for each in TINY if "name" not in each]
    typed = ["--multirun", "--config-dir", "mine", "experiment=one,two", "confirm.top=0", "optimizer=adam"]
    ended = run("search", *typed, *tiny, cwd=tmp_path / "cwd")
    assert ended.code == 2
    assert "study.name: ../../../outside cannot name a folder; " in ended.err
    assert (tmp_path / "cwd" / "mlruns" / "studies" / "one").is_dir()
    assert {path.name for path in tmp_path.iterdir()} == {"cwd"}


def test_the_environment_is_not_read_into_a_trial_by_a_detour(tmp_path: Path) -> None:
    for typed, line in (
        (
            ["+model.note='${storage.url}'", "storage=rdb", "storage.url='${oc.env:HOME}'"],
            "error: model.note: Interpolation key 'storage.url' not found; "
            "point the interpolation at a key that exists\n",
        ),
        (
            ["study.name='${oc.env:HOME}'"],
            "error: study.name: ${oc.env:HOME} would be read from the environment, and be kept with every trial; "
            "write the value, or let your shell put it in; storage.url and tracking.uri alone may be typed as "
            "'${oc.env:NAME}'\n",
        ),
    ):
        ended = run("search", *[each for each in TINY if "name" not in each], *typed, cwd=tmp_path)
        assert (ended.code, ended.err) == (2, line)
