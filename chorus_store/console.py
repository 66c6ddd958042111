"""What every command line of the project shares: errors as one sentence, exit codes, tables."""

from __future__ import annotations

import errno
import io
import json
import math
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from chorus_store.errors import ChorusStoreError

#: What the operating system says where no more can be written: full disk, quota, limit on the size of a file.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

EXIT_OK, EXIT_UNEXPECTED, EXIT_ERROR, EXIT_FINDINGS, EXIT_INTERRUPTED = 0, 1, 2, 3, 130


def run(main: Callable[[Sequence[str]], int | None], argv: Sequence[str] | None = None) -> int:
    """Run the body of a command line and turn what it raises into a message and an exit code.

    Parameters
    ----------
    main : callable
        Takes the arguments without the program's name; returns an exit code, or None for 0.
    argv : sequence of str, optional
        ``sys.argv[1:]`` by default.

    Returns
    -------
    int
        0 done; 1 unexpected error, with its traceback; 2 a `ChorusStoreError`, or no space for the output, with a
        message on stderr; 130 interrupted. A reader that closes the pipe (``| head``) is no error. What a command
        returns itself is `EXIT_FINDINGS` (3) where it has found what it was to look for.

    Examples
    --------
    >>> run(lambda argv: print("hello", *argv), ["world"])
    hello world
    0
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a console that cannot show "→" shows "?"
    try:
        code = main(sys.argv[1:] if argv is None else argv)
        print(end="", flush=True)
    except ChorusStoreError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return EXIT_ERROR
    except PermissionError as error:
        print(f"error: no access to {error.filename} ({error.strerror}); check its permissions", file=sys.stderr)
        return EXIT_ERROR
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return EXIT_OK
    except Exception as error:
        if not (isinstance(error, OSError) and error.errno in _FULL):
            traceback.print_exc()
            return EXIT_UNEXPECTED
        what = error.filename or "the output"
        print(f"error: cannot write {what}: {error.strerror}; free some space, and run it again", file=sys.stderr)
        return EXIT_ERROR
    finally:
        _drop_output()
    return code or EXIT_OK


def _drop_output() -> None:
    """Drop what standard output does not take: the interpreter flushes it at exit, which must not fail too."""
    try:
        print(end="", flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def printable(text: str) -> str:
    r"""Text in which what is no character to be seen, or a line's end, is escaped: files may hold codes for terminals.

    Examples
    --------
    >>> print(printable("K562\x1b[2J\u2028→"))
    K562\x1b[2J\u2028→
    """
    return "".join(
        letter if letter.isprintable() or letter == "\n" else letter.encode("unicode_escape").decode()
        for letter in text
    )


def print_json(document: Any) -> None:
    """Print a document of JSON values; numbers that JSON does not have become null.

    Examples
    --------
    >>> print_json({"ratio": float("inf")})
    {
      "ratio": null
    }
    """
    print(json.dumps(_finite(document), indent=2, allow_nan=False))


def _finite(document: Any) -> Any:
    if isinstance(document, Mapping):
        return {key: _finite(value) for key, value in document.items()}
    if isinstance(document, list | tuple):
        return [_finite(value) for value in document]
    return None if isinstance(document, float) and not math.isfinite(document) else document


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Lines of a table for people: columns aligned by spaces, numbers to the right.

    Examples
    --------
    >>> print(table(["track", "value"], [["DNASE:K562", 0.5], ["CAGE", 12.25]]))
    track       value
    DNASE:K562    0.5
    CAGE        12.25
    """
    texts = [list(header), *([printable(str(cell)) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    numeric = [all(isinstance(row[i], int | float) for row in rows) for i in range(len(header))]
    pads = [str.rjust if number else str.ljust for number in numeric]
    return "\n".join(
        "  ".join(pad(cell, width) for pad, cell, width in zip(pads, line, widths, strict=True)).rstrip()
        for line in texts
    )
