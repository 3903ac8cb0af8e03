"""What a search and the process that writes its runs say to each other.

The search sends a `Setup` and then requests, one after the other: a method of `Mirror` by name, and the arguments of
each of its calls, pickled. Each call is answered, by None or a `Failure`; behind a call that may work later, those that
are left of its request are not made. In between come `Line`s of the log.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from autotune.tracking.entries import mask

CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class Setup:
    """Whose runs are written, and where.

    Attributes:
        uri: The store's, passwords and all: it comes by the connection since everybody can read a command line.
        home: Absolute.
        experiment: Its name.
        study: Its name.
        is_again: Whether a writer before this one may have written some of it.
    """

    uri: str
    home: Path
    experiment: str
    study: str
    is_again: bool


@dataclass(frozen=True, slots=True)
class Failure:
    """What a call raised.

    Attributes:
        said: In one line, passwords masked.
        is_final: Whether it will be raised again however often the call is made.
    """

    said: str
    is_final: bool

    @classmethod
    def of(cls, error: Exception, is_final: bool) -> Failure:
        said = mask(" ".join(str(error).split()) or type(error).__name__)
        return cls(said[:CHARACTERS], is_final)


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the log, passwords masked."""

    level: int
    logger: str
    said: str
