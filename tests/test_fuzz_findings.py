"""What fuzzing has found, one small case each: every one was a traceback, or a wrong answer without a word."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chorus_store
from builders import cli, ledger, targets
from builders.legnet import LegNet
from builders.model_list import read_list
from builders.resources import RESOURCES
from chorus_store import console, info, layout, npz
from chorus_store.annotations import merged_exons, read_ccres, read_genes
from chorus_store.cli import main
from chorus_store.errors import (
    AnnotationError,
    ChorusStoreError,
    CorruptStoreError,
    GenomeError,
    InputError,
    SchemaError,
    TrackTableError,
    WeightsError,
)
from chorus_store.facts import FactStore
from chorus_store.genome import Genome
from chorus_store.normalizer import PerTrackNormalizer
from chorus_store.npz_import import import_npz
from chorus_store.sequence import encode
from chorus_store.units import Shape
from tests import fuzz_parsers, npz_files
from tests.stores import archive, make_store

NESTED = "[" * 100_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return make_store(tmp_path / "enformer.zarr", 3, n_quantiles=9)


def rewrite(path: Path, *keys: str, value: Any) -> None:
    """Put a value into a store's root document, and leave out its seal."""
    document = json.loads((path / "zarr.json").read_bytes())
    document["attributes"].pop("seal", None)
    node = document
    for key in keys[:-1]:
        node = node[key]
    node[keys[-1]] = value
    (path / "zarr.json").write_text(json.dumps(document))


@pytest.mark.parametrize(
    "text",
    [
        ">a\nA\nstring\n",  # a line longer than the first, at the end
        ">a\nACGT\nACGTACGTACGT\nA\n",
    ],
)
def test_lines_that_differ_are_refused_when_the_index_is_built(tmp_path: Path, text: str) -> None:
    (tmp_path / "g.fa").write_text(text)
    with pytest.raises(GenomeError, match="indexed"):
        Genome(tmp_path / "g.fa")


@pytest.mark.parametrize("content", [b"\x1f\x8b", b"\x1f\x8b\x08"])
def test_a_gzip_file_of_a_few_bytes(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "g.fa.gz").write_bytes(content)
    with pytest.raises(GenomeError, match="compressed by gzip"):
        Genome(tmp_path / "g.fa.gz")


@pytest.mark.parametrize(
    "row",
    [
        "chr20\t62\t17\t10\t11",  # a base too few
        "chr20\t63\t17\t9\t10",  # other lines, of the same length in all
        "chr20\t63\t17\t10\t12",
        "chr20\t63\t17\t0\t11",
        f"chr20\t{10**400}\t17\t10\t11",
        f"chr20\t{2**63}\t17\t10\t11",
    ],
)
def test_an_index_that_nearly_fits_is_built_again(tmp_path: Path, row: str) -> None:
    for name, data in fuzz_parsers.indexed(tmp_path / "made").items():
        (tmp_path / name).write_bytes(data.replace(b"chr20\t63\t17\t10\t11", row.encode()))
    with Genome(tmp_path / "genome.fa") as genome:
        assert np.array_equal(genome.fetch("chr20", 0, 63), encode(fuzz_parsers.SEQUENCES["chr20"]))


@pytest.mark.parametrize("change", [(8, 50), (16, 32), (0, 2**40)])
def test_an_index_of_blocks_that_nearly_fits(tmp_path: Path, change: tuple[int, int]) -> None:
    """Where a block begins, in the file or in the text, is another; or there are more blocks than places."""
    for name, data in fuzz_parsers.bgzipped(tmp_path / "made", indexed=True).items():
        (tmp_path / name).write_bytes(data)
    index, content = tmp_path / "genome.fa.gz.gzi", bytearray((tmp_path / "genome.fa.gz.gzi").read_bytes())
    struct.pack_into("<Q", content, *change)
    index.write_bytes(content)
    try:
        with Genome(tmp_path / "genome.fa.gz") as genome:
            assert np.array_equal(genome.fetch("chr20", 0, 63), encode(fuzz_parsers.SEQUENCES["chr20"]))
    except GenomeError as error:
        assert ".gzi" in str(error)


def test_positions_that_no_chromosome_has(tmp_path: Path) -> None:
    far = str(10**30)
    (tmp_path / "g.gtf").write_text(fuzz_parsers.GENES.replace("\t91\t", f"\t{far}\t"))
    (tmp_path / "c.bed").write_text(fuzz_parsers.CCRES.replace("\t9\t", f"\t{far}\t"))
    for read, name in ((read_genes, "g.gtf"), (merged_exons, "g.gtf"), (read_ccres, "c.bed")):
        with pytest.raises(AnnotationError, match=r"line .*beyond any chromosome"):
            read(tmp_path / name)


def test_an_index_of_a_track_that_no_model_has(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text(f"index\tidentifier\tdescription\n{10**30}\tA\tDNASE:K562\n")
    with pytest.raises(TrackTableError, match=r"line 2: the index 10+ is out of range"):
        targets.read_targets(tmp_path / "t.txt", "give another")


@pytest.mark.parametrize("source", ["https://[/x.h5", "~nosuchuser/x.h5", "a" * 300, "x/" + "a" * 300 + "/m.h5"])
def test_models_that_are_nowhere(tmp_path: Path, source: str) -> None:
    (tmp_path / "m.tsv").write_text(f"track\tmodel\nATAC:K562\t{source}\n")
    with pytest.raises(TrackTableError, match="line 2"):
        read_list(tmp_path / "m.tsv")


@pytest.mark.parametrize(
    "text", ["[]", "1", '{"x": null}', '{"x": {}}', '{"x": {"sha256": "md9:0"}}', NESTED, "\udcff"]
)
def test_a_ledger_that_says_something_else(tmp_path: Path, text: str) -> None:
    (tmp_path / ledger.LEDGER).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match="is damaged"):
        ledger.expected_checksum(RESOURCES["ccres"], tmp_path)


@pytest.mark.parametrize("place", ["zarr.json", "attributes"])
def test_documents_that_are_nested_too_deep(path: Path, place: str) -> None:
    deep = NESTED if place == "zarr.json" else '{"zarr_format": 3, "node_type": "group", "attributes": ' + NESTED
    (path / "zarr.json").write_text(deep)
    for read in (chorus_store.open, info.describe):
        with pytest.raises(ChorusStoreError, match="damaged"):
            read(path)


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("attributes", "oracle"), 5),
        (("attributes", "oracle"), {}),
        (("attributes", "provenance"), {}),
        (("attributes", "provenance", "sampling"), {"effect": {"offered": "0-1"}}),
        (("attributes", "provenance", "plan"), "x"),
        (("attributes", "provenance", "geometry"), {}),
    ],
)
def test_attributes_of_another_form(path: Path, keys: tuple[str, ...], value: object) -> None:
    rewrite(path, *keys, value=value)
    questions = (
        lambda: info.render(info.describe(path)),
        lambda: PerTrackNormalizer(semantics="seed", backgrounds={"enformer": path}).n_tracks("enformer"),
        lambda: npz.export_npz(path, path.with_suffix(".npz"), progress=False),
    )
    refused = 0
    for ask in questions:
        try:
            ask()
        except ChorusStoreError:
            refused += 1
    assert refused


@pytest.mark.parametrize(
    "array", [{"attributes": "x"}, {"shape": [10**30]}, {"chunk_grid": {}}, {"fill_value": 10**30}]
)
def test_metadata_of_an_array_of_another_form(path: Path, array: dict[str, Any]) -> None:
    members = json.loads((path / "zarr.json").read_bytes())["consolidated_metadata"]["metadata"]
    rewrite(path, "consolidated_metadata", "metadata", "window_bp", value={**members["window_bp"], **array})
    with pytest.raises(ChorusStoreError):
        chorus_store.open(path).load()


def test_an_npz_file_is_not_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = npz_files.save(tmp_path / "sei_pertrack.npz", npz_files.background())
    assert main(["export", str(file)]) == console.EXIT_ERROR
    assert "is an NPZ file already" in capsys.readouterr().err


def test_the_name_of_an_oracle_is_no_path(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rewrite(path, "attributes", "oracle", "name", value="../escaped")
    assert main(["export", str(path)]) == console.EXIT_ERROR
    assert "$.oracle.name" in capsys.readouterr().err
    assert not [*path.parent.parent.glob("escaped*")]


def test_a_result_in_the_place_of_a_folder(path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.chdir(path.parent)
    assert main(["export", str(path), "--out", ".", "--allow-fewer-tracks"]) == console.EXIT_ERROR
    assert "it is a folder" in capsys.readouterr().err


def test_a_store_is_the_working_directory(path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.chdir(path)
    assert main(["info", "."]) == console.EXIT_OK
    assert main(["merge", str(path), str(path), "--out", "."]) == console.EXIT_ERROR
    assert capsys.readouterr().err.startswith("error: ")


def test_a_track_that_is_there_twice(path: Path) -> None:
    with chorus_store.open(path) as store, pytest.raises(SchemaError, match="'DNASE:00000' is there twice"):
        store.isel(track=[0, 0, 1]).chorus.percentile(0.5, track="CHIP:00001")


def test_a_number_that_json_does_not_have(path: Path, tmp_path: Path) -> None:
    rewrite(path, "attributes", "provenance", "layers", "tf_binding", "effect", "p99", value=float("inf"))
    with pytest.raises(CorruptStoreError, match="the provenance"):
        npz.export_npz(path, tmp_path / "enformer_pertrack.npz", progress=False)
    assert not (tmp_path / "enformer_pertrack.npz").exists()


def test_a_document_that_came_with_an_import_and_is_no_json(path: Path, tmp_path: Path) -> None:
    file = npz.export_npz(path, tmp_path / "enformer_pertrack.npz", progress=False)
    imported = import_npz(file, tmp_path / "imported.zarr", progress=False)
    rewrite(imported, "attributes", "provenance", "imported", "build_config", value='{"a": "\\x"}')
    with pytest.raises(CorruptStoreError, match="the provenance"):
        npz.export_npz(imported, tmp_path / "again_pertrack.npz", progress=False)


def test_an_archive_of_a_version_to_come(path: Path) -> None:
    file = archive(path, path.with_suffix(".zarr.zip"))
    content = bytearray(file.read_bytes())
    content[content.rindex(b"PK\1\2") + 6] = 127  # version needed to extract, of the last member
    file.write_bytes(content)
    with pytest.raises(CorruptStoreError, match="not a whole zip file"):
        chorus_store.open(file)


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [("--memory", "9" * 400, "is not a size"), ("--tracks", "9" * 300, "is too long for the name of a file")],
)
def test_options_beyond_all_sizes(capsys: pytest.CaptureFixture[str], option: str, value: str, said: str) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.run(LegNet, [option, value, "--dry-run"])
    assert stop.value.code == console.EXIT_ERROR
    assert said in capsys.readouterr().err


def test_a_model_file_with_names_that_are_no_text(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    from builders.bpnet_h5 import read_h5

    with h5py.File(tmp_path / "model.h5", "w") as file:
        file["model_weights/main_conv_QQ/kernel:0"] = 0.5
    (tmp_path / "model.h5").write_bytes((tmp_path / "model.h5").read_bytes().replace(b"QQ", b"\xff\xff"))
    with pytest.raises(WeightsError, match="cannot be read as HDF5"):
        read_h5(tmp_path / "model.h5")


def test_a_model_file_that_declares_more_than_it_holds(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    from builders.bpnet_h5 import read_h5

    with h5py.File(tmp_path / "model.h5", "w") as file:
        file.create_dataset("model_weights/main_conv_0/kernel:0", (2**30, 2**10), "f4", chunks=(1024, 1024))
    with pytest.raises(WeightsError, match="more than it holds"):
        read_h5(tmp_path / "model.h5")


@pytest.fixture
def build(tmp_path: Path) -> FactStore:
    """A build of four variants in two units, both of them scored."""
    shape = Shape(4, 0, 3, 0, 2, 3)
    store = FactStore.create(tmp_path / "tiny.zarr", shape, {"identity": {}}, layout.root_attributes(), {})
    for unit in store.units("variants"):
        facts = np.ones((2, 3), np.float32)
        store.write(unit, {"effect/ref": facts, "effect/alt": facts}, {"positions": 2, "scored": 2, "dropped": {}})
    return store


@pytest.mark.parametrize("size", ["3", -1, 0, 1.5, None, [2]])
def test_sizes_that_are_none(build: FactStore, size: Any) -> None:
    rewrite(build.path / "progress", "attributes", "shape", "block", value=size)
    with pytest.raises(CorruptStoreError, match=r"progress is damaged \(its sizes are wrong"):
        FactStore(build.path)


@pytest.mark.parametrize("name", ["a" * 300, "effect/other", "../../../elsewhere"])
def test_a_record_of_facts_that_there_are_not(build: FactStore, name: str) -> None:
    assert build.missing("variants") == []
    unit = build.units("variants")[1]
    data = json.loads((build.path / "progress" / unit.name / "zarr.json").read_bytes())["attributes"]["data"]
    rewrite(build.path / "progress" / unit.name, "attributes", "data", value={**data, name: data["effect/ref"]})
    assert FactStore(build.path).missing("variants") == [unit]
