"""The oracles, one module each, and the pipeline that they share."""
