"""A build up to its facts: inputs are hashed, the plan is made or read back, the missing units are scored."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from tqdm import tqdm

from builders import preflight
from builders.batches import valid_positions
from builders.identity import require_same
from builders.oracle import Oracle, RnaOracle
from builders.preflight import Materials
from builders.runs import record_run
from builders.score import Accounting, score
from builders.settings import Inputs, Settings
from builders.software import software_versions
from builders.track_models import TrackModels
from chorus_store import layout
from chorus_store.annotations import gene_exons, merged_exons
from chorus_store.claims import Claims, described
from chorus_store.errors import PlanError
from chorus_store.exon_bins import OutputAxis
from chorus_store.facts import FactStore
from chorus_store.layout import Kind
from chorus_store.opening import reading
from chorus_store.plan import ExonMask, Plan, build_plan
from chorus_store.units import KINDS, Shape, Unit

log = logging.getLogger("chorus.build")


class Build:
    """One oracle, its inputs and its store.

    Parameters
    ----------
    oracle : Oracle
        Not yet loaded; it is loaded before a store is made, and else only if there is something to score.
    inputs : Inputs
    settings : Settings
    materials : Materials, optional
        What `builders.preflight.prepare` has read; read here by default.

    Raises
    ------
    StoreMismatchError
        The store that is there was built from something else.
    ChorusStoreError
        Any input that cannot be used.
    """

    def __init__(self, oracle: Oracle, inputs: Inputs, settings: Settings, materials: Materials | None = None) -> None:
        self.oracle, self.inputs, self.settings = oracle, inputs, settings
        materials = materials or preflight.read(type(oracle), inputs, settings)
        self.genome = materials.genome
        self.path = settings.store_path(oracle.name)
        self._files = materials.files
        self._models = TrackModels(oracle, self._random_weights)
        self._described = self._describe_inputs()
        self._identity = self._identity_of(self._described)
        self._loaded = False
        if self.path.exists():
            self.store = FactStore(self.path)
            require_same(self.path, self.store.build["identity"], self._identity)
            self.plan = _read_plan(self.path)
        else:
            self.plan = self._make_plan(materials)
            log.info("%r", self.plan)
            # Weights that cannot be loaded must not leave a store that stands in the way of the right ones.
            self._load()
            self.store = self._create()
        if self._models.per_track:
            self._add_tracks()

    def _describe_inputs(self) -> dict[str, Any]:
        inputs, unknown = self.inputs, {"sha256": None, "bytes": None}
        tracks = {"name": inputs.tracks.name if inputs.tracks else self.oracle.name, **unknown}
        if self._models.per_track:  # the records of the units say which, and the list only where they were
            weights = {"name": "one model per track", **unknown}
        else:
            weights = self._files.of(inputs.weights) if inputs.weights else self._random_weights()
            tracks = self._files.of(inputs.tracks) if inputs.tracks else tracks
        return {
            "genome": self.genome.fingerprint(),
            "genes": self._files.of(inputs.gtf) if inputs.gtf else None,
            "ccres": self._files.of(inputs.ccres) if inputs.ccres else None,
            "tracks": {**tracks, "table_sha256": self.oracle.tracks.digest()},
            "weights": weights,
        }

    def _random_weights(self, track: str = "") -> dict[str, Any]:
        seed = self.settings.seed
        text = f"random weights, seed {seed}, {sorted(self.oracle.settings().items())}{track}"
        digest = hashlib.sha256(text.encode()).hexdigest()
        return {"name": f"random weights (seed {seed})", "sha256": digest, "bytes": None}

    def _identity_of(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Everything that the facts depend on; a store with another identity is not touched."""
        identity: dict[str, Any] = {
            "oracle": f"{self.oracle.name} {self.oracle.version}",
            "input_length_bp": self.oracle.input_length_bp,
            "precision": self.settings.precision,
            "batch": self.settings.batch,
            **self.oracle.settings(),
            "genome": inputs["genome"]["fasta_sha256_prefix64mb"] + inputs["genome"]["fai_sha256"],
        }
        # Where every track has its own model, tracks come and go, and each is compared by itself.
        for name in ("genes", "ccres") if self._models.per_track else ("genes", "ccres", "weights"):
            identity[name] = (inputs[name] or {}).get("sha256")
        if not self._models.per_track:
            identity["tracks"] = inputs["tracks"]["table_sha256"]
        for option, value in self.settings.plan.to_dict().items():
            identity[f"plan {option}"] = value
        return identity

    def _make_plan(self, materials: Materials) -> Plan:
        log.info("planning")
        return build_plan(
            self.genome,
            materials.genes,
            materials.ccres,
            self.settings.plan,
            input_length_bp=self.oracle.input_length_bp,
            max_unknown_fraction=self.oracle.max_unknown_fraction,
            bins_by_resolution=self.oracle.bins_by_resolution(),
            exon_mask=self._exon_mask(),
        )

    def _exon_mask(self) -> ExonMask | None:
        head = self.oracle.exon_head()
        if head is None:
            return None
        if self.inputs.gtf is None:
            raise PlanError("tracks of gene expression are measured over exons: give --gtf")
        axis = OutputAxis(head.resolution_bp, head.n_bins, head.offset_bp)
        if not self._gene_tracks:
            return ExonMask(merged_exons(self.inputs.gtf), axis)
        if self._models.per_track:
            raise PlanError(
                "values of single genes need a model that predicts all tracks at once; use --rna-mask exons"
            )
        genes = gene_exons(self.inputs.gtf)
        return ExonMask(genes.merged(), axis, genes)

    @property
    def _gene_tracks(self) -> int:
        """Tracks with one value per gene."""
        by_gene = isinstance(self.oracle, RnaOracle) and self.oracle.rna_mask == "gene"
        return len(self.oracle.exon_rows) if by_gene else 0

    def _shape(self) -> Shape:
        oracle, plan, block = self.oracle, self.plan, self.settings.block or self.oracle.default_block
        variant_genes, baseline_genes = (
            max(1, genes.most_of(block)) if (genes := plan.part(kind).genes) else 0 for kind in KINDS
        )
        return Shape(
            n_variants=len(plan.variants),
            n_baselines=len(plan.baselines),
            n_tracks=len(oracle.tracks),
            bin_slots=plan.options.bin_slots if oracle.bins_by_resolution() else 0,
            block=block,
            tracks_per_unit=oracle.tracks_per_unit or len(oracle.tracks),
            gene_tracks=self._gene_tracks,
            variant_genes=variant_genes,
            baseline_genes=baseline_genes,
        )

    def _create(self) -> FactStore:
        oracle, settings, plan = self.oracle, self.settings, self.plan
        inputs, identity = self._described, self._identity
        shape = self._shape()
        inputs["genome"]["sha256"] = self._genome_sha256
        strata = plan.strata()
        build = {
            "identity": identity,
            "software": software_versions(),
            "parameters": {
                "plan": settings.plan.to_dict(),
                "precision": settings.precision,
                "oracle": oracle.settings(),
                "options": oracle.options(),
                "batch": settings.batch,
                "block": shape.block,
                "seed": settings.seed if self._is_random() else None,
            },
            "geometry": {
                "input_length_bp": oracle.input_length_bp,
                "heads": [dict(head.__dict__) for head in oracle.heads],
            },
            "inputs": inputs,
            "plan": {
                "sha256": plan.sha256,
                "effect_sha256": plan.effect_sha256,
                "activity_sha256": plan.activity_sha256,
                "effect_strata": strata["variants"],
                "activity_strata": strata["baselines"],
                "seeds": {name: value for name, value in settings.plan.to_dict().items() if name.endswith("_seed")},
            },
        }
        root = {
            **layout.root_attributes(),
            "oracle": {
                "name": oracle.name,
                "title": oracle.title,
                "version": oracle.version,
                "licence": oracle.licence,
            },
            "genome": settings.assembly,
            "demo": settings.demo,
        }
        tables = {
            "tracks": oracle.tracks.to_dataset(),
            **{str(kind): table for kind, table in plan.to_datasets().items()},
        }
        store = FactStore.create(self.path, shape, build, root, tables)
        require_same(self.path, store.build["identity"], identity)
        return store

    def _is_random(self) -> bool:
        return self.inputs.weights is None and not any(map(self.oracle.weights_of, self.oracle.tracks.track.tolist()))

    def _add_tracks(self) -> None:
        """Rows for the models that the store does not have yet."""
        self._models.settle(self.store)
        if self._models.absent(self.store):
            self._load()
        self.store.add_tracks(self.oracle.tracks)

    def my_units(self, kind: Kind) -> list[Unit]:
        """Units of a kind that fall to this process and are still to be done."""
        k, n = self.settings.shard
        mine = set(self.store.units(kind)[k - 1 :: n])
        return [unit for unit in self.store.missing(kind) if unit in mine and self._models.has(self.store, unit)]

    def score(self, kind: Kind) -> Accounting:
        """Do the missing units of a kind that no other process is at."""
        with Claims(self.path, " ".join(self.settings.command)) as claims:
            return self._score(kind, claims)

    def _score(self, kind: Kind, claims: Claims) -> Accounting:
        units = self.my_units(kind)
        spent = Accounting()
        if not units:
            log.info("%s: nothing left to score", kind)
            return spent
        self._require_same_genome()
        self._load()
        total = sum(len(valid_positions(self.plan, unit)) for unit in units) * (2 if kind == "variants" else 1)
        log.info("%s: %d units, %d sequences to score", kind, len(units), total)
        try:
            with tqdm(total=total, desc=kind, unit="seq", disable=None, smoothing=0.05) as bar:
                score(
                    self.store,
                    self.oracle,
                    self.genome,
                    self.plan,
                    units,
                    batch=self.settings.batch,
                    claims=claims,
                    models=self._models.described,
                    spent=spent,
                    on_sequences=bar.update,
                )
        finally:
            counts = {name: getattr(spent, name) for name in ("forward_s", "sequences", "units", "sequences_per_pass")}
            record_run(self.path, self.settings, kind, spent.wall_s, **counts)
        if claims.others:
            log.warning("%s; left to others", described(claims.others))
        log.info("%s: %d sequences, %.1f s in the model", kind, spent.sequences, spent.forward_s)
        return spent

    @cached_property
    def _genome_sha256(self) -> str:
        return self.genome.sha256()

    def _require_same_genome(self) -> None:
        """The identity has no more than the beginning of the file and its index, which are read in no time."""
        of = {"genome sha256": self.store.build["inputs"]["genome"]["sha256"]}
        require_same(self.path, of, {"genome sha256": self._genome_sha256})

    def _load(self) -> None:
        if self._loaded:
            return
        settings = self.settings
        log.info("loading %s on %s (%s)", self.oracle.title, settings.device, settings.precision)
        if self.inputs.weights is not None and self.oracle.restriction:
            log.warning("licence: %s", self.oracle.restriction)
        self.oracle.load(self.inputs.weights, device=settings.device, precision=settings.precision, seed=settings.seed)
        self._files.require_unchanged(*self.inputs.__dict__.values())
        self._loaded = True


def _read_plan(path: Path) -> Plan:
    with reading(f"the plan of {path}"):
        return Plan.from_datasets({kind: layout.read_table(path, f"{layout.PLAN}/{kind}") for kind in KINDS})
