from __future__ import annotations

import logging
import os
import random
import struct
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from autotune.errors import UserError
from autotune.executors import checkpoint
from autotune.executors.checkpoint import Identity, Keeper, Refused, checked, read, write
from autotune.executors.lightning import LightningExecutor
from autotune.executors.population import PopulationExecutor
from autotune.trial import Trial

from ..fakes import resolved

STATE = {"weights": torch.arange(12.0).view(3, 4), "epoch": 3, "memory": (0.5, None), "nan": float("nan")}


def identity(path: Path, width: int = 4, trained_by: str = "lightning on cpu", **changes: Any) -> Identity:
    network = nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width))
    return Identity.of(Trial(3, resolved(**changes), path), network, trained_by)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints" / "3.ckpt"


@pytest.fixture
def written(path: Path) -> bytes:
    write(path, STATE, identity(path))
    return path.read_bytes()


def refusal(path: Path, **other: Any) -> str:
    with pytest.raises(Refused) as refused:
        read(path, identity(path, **other))
    return str(refused.value)


# What is written is read.


@pytest.mark.usefixtures("written")
def test_what_is_written_is_read(path: Path) -> None:
    found = read(path, identity(path))
    assert torch.equal(found.pop("weights"), STATE["weights"])  # type: ignore[arg-type]
    assert str(found) == str({key: value for key, value in STATE.items() if key != "weights"})
    assert [each.name for each in path.parent.iterdir()] == ["3.ckpt"]


def test_what_is_not_there_is_not_refused(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read(path, identity(path))


def test_a_state_that_weights_only_would_not_read_is_not_written(path: Path) -> None:
    with pytest.raises(Refused, match="its state cannot be read back"):
        write(path, {"when": date(2020, 1, 1)}, identity(path), is_tried=False)
    assert not path.exists()


def test_no_object_is_made_of_a_file_whose_digest_is_right(path: Path, tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "made"),)

    write(path, {"hostile": Hostile()}, identity(path))
    assert refusal(path).startswith("cannot be read (")
    assert not (tmp_path / "made").exists()


# Whatever happens to the file is found.


def test_any_flipped_bit_is_found(path: Path, written: bytes) -> None:
    draw = random.Random(0)
    front = [(byte, bit) for byte in range(64) for bit in range(8)]
    behind = [(draw.randrange(64, len(written)), draw.randrange(8)) for _ in range(1000)]
    said = set()
    for byte, bit in (*front, *behind, (len(written) - 1, 7)):
        flipped = bytearray(written)
        flipped[byte] ^= 1 << bit
        path.write_bytes(flipped)
        said.add(refusal(path).split(":")[0].split(" of ")[0])
    assert said >= {"is no checkpoint", "is damaged", "is cut off"}


@settings(max_examples=200)
@given(data=st.data())
def test_bytes_that_are_changed_left_out_or_put_in_are_found(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("c") / "3.ckpt"
    write(path, STATE, identity(path))
    whole = path.read_bytes()
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(len(whole), start + 40)))
    changed = whole[:start] + data.draw(st.binary(max_size=40)) + whole[end:]
    path.write_bytes(changed)
    if changed != whole:
        refusal(path)


def test_a_file_that_is_cut_off_anywhere_is_named_as_such(path: Path, written: bytes) -> None:
    for length in (1, 19, 20, 63, 64, 65, len(written) // 2, len(written) - 1):
        path.write_bytes(written[:length])
        assert refusal(path).startswith("is cut off")
    body = len(written) - 64
    assert refusal(path) == f"is cut off: {body - 1} of {body} bytes are there"


@pytest.mark.parametrize("content", [b"", b"rubbish", b"PK\x03\x04" + bytes(100)])
def test_another_kind_of_file_is_named_as_such(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    assert refusal(path) == "is no checkpoint"


@pytest.mark.usefixtures("written")
def test_what_is_damaged_is_named_as_such(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"0")
    assert refusal(path) == "is damaged: its content is not what was written"


def test_another_format_is_named_as_such(path: Path, written: bytes) -> None:
    path.write_bytes(written[:20] + struct.pack("<I", 2) + written[24:])
    assert refusal(path) == "has format 2, and this version reads format 1"


def test_a_folder_in_its_place_is_named_as_such(path: Path) -> None:
    path.mkdir(parents=True)
    assert refusal(path).startswith("cannot be read (")


# What is another's is not taken up.


@pytest.mark.usefixtures("written")
def test_what_belongs_to_something_else_is_named_as_such(path: Path) -> None:
    assert refusal(path, width=5) == "is of another model: 0.weight was [4, 3] float32 and is [5, 3] float32"
    assert refusal(path, seed=1) == "is of another config"
    assert (
        refusal(path, trained_by="population on cpu")
        == "was written by lightning on cpu, and this is population on cpu"
    )
    other = path.with_name("4.ckpt")
    path.rename(other)
    assert refusal(other) == "is of trial 3"


@pytest.mark.usefixtures("written")
def test_a_model_with_a_further_part_is_another(path: Path) -> None:
    ours = identity(path)
    with pytest.raises(Refused, match=r"is of another model: more was not there and is \[1\] float32"):
        read(path, replace(ours, model={**ours.model, "more": "[1] float32"}))
    with pytest.raises(Refused, match=r"is of another model: 0.weight was \[4, 3\] float32 and is not there"):
        read(path, replace(ours, model={name: each for name, each in ours.model.items() if name != "0.weight"}))


@pytest.mark.usefixtures("written")
def test_another_version_is_named_as_such(path: Path) -> None:
    with pytest.raises(Refused, match=r"was written by autotune .*, and this is another"):
        read(path, replace(identity(path), versions="another"))


# The setting.


@pytest.mark.parametrize("executor", [LightningExecutor, PopulationExecutor])
@pytest.mark.parametrize("seconds", [-1, "often", True, float("nan"), float("inf")])
def test_what_are_no_seconds_is_refused(executor: Any, seconds: Any) -> None:
    with pytest.raises(UserError) as refused:
        executor(checkpoint_seconds=seconds)
    remedy = "give a number from 0 on, or null for no checkpoints"
    assert str(refused.value) == f"executor.checkpoint_seconds: {seconds} is no number of seconds; {remedy}"


def test_a_whole_number_beyond_all_floats_is_refused_too() -> None:
    with pytest.raises(UserError, match=r"^executor.checkpoint_seconds: 9{60}\.\.\.9{20} is no number of seconds; "):
        checked(10**400 - 1)


def test_null_is_for_none() -> None:
    assert checked(None) is None
    assert checked(2) == 2.0


# When.


def keeper(path: Path, seconds: float | None = 10) -> Keeper:
    made = Keeper.of(Trial(3, resolved(), path), seconds, nn.Linear(1, 1), "lightning on cpu")
    assert made is not None
    return made


def test_a_state_is_due_each_time_the_trial_was_trained_for_so_long(path: Path) -> None:
    ours = keeper(path)
    assert [ours.is_due(4) for _ in range(3)] == [False, False, True]
    ours.keep({})
    assert [ours.is_due(4) for _ in range(3)] == [False, False, True]


def test_nothing_is_kept_without_a_place_or_an_interval(path: Path) -> None:
    assert Keeper.of(Trial(3, resolved()), 10, nn.Linear(1, 1), "") is None
    assert Keeper.of(Trial(3, resolved(), path), None, nn.Linear(1, 1), "") is None


def test_what_was_measured_comes_with_the_state(path: Path) -> None:
    first = keeper(path)
    first.hear({"train/loss": 0.1})
    first.hear({"train/loss": 0.2, "val/loss": 1 / 3})
    first.keep({"weight": torch.ones(1)})
    second = keeper(path)
    found = second.found()
    assert found is not None
    assert torch.equal(found["weight"], torch.ones(1))
    one, other = second.goes_on()
    assert (one.number, one.epoch, other.epoch) == (3, 0, 1)
    assert str(one.metrics) == "{'train/loss': 0.1, 'val/loss': nan}"
    assert other.metrics == {"train/loss": 0.2, "val/loss": 1 / 3}


def test_a_disk_that_does_not_take_it_is_said_once(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device", str(path))

    ours = keeper(path)
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(checkpoint, "write_whole", full)
        ours.keep({})
        ours.keep({})
    assert [record.getMessage() for record in caplog.records] == [
        f"trial 3 trains on without a checkpoint: [Errno 28] No space left on device: '{path}'"
    ]
    ours.keep({})  # there is room again
    assert keeper(path).found() == {}


def test_a_state_that_cannot_be_kept_is_not_tried_again(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ours = keeper(path)
    ours.keep({"when": date(2020, 1, 1)})
    assert "trial 3 trains on without a checkpoint: its state cannot be read back" in caplog.text
    assert not ours.is_due(1e9)
