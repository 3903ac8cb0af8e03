from __future__ import annotations

import pickle
from pathlib import Path

import numpy
import pytest

from autotune.data import cache
from autotune.data.cache import cached
from autotune.data.rows import MappedRows, SelectedRows, chunks


@pytest.fixture
def stored(tmp_path: Path) -> tuple[numpy.ndarray, MappedRows]:
    numbers = numpy.arange(60, dtype="f8").reshape(20, 3)
    path = tmp_path / "numbers"
    path.write_bytes(b"head" + numbers.tobytes())
    return numbers, MappedRows(path, "f8", (20, 3), offset=4)


@pytest.mark.parametrize("rows", [slice(3, 9), numpy.array([7, 0, 7]), slice(None)], ids=["slice", "numbers", "all"])
def test_rows_of_a_file_are_indexed_as_an_array(stored: tuple[numpy.ndarray, MappedRows], rows: object) -> None:
    numbers, mapped = stored
    assert (len(mapped), mapped.shape) == (20, (20, 3))
    assert numpy.array_equal(mapped[rows], numbers[rows])  # type: ignore[index]


def test_rows_of_a_file_are_sent_to_another_process_by_the_file_s_name(
    stored: tuple[numpy.ndarray, MappedRows],
) -> None:
    numbers, mapped = stored
    mapped[:2]
    sent = pickle.dumps(mapped)
    assert len(sent) < numbers.nbytes
    assert numpy.array_equal(pickle.loads(sent)[:], numbers)


def test_selected_rows_are_taken_from_the_others_in_their_order(stored: tuple[numpy.ndarray, MappedRows]) -> None:
    numbers, mapped = stored
    some = SelectedRows(mapped, numpy.array([5, 1, 9, 0]))
    assert some.shape == (4, 3)
    assert numpy.array_equal(some[1:3], numbers[[1, 9]])
    assert numpy.array_equal(some[numpy.array([3, 0])], numbers[[0, 5]])


@pytest.mark.parametrize("length", [1, 7, 20, 50])
def test_chunks_are_all_rows_in_order(stored: tuple[numpy.ndarray, MappedRows], length: int) -> None:
    numbers, mapped = stored
    assert numpy.array_equal(numpy.concatenate(list(chunks(mapped, length))), numbers)
    assert all(len(chunk) <= length for chunk in chunks(mapped, length))


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(cache.tempfile, "tempdir", str(folder))
    return folder


def keep(word: str, times: list[str]) -> object:
    def write(folder: Path) -> None:
        times.append(word)
        (folder / "word").write_text(word)

    return write


def test_what_is_made_of_a_file_is_made_once(temporary: Path, tmp_path: Path) -> None:
    times: list[str] = []
    for _ in range(3):
        made = cached(tmp_path / "file", 1, "options", keep("one", times))  # type: ignore[arg-type]
    assert times == ["one"]
    assert (made / "word").read_text() == "one"
    assert made.parent.parent == temporary
    assert made.parent.stat().st_mode & 0o77 == 0, "no other user may put files there"


def test_a_changed_file_is_made_anew_and_what_was_made_of_it_before_is_removed(temporary: Path, tmp_path: Path) -> None:
    times: list[str] = []
    first = cached(tmp_path / "file", 1, "options", keep("one", times))  # type: ignore[arg-type]
    beside = cached(tmp_path / "other", 1, "options", keep("other", times))  # type: ignore[arg-type]
    second = cached(tmp_path / "file", 2, "options", keep("two", times))  # type: ignore[arg-type]
    differently = cached(tmp_path / "file", 2, "others", keep("three", times))  # type: ignore[arg-type]
    assert (second / "word").read_text() == "two"
    assert not first.exists()
    assert set(temporary.glob("*/*")) == {beside, second, differently}


def test_what_fails_while_it_is_made_leaves_nothing(temporary: Path, tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise KeyError("full")

    with pytest.raises(KeyError):
        cached(tmp_path / "file", 1, "", fail)
    assert [path for path in temporary.rglob("*") if path.is_file()] == []


def test_another_process_may_be_faster(temporary: Path, tmp_path: Path) -> None:
    times: list[str] = []

    def write(folder: Path) -> None:
        cached(tmp_path / "file", 1, "", keep("theirs", times))  # type: ignore[arg-type]
        (folder / "word").write_text("mine")

    made = cached(tmp_path / "file", 1, "", write)
    assert (made / "word").read_text() == "theirs"
    assert list(temporary.glob("*/*")) == [made]
