"""What is said of a mistake, the user's own or of the user's code."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from autotune.errors import LONGEST, UserError, in_one_line, place


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("no such size"), "ValueError: no such size"),
        (ValueError("two\n  lines"), "ValueError: two lines"),
        (LookupError(), "LookupError"),
        (KeyError("a"), "KeyError: 'a'"),
        (ValueError("bell \a"), "ValueError: bell \\x07"),
        (ValueError(f"sizes {[1, 2, 3]}"), "ValueError: sizes [1, 2, 3]"),
        (ValueError(f"no label in {torch.arange(100)} here"), "ValueError: no label in tensor([ 0, 1, 2, ...]) here"),
        (ValueError(f"bad {numpy.ones((40, 40)) / 8}"), "ValueError: bad [[0.125 0.125 0.125, ...]]"),
    ],
)
def test_what_an_exception_says_in_one_line(error: Exception, said: str) -> None:
    assert in_one_line(error).startswith(said)
    assert len(in_one_line(error)) < len(said) + 80


@given(st.text(max_size=3000))
def test_it_is_always_one_short_line(message: str) -> None:
    said = in_one_line(ValueError(message))
    assert said.isprintable() or "\n" not in said
    assert len(said) <= LONGEST
    assert said.startswith("ValueError") or "Traceback" in message


def test_an_array_in_a_mistake_of_the_users_is_cut_too() -> None:
    error = UserError("data", f"{numpy.arange(500.0)} makes nothing", "give a class")
    assert str(error) == "data: [ 0. 1. 2., ...] makes nothing; give a class"


def raised(call: Any) -> Exception:
    try:
        call()
    except Exception as error:
        return error
    raise AssertionError


class Short(torch.utils.data.Dataset[int]):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> int:
        return [1, 2][index]


def test_the_place_is_the_innermost_line_of_the_users_code() -> None:
    def build() -> object:
        return torch.nn.Linear(3, 2)(torch.zeros(1, 4))

    line = build.__code__.co_firstlineno + 1
    assert place(raised(build)) == f"{Path(__file__).relative_to(Path.cwd())}, line {line}, in build"


def test_the_place_and_the_message_of_what_a_worker_of_a_dataloader_raised() -> None:
    error = raised(lambda: list(DataLoader(Short(), num_workers=1)))
    assert in_one_line(error) == "IndexError: list index out of range"
    line = Short.__getitem__.__code__.co_firstlineno + 1
    assert place(error) == f"{Path(__file__).relative_to(Path.cwd())}, line {line}, in __getitem__"


def test_the_place_of_a_mistake_in_what_python_cannot_read(tmp_path: Path) -> None:
    file = tmp_path / "broken.py"
    file.write_text(
        textwrap.dedent("""
        def net(:
            pass
    """)
    )
    error = raised(lambda: compile(file.read_text(), str(file), "exec"))
    assert place(error) == f"{file}, line 2"


def test_what_was_not_raised_has_no_place() -> None:
    assert place(ValueError("made")) is None
