"""Seeded mutations of valid files: blind ones of bytes, and ones that know lines, columns, JSON, ZIP and ``.npy``.

Case ``number`` of a parser is the same bytes on every machine, so a failure is found again by its number alone.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import zipfile
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from tests.npz_files import Entry, zip_bytes

Mutation = Callable[[Random, bytes], bytes]

#: No case is larger.
MOST_BYTES = 1 << 18
#: What stands in a file where a number, a name, a path or a type was.
VALUES = (
    "", "0", "-1", "1", "00", "1e3", "1.5", "-0.0", "nan", "NaN", "inf", "-Infinity", "2147483648", "-2147483649",
    "9223372036854775807", "9223372036854775808", "18446744073709551616", "1" + "0" * 400, "9" * 5000, "0x10", "1_000",
    "٣", "true", "null", "None", " ", "\t", "\x00", "\x1b[31m", "\x85", "\u2028", "é", "🧬", "\ufeff", "\udcff",
    "'", '"', '""', "`id`", "$(id)", "%s%n", "{}", "{0.__class__}", "[", "../../escaped", "/escaped", "~nosuchuser/x",
    "C:\\x", ".", "..", "a" * 300, "chr1", "chr20", "+", "-", "#", ">", "gene", "exon", "string", "object", "<U4", "|O",
)  # fmt: skip
#: The same for JSON, and what has a meaning in Zarr's metadata.
NODES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 1.5, float("nan"), float("inf"), 10**9, 2**40, 2**63, 2**64, 10**30, *VALUES,
    [], {}, [0], [[]], {"": {}}, {"name": "bytes"}, {"name": "numcodecs.pickle"}, {"name": "numcodecs.json2"},
    {"name": "gzip", "configuration": {"level": 5}}, {"name": "vlen-utf8"}, {"name": "vlen-bytes"}, "float64", "int8",
    "numpy.datetime64", {"name": "fixed_length_utf32", "configuration": {"length_bytes": 2**40}},
    "variable_length_bytes",
)  # fmt: skip
_BORDERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)
_NAMES = (
    "../../escaped.npy",
    "/escaped.npy",
    "a/../b.npy",
    "C:\\x.npy",
    "track_ids.npy",
    "zarr.json",
    "x",
    "é.npy",
    "",
)
_TOKEN = re.compile(rb"-?[0-9]+|'[^']*'|\w+")


def mutated(rng: Random, data: bytes, mutations: Sequence[Mutation]) -> bytes:
    """The data after one to five mutations, mostly one."""
    for mutation in rng.choices(mutations, k=rng.choice((1, 1, 1, 2, 3, 5))):
        data = mutation(rng, data)[:MOST_BYTES]
    return data


def _stretch(rng: Random, data: bytes, most: int = 64) -> tuple[int, int]:
    """Begin and end of a part of the data, mostly short."""
    begin = rng.randrange(len(data) + 1)
    return begin, min(len(data), begin + rng.choice((1, 1, 4, most, len(data))))


def flip(rng: Random, data: bytes) -> bytes:
    """Change a bit."""
    changed = bytearray(data)
    if data:
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def cut(rng: Random, data: bytes) -> bytes:
    """Take out a stretch."""
    begin, end = _stretch(rng, data)
    return data[:begin] + data[end:]


def truncate(rng: Random, data: bytes) -> bytes:
    """End too early, perhaps at once."""
    return data[: rng.choice((0, rng.randrange(len(data) + 1), max(0, len(data) - rng.randrange(1, 32))))]


def insert(rng: Random, data: bytes) -> bytes:
    """Put noise in between, or a value."""
    at = rng.randrange(len(data) + 1)
    noise = rng.choice((rng.randbytes(rng.choice((1, 4, 30))), bytes(rng.choice((1, 100))), _value(rng)))
    return data[:at] + noise + data[at:]


def repeat(rng: Random, data: bytes) -> bytes:
    """Say something again and again."""
    begin, end = _stretch(rng, data)
    return data[:end] + data[begin:end] * rng.choice((1, 3, 40)) + data[end:]


def overwrite(rng: Random, data: bytes) -> bytes:
    """Write a number on the border of what fits."""
    width = rng.choice((1, 2, 4, 8))
    at = rng.randrange(max(1, len(data) - width))
    number = (rng.choice(_BORDERS) % 256**width).to_bytes(width, rng.choice(("little", "big")))
    return data[:at] + number + data[at + width :]


def token(rng: Random, data: bytes) -> bytes:
    """Replace a number, a word or a quoted word."""
    if not (found := list(_TOKEN.finditer(data[:4096]))):
        return data
    match = rng.choice(found)
    quote = b"'" if match[0].startswith(b"'") else b""
    return data[: match.start()] + quote + _value(rng) + quote + data[match.end() :]


def _value(rng: Random) -> bytes:
    return rng.choice(VALUES).encode(errors="surrogateescape")


def line(rng: Random, data: bytes) -> bytes:
    """Drop, double, move, empty or lengthen a line."""
    lines = data.split(b"\n")
    i, j = (rng.randrange(len(lines)) for _ in "ij")
    taken = lines.pop(i)
    put = rng.choice(([], [taken, taken], [b""], [taken * 50], [b"#" + taken], [taken.replace(b"\t", b" ")]))
    lines[min(i, len(lines)) : i] = put
    if not put and rng.random() < 0.5:
        lines.insert(j, taken)
    return b"\n".join(lines)


def column(rng: Random, data: bytes) -> bytes:
    """Change, swap, drop, double or re-separate the columns of a line."""
    lines = data.split(b"\n")
    i = rng.randrange(len(lines))
    separator = max((b"\t", b",", b" | ", b" ", b";"), key=lambda text: (lines[i].count(text), len(text)))
    columns = lines[i].split(separator)
    a, b = (rng.randrange(len(columns)) for _ in "ab")
    match rng.randrange(6):
        case 0:
            columns[a], columns[b] = columns[b], columns[a]
        case 1:
            del columns[a]
        case 2:
            columns.insert(b, columns[a])
        case 3:
            separator = rng.choice((b" ", b",", b";", b"\t\t", b"\x1f", b"|"))
        case _:
            columns[a] = _value(rng)
    lines[i] = separator.join(columns)
    return b"\n".join(lines)


def encoding(rng: Random, data: bytes) -> bytes:
    """The same text as another editor, system or compressor would have written it, whole or not."""
    packed = gzip.compress(data, mtime=0)
    latin = data.decode(errors="replace")
    return rng.choice(
        (
            data.replace(b"\n", b"\r\n"),
            data.replace(b"\n", b"\r"),
            b"\xef\xbb\xbf" + data,
            latin.encode("utf-16"),
            data.replace(b"\t", b" "),
            data.replace(b"\n", b""),
            data.rstrip(b"\n"),
            packed,
            packed + packed,
            packed + b"rest",
            packed[: rng.randrange(len(packed))],
            flip(rng, packed),
            gzip.compress(packed, mtime=0),
        )
    )


def tree(rng: Random, data: bytes) -> bytes:
    """Change, drop, rename, double or nest a node of a JSON document."""
    try:
        document = {"": json.loads(data)}
    except (ValueError, RecursionError):
        return flip(rng, data)
    places = list(_places(document))
    holder, key = rng.choice(places)
    match rng.randrange(6):
        case 0 if holder is not document:
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[rng.choice(VALUES)] = holder[key]
        case 2:
            other, its = rng.choice(places)
            holder[key] = json.loads(json.dumps(other.get(its) if isinstance(other, dict) else other[its]))
        case 3:
            holder[key] = "nested"
            deep = rng.choice((3, 5000))
            return json.dumps(document[""]).replace('"nested"', "[" * deep + "]" * deep).encode()
        case _:
            holder[key] = rng.choice(NODES)
    return json.dumps(document[""]).encode()


def _places(node: Any) -> Any:
    """Every holder and key of a document."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        yield node, key
        if isinstance(value, dict | list):
            yield from _places(value)


def member(rng: Random, data: bytes) -> bytes:
    """Mutate, rename, drop or double a member of a ZIP file, or lie about one of them."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            contents = [(info.filename, archive.read(info)) for info in archive.infolist()]
    except Exception:  # it is no ZIP file any more
        return flip(rng, data)
    if not contents:
        return data
    entries = [Entry.of(*pair) for pair in contents]
    i = rng.randrange(len(entries))
    entry, (name, inner) = entries[i], contents[i]
    offsets = {}
    match rng.randrange(8):
        case 0:
            del entries[i]
        case 1:
            entries.append(entry)
        case 2:
            entry.name = rng.choice(_NAMES)
        case 3:
            entry.flags = rng.choice((1, 8, 0x41, 0x800, 0xFFFF))
        case 4:
            entry.method = rng.choice((0, 1, 9, 12, 14, 93, 99))
        case 5:
            entry.size = rng.choice((0, entry.size + 1, 2**31, 2**32 - 1))
        case 6:
            offsets[name] = rng.choice((0, 1, len(data), 2**32 - 1))
        case _:
            entries[i] = Entry.of(name, mutated(rng, inner, JSON if name.endswith(".json") else (*BYTES, token)))
    return zip_bytes(entries, offsets)


BYTES: tuple[Mutation, ...] = (flip, cut, truncate, insert, repeat, overwrite)
TEXT: tuple[Mutation, ...] = (*BYTES, token, line, line, column, column, column, encoding)
JSON: tuple[Mutation, ...] = (flip, truncate, token, encoding, *[tree] * 8)
ZIP: tuple[Mutation, ...] = (*BYTES, *[member] * 8)
