"""What a text file of columns is written in: its encoding and its delimiter."""

from __future__ import annotations

import codecs
import csv
from collections import Counter
from itertools import islice
from pathlib import Path

from autotune.errors import UserError

SAMPLE = 1 << 16
LINES = 100
DELIMITERS = (",", ";", "\t", "|")
MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
NOT_READ = ("idna", "punycode", "undefined", "mbcs", "oem")  # of Python's own, what no file is in
FALLBACK = "cp1252"  # what spreadsheets in western languages write where it is not UTF-8


def encoding_of(path: Path, said: str | None) -> str:
    """The file's encoding: the one that is said; else by its first bytes, UTF-8, or cp1252 where it cannot be that.

    Raises:
        UserError: The file is empty or no text, or not in the encoding that is said.
    """
    with path.open("rb") as file:
        start = file.read(SAMPLE)
    if not start.strip():
        raise UserError("data.path", f"{path} is empty", "give a file with a line of column names and rows below it")
    if said is not None:
        try:
            if codecs.lookup(said).incrementaldecoder is None or said.lower() in NOT_READ:
                raise LookupError(said)
            b" ".decode(said)  # which those refuse that make bytes of bytes
        except UnicodeError:
            pass  # it takes more than a byte
        except (LookupError, ValueError) as error:
            raise UserError("data.encoding", f"there is no encoding {said}", "leave it out to have it found") from error
        wrong = _undecodable(path, said)
        if wrong is not None:
            problem = f"{path} is not in {said} ({wrong})"
            raise UserError("data.encoding", problem, "leave it out to have it found")
        return said
    for mark, encoding in MARKS.items():
        if start.startswith(mark):
            return encoding
    if b"\0" in start or sum(byte < 32 and byte not in b"\t\n\r\f" for byte in start) > len(start) / 100:
        raise UserError("data.path", f"{path} is neither text nor Parquet", "give a CSV or a Parquet file")
    return "utf-8" if _undecodable(path, "utf-8") is None else FALLBACK


def delimiter_of(path: Path, encoding: str, said: str | None) -> str:
    """What stands between columns: what is said, else what parts most lines into the same number of columns.

    Raises:
        UserError: What is said is no single character.
    """
    if said is not None:
        if len(said) != 1:
            raise UserError("data.delimiter", f"{said!r} is not one character", "leave it out to have it found")
        if not said.isascii() or said in '\0\r\n"':
            raise UserError("data.delimiter", f"{said!r} cannot stand between columns", "leave it out to have it found")
        return said
    with path.open(encoding=encoding, errors="replace", newline="") as file:
        sample = list(islice(file, LINES))

    def agreement(delimiter: str) -> tuple[float, int]:
        try:
            widths = Counter(len(row) for row in csv.reader(sample, delimiter=delimiter) if row)
        except csv.Error:  # a field of more characters than it takes
            return (0.0, 1)
        width, lines = max(widths.items(), key=lambda item: (item[1], item[0]), default=(1, 0))
        return (lines / widths.total(), width) if width > 1 else (0.0, 1)

    return max(DELIMITERS, key=agreement)


def _undecodable(path: Path, encoding: str) -> str | None:
    """Where a file cannot be read in an encoding; None where it can."""
    decoder = codecs.getincrementaldecoder(encoding)()
    with path.open("rb") as file:
        read = 0
        while block := file.read(1 << 20):
            try:
                decoder.decode(block)
            except UnicodeError as error:
                byte = f"byte 0x{block[error.start]:02x}" if isinstance(error, UnicodeDecodeError) else "a byte"
                return f"{byte} after about {read + getattr(error, 'start', 0)} bytes"
            read += len(block)
    return None
