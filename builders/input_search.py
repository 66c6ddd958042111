"""Files known by their checksum, wherever they are now and whatever they are called."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from builders.checksums import content_sha256, stamp

_sha256 = cache(content_sha256)


class InputSearch:
    """Looks for files and folders below some folders.

    Parameters
    ----------
    *folders : Path
        Those that are not there are left out.
    """

    def __init__(self, *folders: Path) -> None:
        self._files: dict[int, list[Path]] = defaultdict(list)
        self._folders: list[Path] = []
        for top in folders:
            for folder, _, names in os.walk(top):
                self._folders.append(Path(folder))
                for file in (Path(folder, name) for name in sorted(names)):
                    if file.is_file():
                        self._files[file.stat().st_size].append(file)

    def find(self, wanted: Mapping[str, Any]) -> Path | None:
        """A file or folder of a size and a checksum, best of the name that it had.

        Parameters
        ----------
        wanted : mapping
            ``name``, ``sha256`` and ``bytes``, as a provenance has them.
        """
        folders = [folder for folder in self._folders if stamp(folder)[1] == wanted["bytes"]]
        candidates = [*self._files.get(wanted["bytes"], ()), *folders]
        candidates.sort(key=lambda path: path.name != wanted["name"])
        return next((path for path in candidates if _sha256(path) == wanted["sha256"]), None)
