"""Everything that reads a file which others may have written: a valid file, and how it is read in full."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from Bio import bgzf

from builders import ledger
from builders.alphagenome_tracks import demo_metadata, read_metadata
from builders.borzoi_tracks import demo_targets as borzoi_targets
from builders.borzoi_tracks import read_targets as read_borzoi
from builders.enformer_tracks import demo_targets as enformer_targets
from builders.enformer_tracks import read_targets as read_enformer
from builders.frozen_graph import read_constants
from builders.model_files import located
from builders.model_list import JASPAR_COLUMNS, chosen, read_list, track_table
from builders.resources import RESOURCES
from builders.sei_tracks import demo_names, histone_channels, read_names
from builders.sei_tracks import table as profile_table
from chorus_store.annotations import gene_exons, merged_exons, read_ccres, read_genes
from chorus_store.errors import (
    AnnotationError,
    ChorusStoreError,
    GenomeError,
    InputError,
    TrackTableError,
    WeightsError,
)
from chorus_store.genome import Genome
from chorus_store.sequence import encode
from tests import bpnet_files, fuzz_stores
from tests.fuzz_stores import Files, tree
from tests.fuzzing import BYTES, TEXT, ZIP, Mutation


@dataclass(frozen=True)
class Parser:
    """A parser: what it reads, how, and what it raises.

    Attributes
    ----------
    name : str
    files : callable
        Valid input, a file or several, by their paths; is given a folder to make them in.
    parse : callable
        Reads what is in a folder.
    errors : type of exception
        What it documents.
    mutations : tuple of Mutation
        Of every file but ``.json``.
    mutates : callable
        Whether a file is one to mutate.
    needs : tuple of str
        Packages.
    """

    name: str
    files: Callable[[Path], Files]
    parse: Callable[[Path], object]
    errors: type[ChorusStoreError]
    mutations: tuple[Mutation, ...] = TEXT
    mutates: Callable[[str], bool] = field(default=lambda name: True)
    needs: tuple[str, ...] = ()


def _files(name: str, data: bytes | str) -> Callable[[Path], Files]:
    raw = data.encode() if isinstance(data, str) else data
    return lambda made: {name: raw}


FASTA = ">chr20 the first\n" + "ACGTNNACGT\n" * 6 + "ACG\n>chr21\nacgtnACGTA\n>chrM\nA\n"
SEQUENCES = {record.split()[0]: "".join(record.split("\n")[1:]).encode() for record in FASTA.split(">")[1:]}
GENES = "".join(
    f'chr20\tHAVANA\t{feature}\t{start}\t{start + 90}\t.\t{strand}\t.\tgene_id "G{start}"; gene_type "protein_coding"; '
    f'gene_name "N{start}";\n'
    for start, strand in ((1, "+"), (50, "-"), (300, "+"))
    for feature in ("gene", "exon")
)
CCRES = "".join(f"chr20\t{start}\t{start + 9}\tD{start}\tE{start}\tdELS,CTCF-bound\n" for start in range(0, 50, 10))
MODELS = "track\tmodel\tdescription\nATAC:K562\tmodels/k.h5\tx\nCHIP:K562:CTCF\thttps://example.org/c.tar.gz\t\n"
JASPAR = (
    "\t".join(JASPAR_COLUMNS) + "\nBP1\t1\tCTCF\tK562\thttps://example.org/1.h5\nBP2\t1\tATF2\tA549\thttps://e.org/2\n"
)
LEGNET = {
    "stem_ch": 64, "stem_ks": 11, "ef_ks": 9, "ef_block_sizes": [80, 96], "pool_sizes": [2, 2], "resize_factor": 4,
    "use_reverse_channel": False,
}  # fmt: skip


def _read_genome(folder: Path, name: str = "genome.fa", *, whole: bool = False) -> None:
    """Read a genome; one that is ``whole`` must have the right sequence, whatever its index says, or calls it."""
    with Genome(folder / name, folder / "cache") as genome:
        for chrom, length in genome.lengths.items():
            codes = genome.fetch(chrom, 0, min(length, 1000))
            middle = genome.fetch(chrom, length // 3, length // 2)
            assert np.array_equal(middle, codes[length // 3 : length // 2]) or length > 1000
            genome.unknown_runs(chrom)
            if whole and chrom in SEQUENCES:
                assert np.array_equal(codes, encode(SEQUENCES[chrom]))
        genome.fingerprint()


def bgzipped(made: Path, *, indexed: bool) -> Files:
    """A genome in blocks of 40 bytes, alone or with its indices."""
    made.mkdir()
    with bgzf.open(made / "genome.fa.gz", "wb") as file:
        for start in range(0, len(FASTA), 40):
            file.write(FASTA[start : start + 40].encode())
            file.flush()
    if indexed:
        Genome(made / "genome.fa.gz").close()
    return tree(made)


def indexed(made: Path) -> Files:
    """A genome and its index."""
    made.mkdir()
    (made / "genome.fa").write_text(FASTA)
    Genome(made / "genome.fa").close()
    return tree(made)


def _read_models(folder: Path) -> None:
    models = read_list(folder / "models.tsv")
    track_table(models)
    located(chosen(models, [models[0].assay]), folder, offline=True)


def _read_genes_gz(folder: Path) -> None:
    read_genes(folder / "genes.gtf.gz")


def _read_sei(folder: Path) -> None:
    names = read_names(folder / "names.txt")
    profile_table(names)
    histone_channels(names)


def _read_ledger(folder: Path) -> None:
    ledger.expected_checksum(RESOURCES["ccres"], folder)
    ledger.verified(RESOURCES["ccres"], folder, "ccres")


def _is_root(name: str) -> bool:
    return name == "enformer.zarr/zarr.json"


def _ledger(made: Path) -> Files:
    made.mkdir()
    (made / "GRCh38-cCREs.V4.bed").write_text(CCRES)
    ledger.verified(RESOURCES["ccres"], made, "ccres")
    return tree(made)


def _field(number: int, value: bytes | int) -> bytes:
    """A field of a protocol buffer: a small number, or few bytes."""
    return bytes([number << 3, value]) if isinstance(value, int) else bytes([number << 3 | 2, len(value)]) + value


def _graph(made: Path) -> Files:
    """A frozen graph with a constant of two by three numbers."""
    shape = b"".join(_field(2, _field(1, size)) for size in (2, 3))
    tensor = _field(1, 1) + _field(2, shape) + _field(4, np.arange(6, dtype="<f4").tobytes())
    entry = _field(1, b"value") + _field(2, _field(8, tensor))
    node = _field(1, b"conv/kernel") + _field(2, b"Const") + _field(5, entry)
    return {"model.pb": _field(1, node) + _field(1, _field(1, b"input") + _field(2, b"Placeholder"))}


def _keras(made: Path) -> Files:
    bpnet_files.write_h5(made / "model.h5", bpnet_files.chrombpnet_layers(1, filters=1, depth=1))
    return tree(made)


def _read_keras(folder: Path) -> object:
    from builders.bpnet_h5 import read_h5

    return read_h5(folder / "model.h5")


def _read_legnet(folder: Path) -> object:
    from builders.legnet_torch import LegNetConfig

    return LegNetConfig.read(folder / "config.json")


def _checkpoint(made: Path) -> Files:
    import torch

    made.mkdir()
    torch.save({"state_dict": {"a.weight": torch.ones(2, 3)}}, made / "model.pt")
    return tree(made)


def _safetensors(made: Path) -> Files:
    import torch
    from safetensors.torch import save

    return _files("model.safetensors", save({"a.weight": torch.ones(2, 3)}))(made)


def _read_checkpoint(folder: Path) -> object:
    from builders.checkpoints import read_state

    return read_state(folder, "give another one")


PARSERS = (
    Parser("fasta", _files("genome.fa", FASTA), _read_genome, GenomeError),
    Parser(
        "bgzipped-fasta",
        partial(bgzipped, indexed=False),
        partial(_read_genome, name="genome.fa.gz"),
        GenomeError,
        BYTES,
    ),
    Parser(
        "fasta-index",
        indexed,
        partial(_read_genome, whole=True),
        GenomeError,
        mutates=lambda name: name.endswith(".fai"),
    ),
    Parser(
        "bgzip-index",
        partial(bgzipped, indexed=True),
        partial(_read_genome, name="genome.fa.gz", whole=True),
        GenomeError,
        BYTES,
        lambda name: name.endswith(".gzi"),
    ),
    Parser("gtf-genes", _files("genes.gtf", GENES), lambda folder: read_genes(folder / "genes.gtf"), AnnotationError),
    Parser("gtf-exons", _files("genes.gtf", GENES), lambda folder: merged_exons(folder / "genes.gtf"), AnnotationError),
    Parser("gtf-genes-exons", _files("g.gtf", GENES), lambda folder: gene_exons(folder / "g.gtf"), AnnotationError),
    Parser(
        "gtf-gz", _files("genes.gtf.gz", gzip.compress(GENES.encode(), mtime=0)), _read_genes_gz, AnnotationError, BYTES
    ),
    Parser("ccres", _files("ccres.bed", CCRES), lambda folder: read_ccres(folder / "ccres.bed"), AnnotationError),
    Parser(
        "enformer-tracks", _files("t.txt", enformer_targets()), lambda f: read_enformer(f / "t.txt"), TrackTableError
    ),
    Parser("borzoi-tracks", _files("t.txt", borzoi_targets()), lambda f: read_borzoi(f / "t.txt"), TrackTableError),
    Parser(
        "alphagenome-tracks",
        _files("t.pbtxt", demo_metadata()),
        lambda f: read_metadata(f / "t.pbtxt"),
        TrackTableError,
    ),
    Parser("sei-profiles", _files("names.txt", demo_names()), _read_sei, TrackTableError),
    Parser("model-list", _files("models.tsv", MODELS), _read_models, InputError),
    Parser("jaspar-list", _files("models.tsv", JASPAR), _read_models, InputError),
    Parser("percentile-table", fuzz_stores.table, fuzz_stores.rank, InputError),
    Parser("npz", fuzz_stores.npz_background, fuzz_stores.read_npz, ChorusStoreError, ZIP),
    Parser("store", fuzz_stores.background, fuzz_stores.read_values, ChorusStoreError, BYTES),
    Parser("store-root", fuzz_stores.background, fuzz_stores.read_metadata, ChorusStoreError, mutates=_is_root),
    Parser("imported-root", fuzz_stores.imported, fuzz_stores.read_metadata, ChorusStoreError, mutates=_is_root),
    Parser(
        "store-zip",
        fuzz_stores.archive,
        partial(fuzz_stores.read_values, name="enformer.zarr.zip"),
        ChorusStoreError,
        ZIP,
    ),
    Parser("build", fuzz_stores.build, fuzz_stores.read_build, ChorusStoreError, BYTES),
    Parser("ledger", _ledger, _read_ledger, InputError),
    Parser("keras-h5", _keras, _read_keras, WeightsError, BYTES, needs=("h5py",)),
    Parser("frozen-graph", _graph, lambda f: read_constants(f / "model.pb", "give another"), WeightsError, BYTES),
    Parser("legnet-config", _files("config.json", json.dumps(LEGNET)), _read_legnet, WeightsError, needs=("torch",)),
    Parser("checkpoint", _checkpoint, _read_checkpoint, WeightsError, ZIP, needs=("torch",)),
    Parser("safetensors", _safetensors, _read_checkpoint, WeightsError, needs=("torch", "safetensors")),
)
