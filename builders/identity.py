"""What a store was built from, compared with what is asked for: a store of something else is not touched."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chorus_store.errors import StoreMismatchError
from chorus_store.facts import FactStore
from chorus_store.opening import is_published, root_attributes
from chorus_store.units import KINDS


def require_same(path: Path, there: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Refuse to continue a store of another identity.

    Raises
    ------
    StoreMismatchError
        Names the first few differences.
    """
    differing = _differing(there, asked)
    if differing:
        shown = "; ".join(f"{key} is {_short(there.get(key))}, asked for {_short(asked[key])}" for key in differing[:4])
        raise StoreMismatchError(
            f"{path} was built from something else: {shown}"
            + (f"; and {len(differing) - 4} more differences" if len(differing) > 4 else "")
            + ". Give the same options to continue it, or another --out to build anew"
            + ("" if _has_results(path) else "; nothing has been scored yet, so unless somebody is at it, remove it")
        )


def _has_results(path: Path) -> bool:
    """Whether a store is published, or a unit of it is done."""
    store = FactStore(path)
    done = (store.record(unit) is not None for kind in KINDS for unit in store.units(kind))
    return is_published(root_attributes(path)) or any(done)


def _differing(there: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    return [key for key in asked if there.get(key) != json.loads(json.dumps(asked[key]))]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:12]}…"
