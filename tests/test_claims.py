"""Names by the clock: each is given once."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest

from autotune.claims import claim, named_by_clock
from autotune.compose import compose


def test_the_first_has_the_wanted_name_and_the_others_a_number(tmp_path: Path) -> None:
    wanted = tmp_path / "studies" / "search-20261201-051009"
    assert [claim(wanted) for _ in range(3)] == [wanted.name, f"{wanted.name}_2", f"{wanted.name}_3"]
    assert all(path.is_dir() for path in (wanted, wanted.with_name(f"{wanted.name}_3")))


def test_of_many_at_once_no_two_have_one_name(tmp_path: Path) -> None:
    wanted = [tmp_path / "s"] * 40
    with ThreadPoolExecutor(8) as threads:
        names = list(threads.map(claim, wanted))
    with ProcessPoolExecutor(4, multiprocessing.get_context("spawn")) as processes:
        names += processes.map(claim, wanted)
    assert len(set(names)) == 80 == len(list(tmp_path.iterdir()))


def test_a_multirun_takes_its_name_by_the_folder_of_its_first_search(tmp_path: Path) -> None:
    assert [claim(tmp_path / "s", "-0") for _ in range(2)] == ["s", "s_2"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s-0", "s_2-0"]


@pytest.mark.parametrize(
    ("name", "by_clock", "alone"),
    [
        (None, True, True),
        ("mine", False, False),
        ("'${now:%H}-${seed}'", True, False),
        ("'of-${seed}'", False, False),
        ("search-20261201-051009", False, False),
    ],
)
def test_a_name_is_the_clocks_where_it_says_the_time(name: str | None, by_clock: bool, alone: bool) -> None:
    config = compose("search", [] if name is None else [f"study.name={name}"])
    assert named_by_clock(config, "study") == by_clock
    assert named_by_clock(config, "study", alone=True) == alone
    assert not named_by_clock(config, "train")
