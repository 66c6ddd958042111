"""Sequences as small integers: A C G T are 0 1 2 3, everything else is 4.

Genome, alleles and batches travel as one byte per base; the one-hot matrix is a look-up that is best made where the
model runs.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.uint8]

BASES = "ACGT"
#: Code of every base that is not A, C, G or T.
UNKNOWN = 4


def _code_table() -> bytes:
    table = bytearray([UNKNOWN]) * 256
    for code, base in enumerate(BASES):
        table[ord(base)] = table[ord(base.lower())] = code
    return bytes(table)


_TABLE = _code_table()
_LETTERS = np.frombuffer((BASES + "N").encode(), dtype=np.uint8)


def encode(sequence: str | bytes) -> Codes:
    """Base codes of a sequence; one table look-up per byte.

    Parameters
    ----------
    sequence : str or bytes
        ASCII; lower case (soft-masked) counts as upper case.

    Returns
    -------
    ndarray of uint8, shape (length,)
        0–3 for A C G T, 4 for anything else. Writable.

    Examples
    --------
    >>> encode("ACgTN").tolist()
    [0, 1, 2, 3, 4]
    """
    raw = sequence.encode("ascii", "replace") if isinstance(sequence, str) else sequence
    # A bytearray, so that the array can be written to (the alternate allele is one byte); its translate is
    # also three times as fast as that of bytes.
    return np.frombuffer(bytearray(raw).translate(_TABLE), dtype=np.uint8)


def decode(codes: Codes) -> str:
    """Inverse of `encode`, in upper case, N for every unknown base.

    Examples
    --------
    >>> decode(encode("ACgTR"))
    'ACGTN'
    """
    return _LETTERS[codes].tobytes().decode("ascii")


def one_hot_table(
    order: str = BASES, unknown: float = 0.0, dtype: npt.DTypeLike = np.float32
) -> npt.NDArray[np.generic]:
    """The (5, 4) table whose row is the one-hot vector of a base code.

    Parameters
    ----------
    order : str
        Channel order of the model; ``ACGT`` for most, ``AGCT`` for LegNet.
    unknown : float
        Value of all four channels at an unknown base; 0 for most, 0.25 for LegNet.
    dtype : dtype
        Of the result.

    Examples
    --------
    >>> one_hot_table()[encode("GN")].tolist()
    [[0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
    """
    if sorted(order) != sorted(BASES):
        raise ValueError(f"channel order must be a permutation of {BASES}, not {order!r}")
    table = np.zeros((len(BASES) + 1, len(BASES)), dtype=dtype)
    for code, base in enumerate(BASES):
        table[code, order.index(base)] = 1
    table[UNKNOWN] = unknown
    return table


def one_hot(codes: Codes, order: str = BASES, unknown: float = 0.0) -> npt.NDArray[np.float32]:
    """One-hot encode base codes.

    Parameters
    ----------
    codes : ndarray of uint8, shape (..., length)
        From `encode`.
    order, unknown
        As in `one_hot_table`.

    Returns
    -------
    ndarray of float32, shape (..., length, 4)

    Examples
    --------
    >>> one_hot(encode("AC")).shape
    (2, 4)
    """
    table = one_hot_table(order, unknown)
    # Four float32 are one 16-byte record: copying records is several times faster than rows of four.
    record = np.dtype((np.void, table.itemsize * 4))
    return table.view(record)[:, 0].take(codes).view(np.float32).reshape(*codes.shape, 4)
