"""Where the files of listed models are: with the user, or downloaded once into the data directory."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from builders import fetch, ledger, resources
from builders.model_list import TrackModel, is_address, local_path
from chorus_store.errors import InputError

#: Name of an archive, and of the folder that it is unpacked into.
_ARCHIVE = re.compile(r"(.+)\.(?:tar|tar\.gz|tgz)", re.IGNORECASE)

log = logging.getLogger("chorus.models")


def located(models: Sequence[TrackModel], folder: Path | None, *, offline: bool) -> dict[str, Path]:
    """The file of every model, by track; those at an address are downloaded once.

    Parameters
    ----------
    models : sequence of TrackModel
        None of them of random weights.
    folder : Path or None
        A folder of the user's; a file there goes before one of the same name anywhere else.
    offline : bool
        Never download.

    Returns
    -------
    dict of str to Path
        What cannot be had is logged and has a file that does not exist, like any other model that cannot be loaded.

    Raises
    ------
    InputError
        There is no such folder, or a download has changed since.
    """
    if folder is not None and not folder.is_dir():
        raise InputError(f"--weights {folder}: there is no such folder; give that of the models' files")
    return {model.track: _h5_in(_located(model, folder, offline)) for model in models}


def _located(model: TrackModel, folder: Path | None, offline: bool) -> Path:
    name = model.file_name
    if folder is not None and (folder / name).exists():
        return folder / name
    if not is_address(model.source):
        return local_path(model.source)
    resource = fetch.Resource(f"model of {model.track}", model.source, name, "some 25 MB", "see its publisher")
    if archive := _ARCHIVE.fullmatch(name):
        resource = replace(resource, file_name=archive[1], unpack="untar")
    home = resources.data_dir() / "chrombpnet"
    target = home / resource.file_name
    if target.exists():
        known = ledger.read(home).get(resource.file_name, {"url": model.source})["url"]
        if known != model.source:
            raise InputError(
                f"{target} is there from {known}, and {model.track} is to have another file of this name, from "
                f"{model.source}; download one of them under another name, and list that (--tracks)"
            )
        return ledger.verified(resource, home, "weights")
    if offline:
        log.error("%s is not downloaded (--offline): %s", resource.title, model.source)
        return target
    try:
        return fetch.download(resource, home)
    except fetch.DownloadError as error:
        log.error("%s cannot be had (%s): %s", resource.title, error, model.source)
        return target


def _h5_in(path: Path) -> Path:
    """The file itself; of an unpacked archive the model without bias, of the first fold."""
    if not path.is_dir():
        return path
    files = sorted(path.rglob("*.h5"))
    return next((file for file in files if "nobias" in file.name), files[0] if files else path)
