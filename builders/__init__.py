"""The oracles, one module each, and the pipeline that they share."""

#: Oracles by module name, and the class that each module defines.
ORACLES = {"enformer": "Enformer"}
