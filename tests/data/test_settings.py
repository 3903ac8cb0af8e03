"""The files in conf/data: what they make, and what is refused before any data is read."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from autotune.compose import compose, conf_dir, plain
from autotune.construct import construct
from autotune.data.csv import Csv
from autotune.data.files import FileSource
from autotune.data.source import Source, split
from autotune.errors import UserError
from autotune.space import Space, check

from .tables import rows, written
from .test_idx import folder as idx_folder
from .test_images import folder as image_folder

FILES = sorted(path for path in (conf_dir() / "data").glob("*.yaml"))


def made(overrides: list[str]) -> Source:
    space = Space(plain(compose("train", overrides)))
    check(space)
    section = space.resolve({})["data"]
    source = construct("data", {key: value for key, value in section.items() if key != "batch_size"})
    assert isinstance(source, Source)
    return source


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_each_file_names_every_setting_with_its_default(file: Path) -> None:
    section = OmegaConf.to_container(OmegaConf.load(file))
    assert isinstance(section, dict)
    target = construct_class(section["_target_"])
    said = {key: value for key, value in section.items() if key not in ("name", "_target_", "batch_size")}
    known = {each.name: each.default for each in fields(target) if each.init}
    follows = {"idx": {"task", "test"}, "images": {"task"}}.get(file.stem, set())  # from the folder
    assert set(said) == set(known) - follows
    conf_alone = {"path", "target", "task", "missing", "workers"}
    for key, value in said.items():
        default = known[key]
        if key not in conf_alone:
            assert (list(default) if isinstance(default, tuple) else default) == value, key


def construct_class(name: str) -> type:
    module, _, last = name.rpartition(".")
    return getattr(__import__(module, fromlist=[last]), last)  # type: ignore[no-any-return]


def test_a_table_by_its_file_in_conf(tmp_path: Path) -> None:
    path = written(tmp_path, rows())
    source = made(["data=csv", f"data.path={path}", "data.target=price", "data.drop=[garden]", "data.delimiter=','"])
    assert isinstance(source, Csv)
    assert (source.drop, source.delimiter, source.workers) == (("garden",), ",", 2)
    assert "NaN" in source.missing
    assert all(isinstance(text, str) for text in source.missing)
    assert split(source).task == "regression"
    labels = made(["data=csv", f"data.path={path}", "data.target=[garden,rooms]"])
    assert labels.target == ("garden", "rooms")  # type: ignore[attr-defined]


def test_folders_by_their_files_in_conf(tmp_path: Path) -> None:
    images = made(["data=images", f"data.path={image_folder(tmp_path)}", "data.channels=1"])
    assert split(images).input_shape == (1, 32, 32)
    numbers = made(["data=idx", f"data.path={idx_folder(tmp_path)}", "data.limit=20"])
    assert isinstance(numbers, FileSource)
    assert len(split(numbers).train) == 16
    assert split(made(["data=digits", "data.images=true"])).input_shape == (1, 8, 8)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data=csv", "data.target=a"], "data.path: None is not right here; give the path of your data: data.path=..."),
        (
            ["data=csv", "data.path=a"],
            "data.target: None is not right here; give the name of a column: data.target=...",
        ),
        (
            ["data=csv", "data.path=a", "data.target=[]"],
            "data.target: [] is not right here; give the name of a column: data.target=...",
        ),
        (
            ["data=csv", "data.path=a", "data.target=a", "data.levels=0"],
            "data.levels: 0 is not right here; give a whole number above 0",
        ),
        (
            ["data=csv", "data.path=a", "data.target=a", "data.delimiter=tab"],
            "data.delimiter: tab is not right here; give one character, or null",
        ),
        (
            ["data=csv", "data.path=a", "data.target=a", "data.drop=true"],
            "data.drop: True is not right here; give a list of columns: [a,b]",
        ),
        (
            ["data=csv", "data.path=a", "data.target=a", "data.workers=-1"],
            "data.workers: -1 is not right here; give a whole number from 0 on",
        ),
        (
            ["data=csv", "data.path=a", "data.target=a", "data.in_memory_limit=2.5"],
            "data.in_memory_limit: 2.5 is not right here; give a whole number of bytes from 0 on",
        ),
        (
            ["data=csv", "data.path=a", "data.target=a", "data.drop_missing_target=maybe"],
            "data.drop_missing_target: maybe is not right here; give true or false",
        ),
        (
            ["data=idx", "data.path=a", "data.limit=0"],
            "data.limit: 0 is not right here; give a whole number above 0, or null",
        ),
        (
            ["data=images", "data.path=a", "data.size=0"],
            "data.size: 0 is not right here; give a whole number of pixels from 1 to 4096",
        ),
        (
            ["data=images", "data.path=a", "data.channels=4"],
            "data.channels: 4 is not right here; give 3 for colour, 1 for grey",
        ),
        (["data.images=2"], "data.images: 2 is not right here; give true or false"),
    ],
)
def test_what_is_not_right_is_refused_before_any_data_is_read(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        made(overrides)
    assert str(caught.value) == message
