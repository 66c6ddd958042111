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

from builders import fetch, ledger
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
    "borzoi-tracks": Resource(
        "Borzoi's human tracks, in the Python package borzoi-pytorch 0.5.1",
        "https://files.pythonhosted.org/packages/80/52/6837712ffb2eabdd3121e151228adb15291488d2b10b9943b9808aca766f/"
        "borzoi_pytorch-0.5.1-py3-none-any.whl",
        "borzoi_targets_human.txt",
        "0.2 MB",
        "Apache 2.0",
        "sha256:a7ed251e013e1eed320a3998ddb6484e7aab7fdf81d52755ad880ae7da0f26fa",
        "wheel",
        "borzoi_pytorch/precomputed/targets.txt",
    ),
    **{
        f"borzoi-{fold}": Resource(
            f"Borzoi weights for PyTorch, replicate {fold} (johahi/borzoi-replicate-{fold})",
            f"https://huggingface.co/johahi/borzoi-replicate-{fold}/resolve/main/pytorch_model.bin",
            f"borzoi-replicate-{fold}.bin",
            "744 MB",
            "CC BY 4.0",
        )
        for fold in range(4)
    },
    "alphagenome-tracks": Resource(
        "AlphaGenome's human track metadata",
        "https://raw.githubusercontent.com/google-deepmind/alphagenome_research/"
        "0db53bd4352c66d1e00a049a81da373a066e6670/src/alphagenome_research/model/metadata/"
        "OutputMetadataResponse_ORGANISM_HOMO_SAPIENS.textproto",
        "alphagenome_human.textproto",
        "2.6 MB",
        "Apache 2.0",
        "sha256:413b4063096bbf7a75a7fdf5560030f8e3866c6af2455fb313e58686ae3d49e8",
    ),
    "alphagenome": Resource(
        "AlphaGenome weights for PyTorch, all folds (gtca/alphagenome_pytorch)",
        "https://huggingface.co/gtca/alphagenome_pytorch/resolve/main/model_all_folds.safetensors",
        "alphagenome_all_folds.safetensors",
        "0.9 GB",
        "AlphaGenome model terms, non-commercial",
    ),
    "alphagenome-jax": Resource(
        "AlphaGenome weights for JAX, all folds (google/alphagenome-all-folds), once its terms are accepted there",
        "https://huggingface.co/google/alphagenome-all-folds",
        "alphagenome_jax",
        "size not known",
        "AlphaGenome model terms, non-commercial",
        unpack="by hand",
    ),
    "sei": Resource(
        "Sei model and projection vectors (Zenodo 4906997)",
        "https://zenodo.org/record/4906997/files/sei_model.tar.gz",
        "sei_model",
        "3.6 GB unpacked",
        "academic and research use only",
        unpack="untar",
    ),
    "sei-profiles": Resource(
        "Sei's chromatin profiles",
        "https://raw.githubusercontent.com/FunctionLab/sei-framework/main/model/target.names",
        "sei_target.names",
        "0.9 MB",
        "academic and research use only",
        "sha256:3a2cece0a7877dadb2c23e8fcaf57b25ef57523258437201785fde9e537376a9",
    ),
    "legnet": Resource(
        "LegNet weights: {cell type}/config.json and {cell type}/weights.ckpt (Zenodo 17863550, 10558183)",
        "https://zenodo.org/records/17863550",
        "legnet",
        "size not known",
        "terms of their Zenodo record",
        unpack="by hand",
    ),
    "cispliceai": Resource(
        "CI-SpliceAI weights, in the Python package cispliceai 1.2.2",
        "https://files.pythonhosted.org/packages/4b/37/4e5ebeabdbfd2679973e45f6dc2a175e221281fba8933c69326e5ddd8771/"
        "cispliceai-1.2.2-py3-none-any.whl",
        "CI-SpliceAI.pb",
        "17 MB",
        "CC BY 4.0",
        "sha256:def1db5358848a19533fd387e0620fc0df79784b9e6e1cba1a045ad6678e1da7",
        "wheel",
        "cispliceai/data/CI-SpliceAI.pb",
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
        Option to the user's own file, which is used as it is; also where no resource is wanted for the option.
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
    folder = data_dir()
    files: dict[str, Path] = {}
    problems: list[str] = []
    absent: dict[str, Resource] = {}
    own = {option: path for option, path in (given or {}).items() if path is not None}
    for option, path in own.items():
        if path.exists():
            files[option] = path
        else:
            problems.append(_not_there(option, path))
    for option, name in wanted.items():
        if option in own:
            continue
        resource = RESOURCES[name]
        if (folder / resource.file_name).exists():
            files[option] = ledger.verified(resource, folder, option)
        elif installed := fetch.installed(resource):
            files[option] = installed
        else:
            absent[option] = resource
    if offline:
        unreachable = dict.fromkeys(absent, "not downloaded (--offline)")
    else:
        unreachable = fetch.unreachable({option: resource.url for option, resource in absent.items()})
    problems += [to_get(absent[option], folder, reason, option) for option, reason in unreachable.items()]
    if not problems:
        for option, resource in absent.items():
            try:
                files[option] = fetch.download(resource, folder)
            except fetch.DownloadError as error:
                problems.append(to_get(resource, folder, str(error), option))
    if problems:
        count = "1 input is" if len(problems) == 1 else f"{len(problems)} inputs are"
        raise MissingResourceError(f"{count} missing:\n" + "\n".join(problems))
    return files


def there(wanted: Mapping[str, str], given: Mapping[str, Path | None]) -> dict[str, Path]:
    """Option to file, of those that `resolve` would find without a download; they are not checked.

    Raises
    ------
    MissingResourceError
        A file of the user's is not there.
    """
    own = resolve({}, given, offline=True)
    found = {option: RESOURCES[name] for option, name in wanted.items() if option not in own}
    places = {option: data_dir() / resource.file_name for option, resource in found.items()}
    return {**own, **{option: path for option, path in places.items() if path.exists()}}


def to_get(resource: Resource, folder: Path, reason: str, option: str | None = None) -> str:
    """Why a file is missing, and every way to get it; ``option`` is the one that replaces it."""
    wheel = resource.unpack == "wheel"
    if wheel:
        how = f" ({resource.member} of it)"
    else:
        how = {"": "", "by hand": " (a folder of them)"}.get(resource.unpack, f" ({resource.unpack} it)")
    lines = [
        f"  {resource.title}, {resource.size}: {reason}",
        f"    from  {resource.url}",
        f"    to    {folder / resource.file_name}{how}",
    ]
    if wheel:
        lines.append(f"    or    pip install --no-deps {'=='.join(resource.package)}")
    if option:
        lines.append(f"    or give another one with --{option} PATH")
    return "\n".join(lines)


def _not_there(option: str, path: Path) -> str:
    if not path.parent.is_dir():
        return f"  --{option} {path}: there is no folder {path.parent}"
    near = difflib.get_close_matches(path.name, [entry.name for entry in path.parent.iterdir()], n=3)
    hint = f"; {path.parent} has {', '.join(near)}" if near else ""
    return f"  --{option} {path}: there is no such file{hint}"


if __name__ == "__main__":
    from builders import resources_cli

    raise SystemExit(resources_cli.run())
