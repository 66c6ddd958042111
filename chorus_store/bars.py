"""Progress bars of what is done in a moment with most stores, and takes minutes with some."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")
#: Seconds after which a bar appears.
_PATIENCE_S = 1.0


def patient(items: Iterable[T] | None = None, *, of: str, unit: str, total: int | None = None) -> tqdm[Any]:
    """A progress bar with the time left, on terminals alone, and only once it has taken a second.

    Parameters
    ----------
    items : iterable
        What to go through; without, `tqdm.update` is told.
    of, unit : str
        What is being done, and to what.
    total : int, optional
        Number of items, where they do not say it.

    Examples
    --------
    >>> sum(patient([1, 2, 3], of="sum", unit="numbers"))
    6
    """
    return tqdm(items, desc=of, unit=f" {unit}", total=total, delay=_PATIENCE_S, disable=None)
