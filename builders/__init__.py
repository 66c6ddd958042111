"""The oracles, one module each, and the pipeline that they share."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from builders.oracle import Oracle

#: Oracles by module name, and the class that each module defines.
ORACLES = {
    "alphagenome": "AlphaGenome",
    "borzoi": "Borzoi",
    "chrombpnet": "ChromBPNet",
    "cispliceai": "CISpliceAI",
    "enformer": "Enformer",
    "legnet": "LegNet",
    "sei": "Sei",
}


def load_oracle(name: str) -> type[Oracle]:
    """The class of one of `ORACLES`."""
    oracle: type[Oracle] = getattr(importlib.import_module(f"builders.{name}"), ORACLES[name])
    return oracle
