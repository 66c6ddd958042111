"""The oracles, one module each, and the pipeline that they share."""

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
