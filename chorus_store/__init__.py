"""Per-track backgrounds of genomic sequence-to-function models, as labelled Zarr stores."""
