"""Public files that a build needs: given by the user, found in the data directory, or downloaded once.

A download is checked against its pinned checksum. Where none is known, what was observed is recorded in
``observed.json`` of the data directory, and every later use is compared with it.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path

import platformdirs

from builders import fetch
from builders.fetch import Resource
from chorus_store.errors import MissingResourceError

RESOURCES: dict[str, Resource] = {
    # Unpacked, because pyfaidx seeks in plain or bgzipped FASTA and UCSC's file is plain gzip.
    "hg38": Resource(
        "human genome GRCh38 (UCSC hg38)",
        "https://hgdownload.soe.ucsc.edu/goldenPath/hg38/bigZips/hg38.fa.gz",
        "hg38.fa",
        "0.98 GB, 3.3 GB unpacked",
        "free to use, UCSC Genome Browser",
        "md5:1c9dcaddfa41027f17cd8f7a82c7293b",
        "gunzip",
    ),
    # The comprehensive set: its gene records are complete, and exons of a gene are those of all its
    # transcripts.
    "gencode": Resource(
        "GENCODE 44 comprehensive gene annotation, reference chromosomes",
        "https://ftp.ebi.ac.uk/pub/databases/gencode/Gencode_human/release_44/gencode.v44.annotation.gtf.gz",
        "gencode.v44.annotation.gtf.gz",
        "50 MB",
        "EMBL-EBI terms of use, open",
    ),
    "ccres": Resource(
        "ENCODE SCREEN candidate cis-regulatory elements, registry V4",
        "https://downloads.wenglab.org/Registry-V4/GRCh38-cCREs.bed",
        "GRCh38-cCREs.V4.bed",
        "130 MB",
        "ENCODE data use policy, open",
    ),
    "enformer-tracks": Resource(
        "Enformer's human tracks (Basenji, cross2020)",
        "https://raw.githubusercontent.com/calico/basenji/master/manuscripts/cross2020/targets_human.txt",
        "enformer_targets_human.txt",
        "0.8 MB",
        "Apache 2.0",
        "sha256:d90233175a9fec389e5ac04cc4aac8cfc08c4aa86217e2e5c10221de78023580",
    ),
    "enformer-pytorch": Resource(
        "Enformer weights for PyTorch (EleutherAI/enformer-official-rough)",
        "https://huggingface.co/EleutherAI/enformer-official-rough/resolve/main/pytorch_model.bin",
        "enformer-official-rough.bin",
        "1 GB",
        "CC BY 4.0",
    ),
    "enformer-savedmodel": Resource(
        "Enformer SavedModel of TensorFlow Hub (deepmind/enformer/1)",
        "https://tfhub.dev/deepmind/enformer/1?tf-hub-format=compressed",
        "enformer_savedmodel",
        "0.9 GB",
        "CC BY 4.0",
        unpack="untar",
    ),
}


def data_dir() -> Path:
    """Where downloads live: ``CHORUS_DATA_DIR``, else the platform's folder for user data."""
    configured = os.environ.get("CHORUS_DATA_DIR")
    return Path(configured) if configured else Path(platformdirs.user_data_dir("chorus-store", appauthor=False))


def resolve(
    wanted: Mapping[str, str], given: Mapping[str, Path | None] | None = None, *, offline: bool = False
) -> dict[str, Path]:
    """Find or fetch every file that is wanted.

    Parameters
    ----------
    wanted : mapping of str to str
        Command-line option without dashes (``fasta``) to name in `RESOURCES` (``hg38``).
    given : mapping of str to Path or None, optional
        Option to the user's own file, which is used as it is.
    offline : bool
        Never download.

    Returns
    -------
    dict of str to Path
        Option to file.

    Raises
    ------
    MissingResourceError
        Names at once every file that is neither there nor to be had, with its address, the place for it, and
        the option that replaces it. Nothing is downloaded while one of them is known to be out of reach.
    InputError
        A file of the data directory is not what was downloaded.

    Examples
    --------
    >>> resolve({"fasta": "hg38"}, {"fasta": Path("/dev/null")})
    {'fasta': PosixPath('/dev/null')}
    """
    given = given or {}
    folder = data_dir()
    files: dict[str, Path] = {}
    problems: list[str] = []
    absent: dict[str, Resource] = {}
    for option, name in wanted.items():
        own, resource = given.get(option), RESOURCES[name]
        if own is not None and own.exists():
            files[option] = own
        elif own is not None:
            problems.append(_not_there(option, own))
        elif (folder / resource.file_name).exists():
            files[option] = fetch.verified(resource, folder, option)
        else:
            absent[option] = resource
    if offline:
        unreachable = dict.fromkeys(absent, "not downloaded (--offline)")
    else:
        unreachable = fetch.unreachable({option: resource.url for option, resource in absent.items()})
    problems += [_to_get(option, absent[option], folder, reason) for option, reason in unreachable.items()]
    if not problems:
        for option, resource in absent.items():
            try:
                files[option] = fetch.download(resource, folder)
            except fetch.DownloadError as error:
                problems.append(_to_get(option, resource, folder, str(error)))
    if problems:
        count = "1 input is" if len(problems) == 1 else f"{len(problems)} inputs are"
        raise MissingResourceError(f"{count} missing:\n" + "\n".join(problems))
    return files


def _to_get(option: str, resource: Resource, folder: Path, reason: str) -> str:
    unpacked = f" ({resource.unpack} it)" if resource.unpack else ""
    return (
        f"  {resource.title}, {resource.size}: {reason}\n"
        f"    from  {resource.url}\n"
        f"    to    {folder / resource.file_name}{unpacked}\n"
        f"    or give another one with --{option} PATH"
    )


def _not_there(option: str, path: Path) -> str:
    if not path.parent.is_dir():
        return f"  --{option} {path}: there is no folder {path.parent}"
    near = difflib.get_close_matches(path.name, [entry.name for entry in path.parent.iterdir()], n=3)
    hint = f"; {path.parent} has {', '.join(near)}" if near else ""
    return f"  --{option} {path}: there is no such file{hint}"
