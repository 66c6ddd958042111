"""More rows for an NPZ file: a new file beside the old one, and then in its place."""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path

import numpy as np

from chorus_store import origins
from chorus_store.fitting import fit, joined
from chorus_store.npz_contract import BUILD_CONFIG, CDF_KEYS, variable_of
from chorus_store.npz_file import open_npz_file
from chorus_store.npz_writer import new_archive, write_array, write_cdf
from chorus_store.row_source import RowSource, rows_of_file
from chorus_store.swap import written_whole


def append_to_npz(path: Path, new: RowSource) -> int:
    """Write a file with the rows of another background after its own; the arrays are streamed.

    Returns
    -------
    int
        Number of rows that it has now.

    Raises
    ------
    InputError
        The rows do not fit; see `chorus_store.fitting.fit`.
    """
    with written_whole(path) as file, open_npz_file(path) as npz, new_archive(file) as archive:
        old = rows_of_file(npz)
        columns = fit(new, old, npz.track_ids, whole=new.is_in_memory)
        shape = (npz.n_tracks + new.n_tracks, npz.n_points)
        for name in dict.fromkeys([*npz.arrays, BUILD_CONFIG]):
            variable = variable_of(name)
            if name in CDF_KEYS:
                write_cdf(archive, name, shape, chain(old.blocks(variable), new.blocks(variable)))
            elif variable in columns:
                write_array(archive, name, joined(name, npz.read(name), columns[variable]))
            elif name == BUILD_CONFIG:
                write_array(archive, name, np.array([_document(old, new)]))
            else:
                write_array(archive, name, npz.read(name))
    return shape[0]


def _document(old: RowSource, new: RowSource) -> str:
    """``build_config`` of the file with the new rows."""
    blocks = [*origins.of(old.attributes, old.n_tracks), *origins.shifted(new.blocks_of_origin(), old.n_tracks)]
    document = origins.grown(origins.document_of(old.attributes) or {}, blocks)
    return json.dumps({**document, "n_tracks": old.n_tracks + new.n_tracks}, sort_keys=True)
