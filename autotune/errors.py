"""The one exception for what a user can get wrong."""

from __future__ import annotations

import difflib
import re
import sysconfig
import traceback
from collections.abc import Iterable
from pathlib import Path

# Whatever a terminal would not show as a character: controls, and halves of what is no UTF-8.
_ESCAPED = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

_LONG = re.compile(r"\S{300,}")  # a word that long is nobody's name

# Many numbers in a row, as an array is printed: the first few say which it is.
_NUMBER = r"[-+]?(?:\d+\.?\d*(?:e[-+]?\d+)?|\.\d+|nan|inf)"
_BETWEEN = r"(?:[\s,()\[\]]|\.\.\.)+"
_NUMBERS = re.compile(
    rf"(?<![\w.])({_NUMBER}(?:{_BETWEEN}{_NUMBER}){{2}})(?:{_BETWEEN}{_NUMBER}){{13,}}", re.IGNORECASE
)
LONGEST = 300  # characters of what an exception says, in one line

_TRACEBACK = "Traceback (most recent call last):"
_FRAME = re.compile(r'^\s*File "(?P<file>[^"\n]+)", line (?P<line>\d+)(?:, in (?P<function>\S+))?', re.MULTILINE)
# Code of libraries, of Python and of autotune: where the user's own code called them says more.
_NOT_THE_USERS = (*{sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")}, str(Path(__file__).parent))


class UserError(Exception):
    """A mistake in what the user typed or in a file the user gave.

    The commands print it as one line and exit with code 2; a traceback is shown only under HYDRA_FULL_ERROR=1.

    Args:
        key: The config key the mistake is at, as the user would type it (``optimizer.lr``).
        problem: What is wrong, naming the value.
        remedy: What would be right.
    """

    def __init__(self, key: str, problem: str, remedy: str) -> None:
        self.key = key
        self.problem = problem
        self.remedy = remedy
        said = _NUMBERS.sub(r"\1, ...", " ".join(f"{key}: {problem}; {remedy}".split()))
        super().__init__(_LONG.sub(_shorten, _ESCAPED.sub(_escape, said)))

    def __reduce__(self) -> tuple[type[UserError], tuple[str, str, str]]:
        return type(self), (self.key, self.problem, self.remedy)


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


def _shorten(found: re.Match[str]) -> str:
    return f"{found[0][:60]}...{found[0][-20:]}"


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which of the known names was probably meant, or list them all."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"did you mean {close[0]}?"
    return f"known are {', '.join(known)}" if known else "none are known"


def first_line(error: BaseException) -> str:
    """What an error says first, or its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def in_one_line(error: BaseException) -> str:
    """The type and message of an exception: ``ValueError: no such size``.

    An array in it is cut to its first numbers, and a message that quotes another traceback, as that of a worker of a
    DataLoader does, to the last line of it.
    """
    message = str(error).strip()
    if _TRACEBACK in message:
        said = message.splitlines()[-1]
    else:
        said = f"{type(error).__name__}: {message}" if message else type(error).__name__
    said = _ESCAPED.sub(_escape, _NUMBERS.sub(r"\1, ...", " ".join(said.split())))
    return said if len(said) <= LONGEST else f"{said[: LONGEST - 63]}...{said[-60:]}"


def place(error: BaseException) -> str | None:
    """The line of the user's own code that an exception comes from, the innermost: ``net.py, line 12, in forward``.

    That of a library where no code of the user's was on the way; None where nothing is known.
    """
    frames = list(_FRAME.finditer("".join(traceback.format_exception(error))))
    users = [frame for frame in frames if _is_the_users(frame["file"])]
    if not frames:
        return None
    found = (users or frames)[-1]
    within = f", in {found['function']}" if found["function"] and found["function"] != "<module>" else ""
    return f"{_shown(found['file'])}, line {found['line']}{within}"


def raised(error: BaseException) -> str:
    """What an exception says, and where: ``ValueError: no such size (net.py, line 12, in forward)``."""
    where = place(error)
    return in_one_line(error) if where is None else f"{in_one_line(error)} ({where})"


def _is_the_users(file: str) -> bool:
    return not file.startswith("<") and not any(Path(file).is_relative_to(each) for each in _NOT_THE_USERS)


def _shown(file: str) -> str:
    """A path from where the command is run, where it lies there."""
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file
