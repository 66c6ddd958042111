"""The constants of a frozen TensorFlow graph, read without TensorFlow; nothing of the graph is run.

A frozen graph is one protocol buffer, ``GraphDef``; the few fields that constants need are read by their numbers in
TensorFlow's ``graph.proto``, ``node_def.proto``, ``attr_value.proto``, ``tensor.proto`` and ``tensor_shape.proto``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from builders.oracle import FloatArray
from chorus_store.errors import WeightsError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_DT_FLOAT = 1


def read_constants(path: Path, remedy: str) -> dict[str, FloatArray]:
    """Float32 constants of a graph that hold their values as raw bytes, as all trained weights do.

    Parameters
    ----------
    path : Path
        File of a serialised ``GraphDef``.
    remedy : str
        End of every error message: what to give instead.

    Returns
    -------
    dict of str to ndarray of float32
        By the name of their node.

    Raises
    ------
    WeightsError
        The file cannot be read, is truncated, or holds no such constant.
    """
    try:
        graph = memoryview(path.read_bytes())
        constants = dict(_constants(graph))
    except (OSError, ValueError, IndexError) as error:  # IndexError: a number that goes on past the end
        raise WeightsError(f"{path} cannot be read as a frozen TensorFlow graph ({error}); {remedy}") from error
    if not constants:
        raise WeightsError(f"{path} holds no weights; {remedy}")
    return constants


def _constants(graph: memoryview) -> Iterator[tuple[str, FloatArray]]:
    for node in _all(graph, 1):
        if bytes(_one(node, 2)) != b"Const":
            continue
        attributes = {bytes(_one(entry, 1)): _one(entry, 2) for entry in _all(node, 5)}
        tensor = _one(attributes.get(b"value", memoryview(b"")), 8)
        content = _one(tensor, 4)
        if content and next(_numbers(tensor, 1), 0) == _DT_FLOAT:
            shape = [next(_numbers(dimension, 1), 0) for dimension in _all(_one(tensor, 2), 2)]
            yield bytes(_one(node, 1)).decode(), np.frombuffer(content, "<f4").reshape(shape).astype(np.float32)


def _all(message: memoryview, field: int) -> Iterator[memoryview]:
    """Every occurrence of a field of bytes: a string, raw bytes or a message."""
    return (value for number, value in _fields(message) if number == field and isinstance(value, memoryview))


def _one(message: memoryview, field: int) -> memoryview:
    """The field of bytes, empty where it is absent."""
    return next(_all(message, field), memoryview(b""))


def _numbers(message: memoryview, field: int) -> Iterator[int]:
    """Every occurrence of a field of whole numbers."""
    return (value for number, value in _fields(message) if number == field and isinstance(value, int))


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Field numbers and values of a message, in order."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if kind not in (_BYTES, _FIXED32, _FIXED64):
            raise ValueError(f"no field begins with {key:#x}")
        size, at = _varint(message, at) if kind == _BYTES else ({_FIXED32: 4, _FIXED64: 8}[kind], at)
        if at + size > len(message):
            raise ValueError("it ends in the middle")
        yield number, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """A number in groups of seven bits, the lowest first, and where it ends."""
    value = 0
    for shift in range(0, 64, 7):
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number has more than 64 bits")
