"""Checks documents against the JSON Schemas of the project, and the version of a store.

The schemas (draft 2020-12) are the files ``schemas/*.schema.json``: ``store`` (root attributes),
``provenance`` (part of them), ``npz`` (``build_config`` of the NPZ) and ``run`` (one record below ``/runs``).
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chorus_store.errors import ChorusStoreError, SchemaError
from chorus_store.layout import BUILD_CONFIG_VERSION, SCHEMA_NAME, SCHEMA_VERSION

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


@contextmanager
def expected(place: object) -> Iterator[None]:
    """Code inside takes the attributes of a store as their schema has them; SchemaError where they are otherwise.

    Opening checks names and sizes alone: a document is compared with its schema when it is written, and by
    `chorus_store.validation.validate`.
    """
    try:
        yield
    except ChorusStoreError:
        raise
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise SchemaError(
            f"the attributes of {place} do not follow their schema ({type(error).__name__}: {error}); "
            "python -m chorus_store validate says what is wrong with them"
        ) from error


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
    _require_readable("the store", "its layout", declared.get("version"), oldest=SCHEMA_VERSION, newest=SCHEMA_VERSION)


def check_build_config(config: Mapping[str, Any], where: str) -> None:
    """Refuse an NPZ that a later release wrote; one of an earlier version, or of none, can be read.

    Parameters
    ----------
    config : mapping
        Its document ``build_config``.
    where : str
        Name of the file.

    Raises
    ------
    SchemaError
        The version is too new, or none.
    """
    version = config.get("schema_version", BUILD_CONFIG_VERSION)
    _require_readable(where, "its build_config", version, oldest=0, newest=BUILD_CONFIG_VERSION)


def _require_readable(what: str, whose: str, version: Any, *, oldest: int, newest: int) -> None:
    """Of everything that has a version, refuse what this release cannot read."""
    if not isinstance(version, int) or isinstance(version, bool):
        raise SchemaError(
            f"{what} is damaged: the version of {whose} is {version!r}, not a whole number; copy it again"
        )
    if version < oldest:
        raise SchemaError(
            f"{what} is too old: {whose} is version {version}, this release reads {newest}; "
            "publish it again from its facts (--part merge)"
        )
    if version > newest:
        raise SchemaError(
            f"{what} is too new: {whose} is version {version}, this release reads {newest}; "
            "upgrade with: pip install --upgrade chorus-store"
        )
