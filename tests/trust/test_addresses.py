"""Addresses of servers and databases: typed or the environment's, and never a file's."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

import pytest

from autotune.compose import compose
from autotune.errors import UserError
from autotune.trust.addresses import in_folder

from ..commands import files, run

GLOBAL = "# @package _global_\n"
EVIL = "http://evil.example:1"
TRACKING = f"_target_: autotune.tracking.mlflow.MlflowTracker\nexperiment: a\nuri: {EVIL}\n"

# The command, what is typed, the files of a config folder, and the one that is named.
FILES: Mapping[str, tuple[str, list[str], dict[str, str], str]] = {
    "an experiment": (
        "search",
        ["experiment=e"],
        {"experiment/e.yaml": f"{GLOBAL}tracking: {{uri: {EVIL}}}\n"},
        "experiment/e.yaml",
    ),
    "another command": (
        "train",
        ["experiment=e"],
        {"experiment/e.yaml": f"{GLOBAL}tracking: {{uri: {EVIL}}}\n"},
        "experiment/e.yaml",
    ),
    "an interpolation": (
        "search",
        ["experiment=e"],
        {"experiment/e.yaml": f"{GLOBAL}tracking: {{uri: '${{data.path}}'}}\ndata: {{path: '{EVIL}'}}\n"},
        "experiment/e.yaml",
    ),
    "a section by interpolation": (
        "search",
        ["experiment=e"],
        {"experiment/e.yaml": f"{GLOBAL}x: {{uri: {EVIL}, experiment: a}}\ntracking: ${{x}}\n"},
        "experiment/e.yaml",
    ),
    "a package": (
        "search",
        ["experiment=e"],
        {"experiment/e.yaml": f"# @package tracking\nuri: {EVIL}\n"},
        "experiment/e.yaml",
    ),
    "an option": ("search", ["tracking=e"], {"tracking/e.yaml": TRACKING}, "tracking/e.yaml"),
    "an option in the place of ours": ("search", [], {"tracking/mlflow.yaml": TRACKING}, "tracking/mlflow.yaml"),
    "the defaults of another group": (
        "search",
        ["model=m"],
        {"model/m.yaml": "defaults: [mlp, /where@_global_.storage: e]\n", "where/e.yaml": f"url: {EVIL}\n"},
        "where/e.yaml",
    ),
    "the command's own file": (
        "search",
        [],
        {"search.yaml": f"defaults: [/tracking: mlflow, _self_]\ntracking: {{uri: {EVIL}}}\n"},
        "search.yaml",
    ),
    "that of sync": ("sync", [], {"sync.yaml": f"from: all\nhome: mlruns\nuri: {EVIL}\n"}, "sync.yaml"),
    "a database": (
        "search",
        ["storage=rdb"],
        {"storage/rdb.yaml": f"name: rdb\nurl: {EVIL}\n"},
        "storage/rdb.yaml",
    ),
}


def write(folder: Path, content: Mapping[str, str]) -> str:
    for name, text in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return str(folder)


@pytest.mark.parametrize("name", FILES)
def test_an_address_in_a_file_is_refused_until_it_is_typed(name: str, tmp_path: Path) -> None:
    command, typed, content, named = FILES[name]
    folder = write(tmp_path, content)
    with pytest.raises(UserError) as refused:
        compose(command, typed, folder)
    assert refused.value.problem.startswith(f"{named} names {EVIL}, and an address is not taken from a file: ")
    (override,) = shlex.split(refused.value.remedy.removeprefix("type it if you trust it: "))
    assert override == f"{refused.value.key}={EVIL}"
    if name != "a section by interpolation":
        compose(command, [*typed, override], folder)


@pytest.mark.parametrize("address", ["http://evil/a b", "http://evil/a,b", "http://evil/[x]", "http://evil/it's"])
def test_the_override_that_is_printed_is_read_as_it_was(address: str, tmp_path: Path) -> None:
    text = f'{GLOBAL}tracking: {{uri: "{address}"}}\n'
    folder = write(tmp_path, {"experiment/e.yaml": text})
    with pytest.raises(UserError) as refused:
        compose("search", ["experiment=e"], folder)
    (override,) = shlex.split(refused.value.remedy.removeprefix("type it if you trust it: "))
    assert compose("search", ["experiment=e", override], folder).tracking.uri == address


@pytest.mark.parametrize("typed", ["${data.path}", "${oc.env:NAME,${data.path}}", "${oc.select:data.path}"])
def test_what_is_typed_does_not_lead_to_a_file(typed: str, tmp_path: Path) -> None:
    folder = write(tmp_path, {"experiment/e.yaml": f"{GLOBAL}data: {{path: '{EVIL}'}}\n"})
    with pytest.raises(UserError, match=r"^tracking.uri: .* leads to what a file may say, and an address is not "):
        compose("search", ["experiment=e", f"tracking.uri='{typed}'"], folder)


def test_the_passwords_of_an_address_are_not_said(tmp_path: Path) -> None:
    folder = write(tmp_path, {"experiment/e.yaml": f"{GLOBAL}tracking: {{uri: 'http://me:hunter2@evil'}}\n"})
    with pytest.raises(UserError) as refused:
        compose("search", ["experiment=e"], folder)
    assert "http://***@evil" in str(refused.value)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    "typed",
    [
        ["storage=sqlite"],
        ["storage=rdb"],
        ["storage=rdb", "storage.url='sqlite:///${home}/${study.name}.db'"],
        ["tracking.uri=null"],
        ["tracking.uri='${oc.env:NAME}'"],
    ],
)
def test_ours_and_what_is_typed_are_fine(typed: list[str]) -> None:
    compose("search", typed)


def test_a_later_job_of_a_multirun_is_checked_too(tmp_path: Path) -> None:
    content = {"experiment/e.yaml": f"{GLOBAL}tracking: {{uri: {EVIL}}}\n", "experiment/d.yaml": f"{GLOBAL}seed: 1\n"}
    write(tmp_path / "mine", content)
    ended = run("search", "--multirun", "--config-dir", "mine", "experiment=e,d", cwd=tmp_path)
    assert ended.code == 2
    assert ended.err.startswith(f"error: tracking.uri: experiment/e.yaml names {EVIL}, ")
    assert not [name for name in files(tmp_path) if name.startswith("mlruns")]


def test_a_database_in_a_folder(tmp_path: Path) -> None:
    assert in_folder(f"sqlite:///{tmp_path}/study.db", tmp_path)
    for elsewhere in (
        f"sqlite:///{tmp_path}/../x.db",
        f"sqlite:///{tmp_path}/a.db?uri=true",
        f"sqlite:///{tmp_path}/%2e%2e/x.db",
        f"sqlite+pysqlcipher:///{tmp_path}/x.db",
        f"postgresql://host{tmp_path}",
        "sqlite://",
    ):
        assert not in_folder(elsewhere, tmp_path)
