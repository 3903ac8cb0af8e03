"""What a study's values depend on, kept with it: trials of another space, other data or another metric don't compare.

A fingerprint has a text for each search value and each fixed value that goes into a trial, and for each file of data
what is in it, so that data that moved are the same and a file that was edited isn't. What only says how a search is run
(budget, sampler, pruner, executor, tracking) and where a trial is trained is no part of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autotune.errors import UserError
from autotune.space import Space, as_grammar
from autotune.trust.masking import masked

# They say where and how fast a trial is trained, what is written of it or what a sampler is told of it, not what it is.
NOT_OF_A_TRIAL = (
    "trainer.accelerator",
    "trainer.devices",
    "trainer.logger",
    "data.workers",
    "data.in_memory_limit",
    "objective.worst",
)

# Under ``data``, a value of a key that ends so is a file or a folder.
PATHS = ("path", "file", "folder", "root", "dir")

# Of so many bytes each is read; of more, as many, in pieces from all over. Hashing them takes a few tenths of a second.
READ_WHOLE = 64 * 2**20
PIECES = 64
# Of a folder with more files than leaves so many bytes to each, names and sizes are read alone.
LEAST_OF_A_FILE = 4096

SHOWN = 3


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing in which two fingerprints differ.

    Attributes:
        key: Where.
        now: Its text in the one; None where it has none.
        was: Its text in the earlier one.
        extends: Whether the values of both can be compared all the same.
    """

    key: str
    now: str | None
    was: str | None
    extends: bool

    def __str__(self) -> str:
        return f"{self.key}: {self.change}"

    @property
    def change(self) -> str:
        """What is different, without where."""
        return f"{'not there' if self.now is None else self.now} was {'not there' if self.was is None else self.was}"


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What the values of a study depend on.

    Attributes:
        space: Names of parameters to what is searched, in the search grammar.
        fixed: Names of all other values of a trial to their JSON; of data, a path's to what is in the files there.
    """

    space: Mapping[str, str]
    fixed: Mapping[str, str]

    @classmethod
    def of(cls, space: Space) -> Fingerprint:
        """The fingerprint of what a search may try; reads the files of data that it names.

        Raises:
            UserError: One of them cannot be read.
        """
        searched = {name: as_grammar(search.distribution) for name, search in space.parameters().items()}
        fixed = {
            leaf.name: _fixed(leaf.name, leaf.values[0])
            for leaf in space.leaves()
            if leaf.name not in searched and leaf.key not in NOT_OF_A_TRIAL
        }
        return cls(searched, fixed)

    @classmethod
    def read(cls, kept: Mapping[str, Any]) -> Fingerprint:
        """A fingerprint from what `kept` made of it."""
        return cls(kept["space"], kept["fixed"])

    @property
    def kept(self) -> dict[str, Any]:
        """The fingerprint as JSON has it."""
        return {"space": dict(self.space), "fixed": dict(self.fixed)}

    def differences(self, earlier: Fingerprint) -> list[Difference]:
        """In what it differs from an earlier one, what cannot be extended first."""
        now, was = {**self.fixed, **self.space}, {**earlier.fixed, **earlier.space}
        found = [
            Difference(key, now.get(key), was.get(key), not (_is_identity(key) and self._fixes(key, earlier)))
            for key in dict.fromkeys((*now, *was))
            if now.get(key) != was.get(key) and key not in NOT_OF_A_TRIAL
        ]
        return sorted(found, key=lambda each: each.extends)

    def _fixes(self, key: str, earlier: Fingerprint) -> bool:
        return key in self.fixed and key in earlier.fixed


def check_unchanged(study: str, now: Fingerprint, earlier: Fingerprint, resume: str | None) -> list[Difference]:
    """Find out whether a study can go on with another fingerprint.

    Args:
        study: Its name.
        now: What is searched.
        earlier: What the study has searched.
        resume: ``extend`` where the difference is meant, None where nothing is said.

    Returns:
        The differences that it goes on with.

    Raises:
        UserError: They differ and nothing is said, or in what no study can change.
    """
    differences = now.differences(earlier)
    if not differences:
        return []
    anew = "study.resume=fresh to begin anew, or study.name=... for another study"
    final = [each for each in differences if not each.extends]
    if final:
        problem = f"{_listed(final)}; values of study {study} do not compare with what would follow"
        raise UserError(final[0].key, problem, f"give {anew}")
    if resume != "extend":
        remedy = f"give study.resume=extend to go on with the changed space, {anew}"
        raise UserError(differences[0].key, _listed(differences), remedy)
    return differences


def content(path: Path) -> str:
    """What is in a file, or in all files of a folder: how much, and a digest of it."""
    files = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
    sizes = [file.stat().st_size for file in files]
    each_may = READ_WHOLE // max(len(files), 1)
    digest = hashlib.sha256()
    for file, size in zip(files, sizes, strict=True):
        digest.update(json.dumps([str(file.relative_to(path)), size]).encode())
        if each_may >= LEAST_OF_A_FILE:
            for piece in _pieces(file, size, each_may):
                digest.update(piece)
    count = f"{len(files):,} files, " if path.is_dir() else ""
    return f"{count}{sum(sizes):,} bytes, sha256 {digest.hexdigest()[:16]}"


def _pieces(file: Path, size: int, at_most: int) -> Iterator[bytes]:
    """All of a file, or so many bytes of it: its beginning, its end and pieces in between at equal distances."""
    with file.open("rb") as opened:
        if size <= at_most:
            yield opened.read()
            return
        length = max(at_most // PIECES, 1)
        for piece in range(PIECES):
            opened.seek((size - length) * piece // (PIECES - 1))
            yield opened.read(length)


def _fixed(name: str, value: Any) -> str:
    if name.startswith("data.") and isinstance(value, str) and name.rpartition(".")[2].endswith(PATHS):
        try:
            path = Path(value).expanduser()
            if path.is_file() or path.is_dir():
                return content(path)
        except OSError as error:
            raise UserError(name, f"{value} cannot be read ({error.strerror})", "give one that can") from error
        except RuntimeError as error:  # of a home folder of nobody
            raise UserError(name, f"{value} is no path ({error})", "write the whole path") from error
    return json.dumps(masked(value), ensure_ascii=False, default=str)


def _is_identity(key: str) -> bool:
    """Whether another fixed value there makes it another task or another network."""
    if key in ("objective.metric", "objective.direction"):
        return True
    if key.startswith("data."):
        return not key.endswith(".batch_size")
    return key.startswith("model.") and key.endswith("_target_")


def _listed(differences: Sequence[Difference]) -> str:
    """The first of them; the first one's key is told elsewhere."""
    first, *others = differences[:SHOWN]
    more = len(differences) - SHOWN
    return ", ".join([first.change, *map(str, others), *([f"and {more} more"] if more > 0 else [])])
