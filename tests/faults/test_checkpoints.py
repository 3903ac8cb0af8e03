"""kill -9 of a search whose trials are long: they go on from their checkpoints, and come to what they would have."""

from __future__ import annotations

import json
import random
import signal
from collections import Counter
from pathlib import Path

import pytest

from autotune.kept.outcome import read
from autotune.trial import Record

from ..commands import start, wait
from .searching import assert_nothing_is_lost, draw, until

pytestmark = pytest.mark.slow

# Of two trials with all that has a state of its own. They take some seconds each.
LONG = (
    *("trainer.accelerator=cpu", "trainer.max_epochs=60", "budget.trials=2", "model.hidden=[24]", "model.dropout=0.2"),
    *("model.batch_norm=true", "data.batch_size=64", "optimizer=adam", "optimizer.lr=tag(log,interval(1e-4,1e-3))"),
    *("schedule=plateau", "trainer.ema=0.9", "trainer.gradient_clip_val=1.0", "objective.metric=val/loss"),
    *("pruner=none", "executor.slots=1", "executor.checkpoint_seconds=0.05"),
    # In float32 rounding errors grow from epoch to epoch, where a lane is computed in another way than before.
    "trainer.precision=64-true",
)


def typed(study: str, executor: str, *more: str) -> list[str]:
    slots = executor != "lightning"
    long = [each for each in LONG if slots or not each.startswith("executor.slots")]
    return [*long, f"executor={executor}", f"study.name={study}", *more]


def kill(arguments: list[str], cwd: Path, study: Path) -> None:
    """Search until there is a checkpoint that was not there before, and a bit longer; then kill it."""
    before = stamps(study)
    process = start("search", *arguments, cwd=cwd)
    until(lambda: bool(stamps(study) - before) or process.poll() is not None)
    process.send_signal(signal.SIGKILL)
    ended = wait(process)
    assert ended.code == -signal.SIGKILL, ended


def stamps(study: Path) -> set[tuple[str, int]]:
    found = set()
    for path in (study / "checkpoints").glob("*.ckpt"):
        try:
            found.add((path.name, path.stat().st_mtime_ns))
        except FileNotFoundError:
            continue
    return found


def end(arguments: list[str], cwd: Path) -> str:
    """Search to the end; what is said."""
    ended = wait(start("search", *arguments, cwd=cwd))
    assert ended.code == 0, ended
    return ended.out + ended.err


def assert_no_epoch_is_told_twice(study: Path) -> None:
    operations = [json.loads(line) for line in (study / "study.journal").read_text().splitlines()]
    told = Counter((each["trial_id"], each["step"]) for each in operations if "intermediate_value" in each)
    assert max(told.values()) == 1
    assert len(told) == 2 * 60


def came_to(records: list[Record], to_the_digit: bool) -> list[object]:
    exact = [(each.number, each.params, each.state, each.curves) for each in records]
    within = [
        (
            number,
            params,
            state,
            # Metrics are computed in float32, which has 7 digits.
            {name: pytest.approx(list(curve), rel=1e-6, abs=1e-6) for name, curve in curves.items()},
        )
        for number, params, state, curves in exact
    ]
    return list(exact if to_the_digit else within)


@pytest.mark.parametrize("executor", ["lightning", "population"])
def test_long_trials_go_on_where_they_were(executor: str, tmp_path: Path) -> None:
    home = tmp_path / "mlruns"
    study = home / "studies" / "killed"
    end(typed("whole", executor), tmp_path)
    arguments = typed("killed", executor)
    for _ in range(2):
        kill(arguments, tmp_path, study)
    assert "goes on after" in end(arguments, tmp_path)
    # The way in which a lane is computed is measured, and its last digits may be another's.
    expected = came_to(read("whole", home).records, executor == "lightning")
    assert [(each.number, each.params, each.state, each.curves) for each in read("killed", home).records] == expected
    assert_no_epoch_is_told_twice(study)
    assert not (study / "checkpoints").exists()
    assert_nothing_is_lost(home)


def test_a_flipped_bit_is_named_and_the_trial_trained_anew(tmp_path: Path) -> None:
    chance = draw("flipped bit")
    home = tmp_path / "mlruns"
    study = home / "studies" / "killed"
    arguments = typed("killed", "lightning")
    kill(arguments, tmp_path, study)
    (path,) = (study / "checkpoints").glob("*.ckpt")
    flip(path, chance)
    (said,) = [line for line in end(arguments, tmp_path).splitlines() if ".ckpt" in line]
    assert said.endswith(f"trial {path.stem} is trained from the start")
    assert str(path.relative_to(tmp_path)) in said
    assert_no_epoch_is_told_twice(study)
    assert_nothing_is_lost(home)


def flip(path: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def test_a_study_begun_anew_takes_nothing_up(tmp_path: Path) -> None:
    home = tmp_path / "mlruns"
    study = home / "studies" / "killed"
    arguments = typed("killed", "lightning")
    kill(arguments, tmp_path, study)
    kept = stamps(study)
    assert "goes on after" not in end([*arguments, "study.resume=fresh"], tmp_path)
    assert stamps(home / "studies" / "killed.1") == kept
    aside = end(typed("killed.1", "lightning"), tmp_path)
    assert "goes on after" in aside  # which it is for the study that was set aside
    assert_nothing_is_lost(home)
