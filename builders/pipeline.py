"""A build up to its facts: inputs are hashed, the plan is made or read back, the missing units are scored."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from builders.batches import valid_positions
from builders.identity import described, require_same
from builders.oracle import Oracle
from builders.runs import record_run
from builders.score import Accounting, score
from builders.settings import Inputs, Settings
from builders.software import software_versions
from builders.track_models import TrackModels
from chorus_store import layout
from chorus_store.annotations import merged_exons, read_ccres, read_genes
from chorus_store.errors import PlanError, StoreWriteError
from chorus_store.exon_bins import OutputAxis
from chorus_store.facts import FactStore
from chorus_store.genome import Genome
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

    Raises
    ------
    StoreMismatchError
        The store that is there was built from something else.
    ChorusStoreError
        Any input that cannot be used.
    """

    def __init__(self, oracle: Oracle, inputs: Inputs, settings: Settings) -> None:
        self.oracle, self.inputs, self.settings = oracle, inputs, settings
        self.genome = Genome(inputs.fasta)
        if settings.assembly == oracle.assembly:
            self.genome.check_assembly(oracle.assembly)
        self.path = settings.store_path(oracle.name)
        self._models = TrackModels(oracle, self._random_weights)
        self._described = self._describe_inputs()
        self._identity = self._identity_of(self._described)
        self._loaded = False
        if self.path.exists():
            self.store = FactStore(self.path)
            require_same(self.path, self.store.build["identity"], self._identity)
            self.plan = _read_plan(self.path)
        else:
            self.plan = self._make_plan()
            log.info("%r", self.plan)
            # Weights that cannot be loaded must not leave a store that stands in the way of the right ones.
            self._load()
            self.store = self._create()
        if self._models.per_track:
            self._add_tracks()

    def _describe_inputs(self) -> dict[str, Any]:
        if self._models.per_track:  # the records of the units say which
            weights = {"name": "one model per track", "sha256": None}
        else:
            weights = described(self.inputs.weights) or self._random_weights()
        tracks = {"name": self.inputs.tracks.name if self.inputs.tracks else self.oracle.name}
        return {
            "genome": self.genome.fingerprint(),
            "genes": described(self.inputs.gtf),
            "ccres": described(self.inputs.ccres),
            "tracks": {**tracks, "sha256": self.oracle.tracks.digest()},
            "weights": weights,
        }

    def _random_weights(self, track: str = "") -> dict[str, Any]:
        seed = self.settings.seed
        text = f"random weights, seed {seed}, {sorted(self.oracle.settings().items())}{track}"
        return {"name": f"random weights (seed {seed})", "sha256": hashlib.sha256(text.encode()).hexdigest()}

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
        for name in ("genes", "ccres") if self._models.per_track else ("genes", "ccres", "tracks", "weights"):
            identity[name] = (inputs[name] or {}).get("sha256")
        for option, value in self.settings.plan.to_dict().items():
            identity[f"plan {option}"] = value
        return identity

    def _make_plan(self) -> Plan:
        log.info("planning: reading annotations and the genome")
        return build_plan(
            self.genome,
            read_genes(self.inputs.gtf) if self.inputs.gtf else None,
            read_ccres(self.inputs.ccres) if self.inputs.ccres else None,
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
        return ExonMask(merged_exons(self.inputs.gtf), OutputAxis(head.resolution_bp, head.n_bins, head.offset_bp))

    def _create(self) -> FactStore:
        oracle, settings, plan = self.oracle, self.settings, self.plan
        inputs, identity = self._described, self._identity
        shape = Shape(
            n_variants=len(plan.variants.pos),
            n_baselines=len(plan.baselines.pos),
            n_tracks=len(oracle.tracks),
            bin_slots=settings.plan.bin_slots if oracle.bins_by_resolution() else 0,
            block=settings.block or oracle.default_block,
            tracks_per_unit=oracle.tracks_per_unit or len(oracle.tracks),
        )
        _require_space(settings.folder, shape.total_bytes())
        inputs["genome"]["sha256"] = self.genome.sha256()
        strata = plan.strata()
        build = {
            "identity": identity,
            "software": software_versions(),
            "parameters": {
                "plan": settings.plan.to_dict(),
                "precision": settings.precision,
                "oracle": oracle.settings(),
                "batch": settings.batch,
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
        """Do the missing units of a kind."""
        units = self.my_units(kind)
        spent = Accounting()
        if not units:
            log.info("%s: nothing left to score", kind)
            return spent
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
                    models=self._models.described,
                    spent=spent,
                    on_sequences=bar.update,
                )
        finally:
            counts = {name: getattr(spent, name) for name in ("forward_s", "sequences", "units", "sequences_per_pass")}
            record_run(self.path, self.settings, kind, spent.wall_s, **counts)
        log.info("%s: %d sequences, %.1f s in the model", kind, spent.sequences, spent.forward_s)
        return spent

    def _load(self) -> None:
        if self._loaded:
            return
        settings = self.settings
        log.info("loading %s on %s (%s)", self.oracle.title, settings.device, settings.precision)
        if self.inputs.weights is not None and self.oracle.restriction:
            log.warning("licence: %s", self.oracle.restriction)
        self.oracle.load(self.inputs.weights, device=settings.device, precision=settings.precision, seed=settings.seed)
        self._loaded = True


def _read_plan(path: Path) -> Plan:
    with reading(f"the plan of {path}"):
        return Plan.from_datasets({kind: layout.read_table(path, f"{layout.PLAN}/{kind}") for kind in KINDS})


def _require_space(folder: Path, needed: int) -> None:
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise StoreWriteError(
            f"{folder} has {free / 2**30:.1f} GiB free, the facts of this build take {needed / 2**30:.1f}; "
            "free some space, give another --out, or ask for fewer positions"
        )
