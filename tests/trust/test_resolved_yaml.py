"""A resolved config written and read back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from autotune.trust import resolved_yaml

TEXTS = st.text(st.characters(codec="utf-8")) | st.text("0123456789.eE+-_:xo", max_size=8) | st.text("\\${}ab")
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
VALUES = st.recursive(SCALARS, lambda each: st.lists(each, max_size=3) | st.dictionaries(TEXTS, each, max_size=3))


def as_typed(value: Any) -> Any:
    """Told apart are 1, 1.0 and true too."""
    return repr(value)


@given(VALUES)
def test_what_is_written_reads_back_as_the_same_values(value: Any) -> None:
    read = resolved_yaml.load(resolved_yaml.dump({"value": value}))
    assert as_typed(read) == as_typed({"value": resolved_yaml.escaped(value)})
    assert resolved_yaml.load(resolved_yaml.written(read)) == read


@given(TEXTS)
def test_no_text_is_an_interpolation(text: str) -> None:
    read = resolved_yaml.escaped({"text": text})
    assert OmegaConf.create(read).text == text
    assert not resolved_yaml.is_interpolated(read["text"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [("${x}", True), (r"\${x}", False), (r"\\${x}", True), (r"\${x}${y}", True), ("$x", False), ("x", False)],
)
def test_interpolations_are_told_from_what_is_escaped(text: str, expected: bool) -> None:
    assert resolved_yaml.is_interpolated(text) is expected
