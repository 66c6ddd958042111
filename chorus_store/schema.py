"""Checks documents against the JSON Schemas of the project, and the version of a store.

The schemas (draft 2020-12) are the files ``schemas/*.schema.json``: ``store`` (root attributes),
``provenance`` (part of them), ``npz`` (``build_config`` of the NPZ) and ``run`` (one record below ``/runs``).
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chorus_store.errors import SchemaError
from chorus_store.layout import SCHEMA_NAME, SCHEMA_VERSION

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

_PACKAGE = Path(__file__).parent


def schema_folder() -> Path:
    """Where the schemas are: inside the installed package, or beside it in a checkout."""
    installed = _PACKAGE / "schemas"
    return installed if installed.is_dir() else _PACKAGE.parent / "schemas"


@cache
def _validator(name: str) -> Draft202012Validator:
    from jsonschema import Draft202012Validator
    from referencing import Registry
    from referencing.jsonschema import DRAFT202012

    documents = {file.name: json.loads(file.read_bytes()) for file in schema_folder().glob("*.schema.json")}
    registry: Registry[Any] = Registry().with_resources(
        [(file, DRAFT202012.create_resource(contents)) for file, contents in documents.items()]
    )
    return Draft202012Validator(documents[f"{name}.schema.json"], registry=registry)


def validate(document: Any, name: str) -> None:
    """Check a document against a schema.

    Parameters
    ----------
    document : JSON value
        Made of dict, list, str, int, float, bool and None.
    name : {"store", "provenance", "npz", "run"}
        Which schema.

    Raises
    ------
    SchemaError
        The document does not follow the schema; names the place (JSON path) and the reason.

    Examples
    --------
    >>> validate({"part": "variants", "wall_s": -1}, "run")
    Traceback (most recent call last):
    chorus_store.errors.SchemaError: run document is not valid at $.wall_s: -1 is less than the minimum of 0
    """
    from jsonschema.exceptions import best_match

    error = best_match(_validator(name).iter_errors(document))
    if error is None:
        return
    # The library's message repeats the offending value, however large.
    reason = error.message.replace(repr(error.instance), reprlib.repr(error.instance))
    raise SchemaError(f"{name} document is not valid at {error.json_path}: {reason}")


def check_version(attributes: Mapping[str, Any]) -> None:
    """Refuse attributes of something else, or of a store that this release cannot read.

    Parameters
    ----------
    attributes : mapping
        Attributes of the root group.

    Raises
    ------
    SchemaError
        Not a store of this project, or one whose layout is too old or too new.
    """
    declared = attributes.get("schema")
    if not isinstance(declared, Mapping) or declared.get("name") != SCHEMA_NAME:
        raise SchemaError(
            f"not a {SCHEMA_NAME} store: its attributes name no schema {SCHEMA_NAME!r}; "
            "give the path of a published {oracle}.zarr"
        )
    version = declared.get("version")
    if not isinstance(version, int):
        raise SchemaError(f"the store's schema version is {version!r}, not a whole number; its attributes are damaged")
    if version < SCHEMA_VERSION:
        raise SchemaError(
            f"the store is too old: its layout is version {version}, this release reads {SCHEMA_VERSION}; "
            "publish it again from its facts (--part merge)"
        )
    if version > SCHEMA_VERSION:
        raise SchemaError(
            f"the store is too new: its layout is version {version}, this release reads {SCHEMA_VERSION}; "
            "upgrade with: pip install --upgrade chorus-store"
        )
