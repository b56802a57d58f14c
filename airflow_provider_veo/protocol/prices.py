"""
Prices of videos, and other amounts of money, as exact decimals. Nothing knows their currency.

JSON has numbers only: they are read as they are written, so that 0.1 is exactly one tenth.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal, DecimalException, localcontext
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from airflow_provider_veo.protocol.errors import VeoValidationError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

NOTHING = Decimal(0)
DECIMALS = 9
"""Of an amount. More digits than that can't be stored exactly as a JSON number."""
_LARGEST_PRICE = Decimal(1_000_000)
_NOT_ROUNDED = Decimal(10**15)
_SHORTEST_VIDEO, _LONGEST_VIDEO = Decimal(1), Decimal(3600)
_NUMBER_CHARACTERS = 40
_PER_SECOND, _SECONDS = "per_second", "seconds"


@dataclass(frozen=True)
class Price:
    """
    The price of a model's videos.

    :param amount: of one video, or of one second of it.
    :param per_second: whether it is of one second.
    :param seconds: of a video whose request has no ``seconds``; ``None``: it has no known price.
    """

    amount: Decimal
    per_second: bool = False
    seconds: Decimal | None = None

    @classmethod
    def of(cls, value: Any) -> Price:
        """
        Read a price: a number, or an object with ``per_second``, and ``seconds`` if requests don't have any.

        :raises ValueError: it is something else.
        """
        if not isinstance(value, dict):
            return cls(_between(value, _LARGEST_PRICE))
        if _PER_SECOND not in value or value.keys() - {_PER_SECOND, _SECONDS}:
            raise ValueError
        seconds = _seconds(value[_SECONDS]) if value.get(_SECONDS) is not None else None
        return cls(_between(value[_PER_SECOND], _LARGEST_PRICE), True, seconds)

    def of_video(self, body: Mapping[str, Any]) -> Decimal | None:
        """
        Return the price of one video; ``None`` if it is unknown: per second, and of no known length.

        :param body: of the create request.
        """
        if not self.per_second:
            return self.amount
        try:
            seconds = self.seconds if body.get(_SECONDS) is None else _seconds(body[_SECONDS])
        except ValueError:
            return None
        return None if seconds is None else rounded(self.amount * seconds)


def read(prices: Mapping[str, Any]) -> dict[str, Price]:
    """
    Read the prices of a connection, by model.

    :raises VeoValidationError: lists all mistakes in them.
    """
    found, mistakes = {}, []
    for model, value in prices.items():
        try:
            found[model] = Price.of(value)
        except ValueError:
            mistakes.append(
                f"prices: {model}: expected the price of one video as a number, such as 0.4, or of one second as "
                f'{{"per_second": 0.05, "seconds": 8}}, got {value!r:.80}'
            )
    if mistakes:
        raise VeoValidationError("The prices are not valid.", mistakes)
    return found


@lru_cache(maxsize=1024)
def exact(number: float | str) -> Decimal:
    """Return an amount that was stored as a number, or given by a person, as it is written."""
    return rounded(Decimal(str(number)))


def rounded(amount: Decimal) -> Decimal:
    """Return an amount with as many decimals as are stored, and without trailing zeros."""
    return (round(amount, DECIMALS) if amount < _NOT_ROUNDED else amount).normalize()


def written(amount: Decimal) -> str:
    """Return an amount as people write it: ``10.8``."""
    return f"{amount.normalize():f}"


def calculating() -> AbstractContextManager[Context]:
    """Calculate exactly in a block: a DAG file, or a library that it imports, may have set another precision."""
    return localcontext(Context(prec=50, rounding=ROUND_HALF_EVEN))


def number(amount: Decimal | None) -> float | None:
    """Return an amount as a number for JSON, from which :func:`exact` reads the same amount."""
    return None if amount is None else float(amount)


def _between(value: Any, largest: Decimal) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError
    if isinstance(value, int) and not 0 <= value <= largest:  # may be too long for a string
        raise ValueError
    text = str(value).strip()
    try:
        amount = Decimal(text) if len(text) <= _NUMBER_CHARACTERS else None
    except DecimalException:
        raise ValueError from None
    if amount is None or not amount.is_finite() or not 0 <= amount <= largest or amount != rounded(amount):
        raise ValueError
    return amount.normalize()


def _seconds(value: Any) -> Decimal:
    seconds = _between(value, _LONGEST_VIDEO)
    if seconds < _SHORTEST_VIDEO:  # no video is: it would be priced at next to nothing, whatever is billed
        raise ValueError
    return seconds
