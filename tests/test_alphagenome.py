"""AlphaGenome: its metadata, its facts with the small model, its weights, and a build by the command line."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chorus_store
from builders import check, cli, conformance
from builders.alphagenome import CHANNELS as PUBLISHED
from builders.alphagenome import AlphaGenome
from builders.alphagenome_tracks import demo_metadata, read_metadata
from builders.oracle import BinArray, Exons, Reduced
from builders.reduction import reduce_arrays
from builders.resources import RESOURCES
from chorus_store.errors import InputError, ModelError, TrackTableError, WeightsError
from chorus_store.sequence import one_hot
from chorus_store.tracks import TrackTable

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra alphagenome)")
pytest.importorskip("alphagenome_pytorch.heads", reason="alphagenome-pytorch 0.3 is not installed (extra alphagenome)")

from builders.alphagenome_model import architecture, head_of  # noqa: E402
from builders.alphagenome_torch import _random_weights  # noqa: E402
from builders.checkpoints import install, shapes_of  # noqa: E402
from tests.exon_requests import exons_of, with_genes, write_one_gene  # noqa: E402

LENGTH = 8192
CHANNELS = {  # of the small model's heads: the highest channel of the demonstration's tracks, plus 1
    "atac": 4, "cage": 8, "dnase": 4, "rna_seq": 8, "chip_histone": 4, "chip_tf": 4, "splice_sites": 5,
    "splice_site_usage": 8, "procap": 8,
}  # fmt: skip
COUNTS = {
    "chromatin_accessibility": 472,
    "tf_binding": 1617,
    "histone_marks": 1116,
    "tss_activity": 558,
    "splicing": 738,
    "gene_expression": 667,
}


@pytest.fixture(scope="module")
def metadata(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("metadata") / "human.textproto"
    path.write_text(demo_metadata())
    return path


@pytest.fixture(scope="module")
def oracle(metadata: Path) -> AlphaGenome:
    made = AlphaGenome(metadata, size="small")
    made.load(None, seed=1)
    return made


@pytest.fixture(scope="module")
def state() -> dict[str, Any]:
    """Weights of the oracle, with means that differ."""
    made = _random_weights(shapes_of(architecture("small", CHANNELS)), seed=1)
    for key, value in made.items():
        if key.endswith("track_means"):
            value += torch.arange(value.shape[1]) / 10
    return made


class Pairs(torch.nn.Module):  # type: ignore[misc]
    """In place of the embedding of pairs, which the small model does without."""

    def forward(self, pairs: Any, organism: Any) -> Any:
        return pairs


def published(state: dict[str, Any]) -> Any:
    """The package's own forward pass, whole outputs."""
    model = architecture("small", CHANNELS)
    install(model, state)
    model.embedder_pair = Pairs()
    return model.eval().requires_grad_(False)


def random_codes(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 5, (n, LENGTH), dtype=np.uint8)


def request_of(masks: list[list[tuple[int, int]]], seed: int = 0) -> tuple[dict[int, BinArray], Exons]:
    """Random bins of both resolutions, these runs of exon bins with some in the slots, and genes that share them."""
    rng = np.random.default_rng(seed)
    exons = with_genes(exons_of(masks, rng), rng)
    bins = {bp: rng.integers(0, LENGTH // bp, (len(masks), 32), dtype=np.int32) for bp in (1, 128)}
    return bins, exons


MASKS = [[(0, 3), (900, 1400), (4000, 4100), (LENGTH - 1, LENGTH)], [], [(4095, 4096)]]


def test_conforms(oracle: AlphaGenome) -> None:
    counts = {
        "chromatin_accessibility": 8,
        "tf_binding": 4,
        "histone_marks": 4,
        "tss_activity": 16,
        "splicing": 12,
        "gene_expression": 8,
    }
    assert conformance.check(oracle, counts, repeats=2) == []


def test_facts_are_those_of_the_full_prediction(metadata: Path, state: dict[str, Any], tmp_path: Path) -> None:
    torch.save(state, tmp_path / "model.pt")
    oracle = AlphaGenome(metadata, size="small")
    oracle.load(tmp_path / "model.pt")
    codes, (bins, exons) = random_codes(3), request_of(MASKS)
    with torch.inference_mode():
        human = torch.zeros(3, dtype=torch.long)
        full = published(state)(torch.from_numpy(one_hot(codes)), human)
    predictions = {name: full[name][1].numpy() for name in ("atac", "cage", "dnase", "rna_seq", "procap")}
    predictions |= {name: full[name][128].numpy() for name in ("chip_tf", "chip_histone")}
    predictions["splice_sites"] = full["splice_sites"]["probs"].numpy()
    predictions["splice_site_usage"] = full["splice_site_usage"]["predictions"].numpy()
    assert {name: values.shape[1:] for name, values in predictions.items()} == {
        name: (LENGTH // (128 if name.startswith("chip") else 1), n) for name, n in CHANNELS.items()
    }
    found = oracle.reduce(codes, bins, exons)
    assert_facts(found, reduce_arrays(oracle, predictions, bins, exons))
    rna = oracle.tracks.layer == "gene_expression"
    assert np.isnan(found.statistics[1]).tolist() == rna.tolist()
    assert np.isfinite(found.statistics[[0, 2]]).all()
    alone = oracle.reduce(codes)
    assert alone.bins is None and np.isnan(alone.statistics[:, rna]).all()
    np.testing.assert_allclose(alone.statistics[:, ~rna], found.statistics[:, ~rna], rtol=1e-5)


def assert_facts(found: Reduced, expected: Reduced) -> None:
    assert found.statistics.dtype == np.float32 and found.bins is not None and expected.bins is not None
    np.testing.assert_allclose(found.statistics, expected.statistics, rtol=1e-4)
    np.testing.assert_allclose(found.bins, expected.bins, rtol=1e-4, atol=1e-6)
    assert found.genes is not None and expected.genes is not None and len(found.genes)
    np.testing.assert_allclose(found.genes, expected.genes, rtol=1e-4)


def test_splice_heads_give_probabilities(state: dict[str, Any]) -> None:
    model = published(state)
    embedded = torch.randn(2, 48, 7, generator=torch.Generator().manual_seed(0))
    classes, usage = (
        head_of(model, name)(embedded, torch.zeros(2, dtype=torch.long))
        for name in ("splice_sites", "splice_site_usage")
    )
    torch.testing.assert_close(classes.sum(dim=2), torch.ones(2, 7))
    assert 0 < usage.min() < usage.max() < 1


def test_one_base_changes_every_track(oracle: AlphaGenome) -> None:
    reference = random_codes(1) % 4
    alternate = reference.copy()
    alternate[0, LENGTH // 2 - 1] ^= 1
    _, exons = request_of([[(4080, 4110)]])
    ref, alt = (oracle.reduce(codes, None, exons).statistics for codes in (reference, alternate))
    assert (ref != alt).all()


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_lower_precision_is_close(oracle: AlphaGenome, metadata: Path, precision: str) -> None:
    codes, (bins, exons) = random_codes(1), request_of(MASKS[:1])
    lower = AlphaGenome(metadata, size="small")
    lower.load(None, seed=1, precision=precision)
    found, expected = (each.reduce(codes, bins, exons).statistics for each in (lower, oracle))
    np.testing.assert_allclose(found, expected, rtol=0.1, atol=0.1)


def test_other_lengths_are_refused(oracle: AlphaGenome, metadata: Path) -> None:
    with pytest.raises(ModelError, match=r"\(batch, 8192\) base codes, not \(1, 1000\)"):
        oracle.reduce(random_codes(1)[:, :1000])
    with pytest.raises(ModelError, match="call load first"):
        AlphaGenome(metadata, size="small").reduce(random_codes(1))


def test_weights_that_do_not_fit_are_named(state: dict[str, Any], metadata: Path, tmp_path: Path) -> None:
    oracle, path = AlphaGenome(metadata, size="small"), tmp_path / "w.pt"
    means, kernel = "heads.atac.track_means", "heads.atac.convs.1.weight"
    without_means = {key: value for key, value in state.items() if not key.endswith("track_means")}
    cases: list[tuple[dict[str, Any], str]] = [
        (without_means, r"lacks the track means \(heads.atac.track_means, .*heads.procap.track_means\)"),
        ({**state, means: torch.ones(2, 4)}, r"heads.atac.track_means holds no track means \(all the same\)"),
        ({**state, means: torch.tensor([[1.0, 0, 2, 3]] * 2)}, r"no track means \(not all above 0\)"),
        ({**state, means: torch.tensor([[1.0, torch.nan, 2, 3]] * 2)}, r"no track means \(not all above 0\)"),
        ({k: v for k, v in state.items() if k != kernel}, f"missing: {kernel}"),
        ({**state, "contact_maps_head.linear.bias": torch.ones(1)}, "unknown: contact_maps_head.linear.bias"),
        ({**state, kernel: state[kernel][:, :3]}, r"heads.atac.convs.1.weight \(2, 3, 48\) instead of \(2, 4, 48\)"),
    ]
    for broken, message in cases:
        torch.save(broken, path)
        with pytest.raises(WeightsError, match=message) as caught:
            oracle.load(path)
        assert "gtca/alphagenome_pytorch" in str(caught.value)
    path.write_bytes(path.read_bytes()[: 2**14])
    with pytest.raises(WeightsError, match="is not a readable checkpoint"):
        oracle.load(path)


def test_the_published_size_has_the_published_heads() -> None:
    shapes = shapes_of(architecture("full", {}))
    assert sum(shape.numel() for key, shape in shapes.items() if not key.endswith("track_means")) // 10**5 == 4505
    widths = {key.split(".")[1]: shape[1] for key, shape in shapes.items() if key.endswith("track_means")}
    widths["splice_sites"] = shapes["splice_sites_classification_head.conv.weight"][1]
    widths["splice_site_usage"] = shapes["splice_sites_usage_head.conv.weight"][1]
    assert widths == PUBLISHED


@pytest.mark.shared
def test_the_published_metadata(shared: Path) -> None:
    table = AlphaGenome(shared / "data/tracks/alphagenome_human.textproto.gz").tracks
    assert len(table) == 5168 and table.layer_counts() == COUNTS
    heads = {name: table.channel[table.head == name].tolist() for name in CHANNELS}
    assert heads == {name: list(range(len(channels))) for name, channels in heads.items()}
    assert {name: len(channels) for name, channels in heads.items()} == {
        "atac": 167, "cage": 546, "dnase": 305, "rna_seq": 667, "chip_histone": 1116, "chip_tf": 1617,
        "splice_sites": 4, "splice_site_usage": 734, "procap": 12,
    }  # fmt: skip
    order = list(dict.fromkeys(table.head.tolist()))
    assert order == [head.name for head in AlphaGenome.heads]
    assert not any("Padding" in track for track in table.track.tolist())
    row = table.track.tolist().index("CHIP_HISTONE/EFO:0001221 Histone ChIP-seq H3K36me3/.")
    assert (table.cell_type[row], table.description[row]) == ("NCI-H929", "Histone ChIP-seq:H3K36me3:NCI-H929")
    assert "mesenchymal stem cell of Wharton's jelly" in table.cell_type


def test_tables_that_do_not_fit(metadata: Path, tmp_path: Path) -> None:
    with pytest.raises(TrackTableError, match="has 52 tracks where AlphaGenome predicts 5,168"):
        AlphaGenome(metadata)
    with pytest.raises(InputError, match="'tiny' is not one of full, small"):
        AlphaGenome(metadata, size="tiny")  # type: ignore[arg-type]
    row = ("T", "contact_maps", 0, "ATAC", "chromatin_accessibility", "", "", ".")
    with pytest.raises(TrackTableError, match="has no head contact_maps; it has atac"):
        AlphaGenome(TrackTable.from_rows([row]), size="small")
    row = ("T", "atac", 256, "ATAC", "chromatin_accessibility", "", "", ".")
    with pytest.raises(TrackTableError, match="head atac has 256 channels"):
        AlphaGenome(TrackTable.from_rows([row]), size="small")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('      name: "Padding"\n', '      name: "Padding"\n      id: 1 2\n', r"line \d+: 'id: 1 2' is no metadata"),
        ("OUTPUT_TYPE_DNASE", "OUTPUT_TYPE_DNAZE", r"unknown output type DNAZE"),
        ("strand: STRAND_POSITIVE", "strand: UP", r"line 41: a track of CAGE has no usable 'UP'"),
        ('name: "CL:0000084 ATAC-seq"', 'name: "EFO:0002067 ATAC-seq"', "line 18: ATAC/EFO.* is already on line 11"),
        ('name: "EFO:0001187 ATAC-seq"', 'name: "Padding"', "line 11: a track follows the padding of ATAC"),
    ],
)
def test_metadata_that_is_none(old: str, new: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "m.textproto"
    text = demo_metadata()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(TrackTableError, match=message):
        read_metadata(path)


def test_metadata_may_be_gzipped_and_must_be_whole(tmp_path: Path, metadata: Path) -> None:
    path = tmp_path / "m.textproto.gz"
    path.write_bytes(gzip.compress(demo_metadata().encode()))
    assert read_metadata(path).digest() == read_metadata(metadata).digest()
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(TrackTableError, match=r"cannot read .*m\.textproto\.gz"):
        read_metadata(path)
    path.write_text("\n".join(demo_metadata().splitlines()[:40]))
    with pytest.raises(TrackTableError, match=r"ends inside .*: it is not whole"):
        read_metadata(path)
    path.write_text("")
    with pytest.raises(TrackTableError, match="names no tracks"):
        read_metadata(path)


def test_the_resources_are_registered() -> None:
    assert RESOURCES["alphagenome-tracks"].url.endswith("_HOMO_SAPIENS.textproto")
    assert "non-commercial" in RESOURCES["alphagenome"].licence


@pytest.mark.slow
def test_the_check_passes(capsys: pytest.CaptureFixture[str]) -> None:
    assert check.run(["builders.alphagenome"]) == 0
    assert capsys.readouterr().out == "AlphaGenome: conforms\n"


def test_a_build_by_the_command_line(
    metadata: Path, state: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_one_gene(tmp_path)
    torch.save(state, tmp_path / "model.pt")
    sizes = {"n-variants": 3, "n-random": 4, "n-tss": 1, "n-gene-bodies": 0, "bin-slots": 8}
    command = ["--fasta", str(tmp_path / "g.fa"), "--gtf", str(tmp_path / "g.gtf"), "--tracks", str(metadata)]
    command += ["--weights", str(tmp_path / "model.pt"), "--size", "small", "--out", str(tmp_path / "out")]
    command += ["--ccre", "all=0", "--variant-margin-bp", "26000", "--random-margin-bp", "26000"]
    command += [part for name, n in sizes.items() for part in (f"--{name}", str(n))]
    assert cli.run(AlphaGenome, command) == 0
    assert "licence: the weights of AlphaGenome are for non-commercial use only" in caplog.text
    with chorus_store.open(tmp_path / "out/alphagenome.zarr") as store:
        rna = store["layer"].values == "gene_expression"
        assert len(rna) == 52
        assert set(store["effect_count"].values.tolist()) == {3}
        assert set(store["perbin_count"].values.tolist()) == {40}
        assert set(store["summary_count"].values.tolist()) == {5}
        assert store["signed"].values.tolist() == rna.tolist()
        parameters = store.attrs["provenance"]["parameters"]["oracle"]
    assert parameters == {"backend": "torch", "size": "small", "rna_mask": "exons"}
