"""Numbers as people write them: decimal signs, thousands separators, currencies, per cent."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

SPACES = (" ", "\u00a0", "\u202f")
APOSTROPHES = ("'", "\u2019")
PERCENT = "%"
CURRENCY_CODES = frozenset(
    (
        "AUD",
        "BRL",
        "CAD",
        "CHF",
        "CNY",
        "CZK",
        "DKK",
        "EUR",
        "GBP",
        "HKD",
        "INR",
        "JPY",
        "KRW",
        "MXN",
        "NOK",
        "NZD",
        "PLN",
        "SEK",
        "SGD",
        "TRY",
        "USD",
        "ZAR",
    )
)
CURRENCY_NAMES = frozenset(("R$", "kr", "Kč", "zł", "Fr."))
MINUS = {ord("\u2212"): "-"}
MOSTLY = 0.8  # of the texts of a column are numbers, so that the others are the exception
SAMPLED = 200  # texts that tell which format fits best

_BESIDE = re.compile(r"[\d.,'\u2019\s()+\-\u2212]")
_WITH_SUFFIX = re.compile(r"[-+\u2212]?\d[\d.,'\u2019\u00a0\u202f]*(\s*[^\d\s].*)")


@dataclass(frozen=True)
class NumberFormat:
    """A way to write numbers.

    Attributes:
        decimal: ``.`` or ``,``.
        thousands: The sign between groups of digits; empty for none.
        unit: A currency or ``%``, in front of the number or behind it; empty for none.
    """

    decimal: str
    thousands: str = ""
    unit: str = ""

    @classmethod
    def from_code(cls, code: str) -> NumberFormat:
        """The format that `code` names."""
        separators = (".", ",", *SPACES, *APOSTROPHES)
        thousands = code[1] if code[1:2] in separators and code[1:2] else ""
        return cls(code[0], thousands, code[1 + len(thousands) :])

    @property
    def code(self) -> str:
        """The format in one text, such as ``.`` or ``.,$``."""
        return self.decimal + self.thousands + self.unit

    def parse(self, text: str) -> float:
        """The number that a text says; per cent count as written, 12.5% is 12.5.

        Raises:
            ValueError: It is no number of this format.
        """
        if self.code == ".":
            return _plain(text)
        found = self._pattern.fullmatch(text.translate(MINUS))
        if found is None:
            raise ValueError(text)
        signs = (found[name] for name in ("sign", "before") if name in found.re.groupindex)
        sign, digits = next(filter(None, signs), ""), found["digits"]
        if self.thousands:
            digits = digits.replace(self.thousands, "")
        number = _plain(sign + digits.replace(self.decimal, "."))
        return -number if found["open"] else number

    def reads(self, text: str) -> bool:
        """True where a text is a number of this format."""
        try:
            self.parse(text)
        except ValueError:
            return False
        return True

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        whole = r"\d+"
        if self.thousands:
            separator = re.escape(self.thousands)
            # In India groups of two digits stand before the last group of three.
            inner = r"\d{2,3}" if self.thousands == "," else r"\d{3}"
            whole = rf"(?:[1-9]\d{{0,2}}(?:{separator}{inner})*{separator}\d{{3}}|\d+)"
        decimal = re.escape(self.decimal)
        exponent = "" if self.thousands else r"(?:[eE][+-]?\d+)?"
        digits = rf"(?P<digits>(?:{whole}(?:{decimal}\d*)?|{decimal}\d+){exponent})"
        unit = re.escape(self.unit)
        if not self.unit:
            amount = rf"(?P<sign>[+-])?{digits}"
        elif self.unit == PERCENT:  # behind each number, since 5% and 0.05 in one column would be two scales
            amount = rf"(?P<sign>[+-])?{digits}\s?{unit}"
        else:
            amount = (
                rf"(?:(?P<before>[+-])(?P<unit>{unit}\s?)?|(?P<front>{unit}\s?)(?P<sign>[+-])?)?"
                rf"{digits}(?(unit)|(?(front)|(?:\s?{unit})?))"
            )
        return re.compile(rf"(?P<open>\()?{amount}(?(open)\))")  # accounts write -5 as (5)


def formats_for(texts: Iterable[str], decimal_comma_first: bool) -> tuple[NumberFormat, ...]:
    """The formats that a column's texts may have, the likeliest first.

    Args:
        texts: Some of the column.
        decimal_comma_first: Reads ``1,234`` as 1.234 where all texts allow it, else as 1234.
    """
    units = {_BESIDE.sub("", text) for text in texts} - {""}
    unit = units.pop() if len(units) == 1 else ""
    if not is_unit(unit):
        unit = ""
    others = (*SPACES, *APOSTROPHES)
    comma, grouped = NumberFormat(",", "", unit), NumberFormat(".", ",", unit)
    ways = (comma, grouped) if decimal_comma_first else (grouped, comma)
    rest = (NumberFormat(decimal, sign, unit) for decimal in ".," for sign in others)
    return (NumberFormat(".", "", unit), *ways, NumberFormat(",", ".", unit), *rest)


def is_unit(text: str) -> bool:
    """True for a currency or the per cent sign."""
    if text == PERCENT or text in CURRENCY_CODES or text in CURRENCY_NAMES:
        return True
    return len(text) == 1 and unicodedata.category(text) == "Sc"


def obstacle(texts: Sequence[str], formats: Sequence[NumberFormat]) -> str | None:
    """What keeps a column of which most texts are numbers from being one; None where most are none.

    Args:
        texts: Different texts of the column.
        formats: Those it may have.
    """
    sample = texts[:SAMPLED]
    best = max(formats, key=lambda each: sum(map(each.reads, sample)))
    odd = [text for text in texts if not best.reads(text)]
    if not odd:
        return None
    if len(odd) <= (1 - MOSTLY) * len(texts):
        return f"{_shown(odd[0])} is no number, {_others(len(odd))}"
    suffixes = [found[1] for found in map(_WITH_SUFFIX.fullmatch, sample) if found]
    if suffixes and suffixes.count(suffixes[0]) >= MOSTLY * len(sample):
        return f"{_shown(suffixes[0].strip())} stands behind its numbers"
    return None


def _others(count: int) -> str:
    return "all else is" if count == 1 else f"nor {'is' if count == 2 else 'are'} {count - 1} more, all else is"


def _shown(text: str) -> str:
    return repr(text if len(text) <= 30 else f"{text[:29]}…")


def _plain(text: str) -> float:
    """A number as Python reads it, without underscores. Raises ValueError."""
    if "_" in text:
        raise ValueError(text)
    return float(text)
