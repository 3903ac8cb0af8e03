"""Mean and standard deviation of numbers that are seen in portions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy


@dataclass(frozen=True, slots=True)
class Moments:
    """What is known of the numbers seen so far (Chan, Golub and LeVeque 1983).

    Attributes:
        count: How many.
        missing: How many more were missing.
        mean: Their mean.
        squares: The sum of their squared distances from it.
        low: The least.
        high: The greatest.
    """

    count: int = 0
    missing: int = 0
    mean: float = 0.0
    squares: float = 0.0
    low: float = numpy.inf
    high: float = -numpy.inf

    @property
    def std(self) -> float:
        """Their standard deviation; infinite where float64 cannot hold the squares."""
        return float(numpy.sqrt(self.squares / self.count)) if self.count else 0.0

    def and_these(self, numbers: numpy.ndarray) -> Moments:
        """With more numbers; NaN is missing."""
        present = numbers[~numpy.isnan(numbers)]
        missing = self.missing + len(numbers) - len(present)
        if len(present) == 0:
            return Moments(self.count, missing, self.mean, self.squares, self.low, self.high)
        with numpy.errstate(over="ignore", invalid="ignore"):
            mean = float(present.mean())
            squares = float(((present - mean) ** 2).sum())
        merged = self._merged(len(present), mean, squares)
        low, high = min(self.low, float(present.min())), max(self.high, float(present.max()))
        return Moments(merged.count, missing, merged.mean, merged.squares, low, high)

    def with_constant(self, count: int, value: float) -> Moments:
        """With one number so many times more."""
        return self if count == 0 else self._merged(count, value, 0.0)

    def _merged(self, count: int, mean: float, squares: float) -> Moments:
        both = self.count + count
        with numpy.errstate(over="ignore", invalid="ignore"):
            apart = numpy.float64(mean) - self.mean
            merged = self.squares + squares + apart**2 * self.count * count / both
            middle = self.mean + apart * count / both
        return Moments(both, self.missing, float(middle), float(merged), self.low, self.high)
