"""The one exception for what a user can get wrong."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

# Whatever a terminal would not show as a character: controls, and halves of what is no UTF-8.
_ESCAPED = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

_LONG = re.compile(r"\S{300,}")  # a word that long is nobody's name


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
        said = " ".join(f"{key}: {problem}; {remedy}".split())
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
