"""Seals: digests that JSON metadata carry of themselves, so that their readers notice a changed byte."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

#: The attribute.
SEAL = "seal"
#: What the seal of a background covers besides the metadata of its arrays; other tools may add notes of their own.
_OF_A_BACKGROUND = ("schema", "oracle", "genome", "demo", "provenance", "appended")


def digest(document: Any) -> str:
    """SHA-256 of a document's canonical JSON (keys in order, no spaces), hexadecimal.

    Examples
    --------
    >>> digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})
    True
    """
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def sealed(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes of a group with their seal.

    Examples
    --------
    >>> sorted(sealed({"positions": 8}))
    ['positions', 'seal']
    """
    return {**attributes, SEAL: digest(dict(attributes))}


def sealed_background(node: Mapping[str, Any]) -> dict[str, Any]:
    """``zarr.json`` of a background, parsed, with a seal over its attributes and its consolidated metadata."""
    return {**node, "attributes": {**node["attributes"], SEAL: _digest_of_node(node)}}


def is_broken(node: Mapping[str, Any]) -> bool:
    """Whether ``zarr.json`` of a group, parsed, has a seal that does not fit; False where it has none.

    Examples
    --------
    >>> is_broken({"attributes": sealed({"positions": 8})}), is_broken({"attributes": {"positions": 8, "seal": "0"}})
    (False, True)
    """
    attributes = node.get("attributes", {})
    return SEAL in attributes and attributes[SEAL] != _digest_of_node(node)


def _digest_of_node(node: Mapping[str, Any]) -> str:
    attributes, consolidated = node["attributes"], node.get("consolidated_metadata")
    if consolidated is None:
        return digest({name: value for name, value in attributes.items() if name != SEAL})
    ours = {name: attributes[name] for name in _OF_A_BACKGROUND if name in attributes}
    return digest({**ours, "arrays": consolidated["metadata"]})
