"""What reaches the terminal and what the log file."""

from __future__ import annotations

import logging
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from autotune.logs import LIBRARIES, hush_libraries, logging_to, measuring

OURS = logging.getLogger("autotune.somewhere")


@pytest.fixture(autouse=True)
def untouched() -> Iterator[None]:
    """The libraries' loggers as they were."""
    loggers = [logging.getLogger(name) for name in LIBRARIES]
    before = [(logger.level, logger.propagate, logger.handlers) for logger in loggers]
    yield
    for logger, (level, propagate, handlers) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.propagate, logger.handlers = propagate, handlers


TALKS = """
import logging, sys
from pathlib import Path
from autotune.logs import logging_to
with logging_to(Path(sys.argv[1])):
    for number in range(5):
        logging.getLogger("autotune.somewhere").info("line %d", number)
        if number == 0:
            sys.stdin.readline()
"""


def test_where_nobody_reads_on_the_command_goes_on_without_a_word(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", TALKS, str(tmp_path / "a.log")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline() == "line 0\n"
        process.stdout.close()
        process.stdin.write("go on\n")
        process.stdin.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0
    assert [line[-6:] for line in (tmp_path / "a.log").read_text().splitlines()] == [f"line {n}" for n in range(5)]


def test_our_lines_reach_the_terminal_as_they_are_and_the_file_with_their_time_and_details(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with logging_to(tmp_path / "a.log"):
        OURS.info("said %d", 1)
        OURS.debug("thought")
    assert capsys.readouterr() == ("said 1\n", "")
    said, detail = (tmp_path / "a.log").read_text().splitlines()
    assert said.endswith(" INFO    autotune.somewhere: said 1")
    assert detail.endswith(" DEBUG   autotune.somewhere: thought")


def test_others_reach_the_file_alone_and_only_with_warnings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with logging_to(tmp_path / "a.log"):
        logging.getLogger("lightning.pytorch").info("chatter")
        logging.getLogger("lightning.pytorch").warning("a library's warning")
        logging.getLogger("elsewhere").warning("another's")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("a Python warning", UserWarning, stacklevel=1)
    assert capsys.readouterr() == ("", "")
    log = (tmp_path / "a.log").read_text()
    assert "chatter" not in log
    assert all(said in log for said in ("a library's warning", "another's", "UserWarning: a Python warning"))


def test_a_library_that_set_itself_up_is_hushed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    library = logging.getLogger("lightning.pytorch")
    with logging_to(tmp_path / "a.log"):
        library.addHandler(logging.StreamHandler(sys.stderr))
        library.propagate = False
        library.setLevel(logging.DEBUG)
        hush_libraries()
        library.info("chatter")
        library.warning("a warning")
    assert capsys.readouterr() == ("", "")
    log = (tmp_path / "a.log").read_text()
    assert ("chatter" in log, "a warning" in log) == (False, True)


def test_afterwards_all_is_as_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, ours = logging.getLogger(), logging.getLogger("autotune")
    before = [(logger.level, list(logger.handlers)) for logger in (root, ours)]
    showwarning = warnings.showwarning

    def fail() -> None:
        with logging_to(tmp_path / "a.log"):
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert [(logger.level, list(logger.handlers)) for logger in (root, ours)] == before
    assert warnings.showwarning is showwarning
    OURS.info("said too late")
    assert capsys.readouterr() == ("", "")


def test_the_file_is_written_on_and_is_not_made_for_nothing(tmp_path: Path) -> None:
    with logging_to(tmp_path / "a.log"):
        pass
    assert not (tmp_path / "a.log").exists()
    for said in ("first", "second"):
        with logging_to(tmp_path / "a.log"):
            OURS.info(said)
    assert [line[-6:].strip() for line in (tmp_path / "a.log").read_text().splitlines()] == ["first", "second"]


def test_what_only_measures_ends_nothing_and_says_so_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):  # each log has its own
        found = []
        with logging_to(tmp_path / "a.log"):
            for number in range(3):
                with measuring("a cost", "see the docs"):
                    found.append(number)
                    raise LookupError("of nothing\nknown")
            with measuring("another"):
                raise ValueError
        assert found == [0, 1, 2]
        said = ["a cost is left out (LookupError: of nothing known); see the docs", "another is left out (ValueError)"]
        assert capsys.readouterr().out.splitlines() == said
    log = (tmp_path / "a.log").read_text().splitlines()
    assert [line.split("autotune.logs: ")[1] for line in log] == said * 2


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_of_what_only_measures_is_one(kind: type[BaseException]) -> None:
    with pytest.raises(kind), measuring("a cost"):
        raise kind
