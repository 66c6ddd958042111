"""Before a model is loaded or a store is made: all that is known to stand in the way of a build, said at once."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from builders import estimate, input_files, requirements
from builders.checksums import Described
from builders.merge import require_options
from builders.oracle import Oracle, Workload
from builders.settings import KINDS_OF_PART, MERGING_PARTS, Inputs, Settings
from chorus_store.annotations import CCres, Genes, read_ccres, read_genes
from chorus_store.errors import ChorusStoreError, PreflightError
from chorus_store.genome import Genome
from chorus_store.plan import autosomes

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Materials:
    """What a plan is drawn from; without annotations where they are not wanted, or where the plan is there.

    ``files`` has noted the annotations before they were read.
    """

    genome: Genome
    genes: Genes | None = None
    ccres: CCres | None = None
    files: Described = field(default_factory=Described)


@dataclass(frozen=True)
class Expected:
    """What an oracle will predict, and the names of its tracks where they are known."""

    workload: Workload
    tracks: Sequence[str] = ()


class Problems:
    """Errors that are collected, to be said together.

    Attributes
    ----------
    found : list of ChorusStoreError
    """

    def __init__(self) -> None:
        self.found: list[ChorusStoreError] = []

    def attempt(self, action: Callable[..., T], *arguments: Any) -> T | None:
        """Result of an action; None where it raised, which is kept."""
        try:
            return action(*arguments)
        except ChorusStoreError as error:
            if str(error) not in map(str, self.found):  # what stands in the way of several checks is one problem
                self.found.append(error)
            return None

    def say(self) -> None:
        """Raise what was found.

        Raises
        ------
        ChorusStoreError
            The one problem there is.
        PreflightError
            All of them.
        """
        if len(self.found) == 1:
            raise self.found[0]
        if self.found:
            listing = "\n".join(f"  - {problem}" for problem in self.found)
            raise PreflightError(f"{len(self.found)} problems, and nothing has been begun:\n{listing}")


def prepare(
    oracle: type[Oracle], args: argparse.Namespace, inputs: Inputs, settings: Settings
) -> tuple[Oracle, Materials]:
    """Make the oracle and read what the plan is drawn from, and check everything else that a build needs.

    Parameters
    ----------
    oracle : type of Oracle
    args : Namespace
        Its command line.
    inputs : Inputs
        Files that are there.
    settings : Settings

    Returns
    -------
    (Oracle, Materials)
        The oracle is not loaded.

    Raises
    ------
    PreflightError
        More than one thing stands in the way.
    ChorusStoreError
        One thing does.
    """
    problems = Problems()
    made = problems.attempt(oracle.from_options, args, inputs.tracks)
    _check_machine(problems, oracle, _expected(problems, oracle, args, made), settings, args.part, inputs.weights)
    materials = _read(problems, oracle, _given(inputs), settings)
    problems.say()
    assert made is not None and materials is not None  # or there would be a problem
    return made, materials


def read(oracle: type[Oracle], inputs: Inputs, settings: Settings) -> Materials:
    """Read what the plan is drawn from.

    Raises
    ------
    PreflightError, ChorusStoreError
        As `prepare`.
    """
    problems = Problems()
    materials = _read(problems, oracle, _given(inputs), settings)
    problems.say()
    assert materials is not None
    return materials


def _given(inputs: Inputs) -> dict[str, Path]:
    return {option: path for option, path in inputs.__dict__.items() if path is not None}


def before_merge(oracle: type[Oracle], settings: Settings) -> None:
    """Check what compaction and publishing need of a store that has been scored.

    Raises
    ------
    PreflightError, ChorusStoreError
        As `prepare`.
    """
    path = settings.store_path(oracle.name)
    if not path.exists():
        return  # which the merge says itself
    problems = Problems()
    _check_machine(problems, oracle, Expected(Workload(oracle.expected_tracks)), settings, "merge")
    problems.say()


def foresee(oracle: type[Oracle], args: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    """What a build would take, and what is known already to stand in its way; nothing is made or downloaded.

    Returns
    -------
    dict
        That of `builders.estimate.describe`, and ``problems``, a list of sentences: of the machine, and of those files
        that are there.
    """
    problems = Problems()
    files = problems.attempt(_files, oracle, args, settings) or {}
    made = problems.attempt(_made, oracle, args, files)
    expected = Expected(Workload(oracle.expected_tracks))
    if args.part != "merge":  # which asks nothing of the model
        expected = _expected(problems, oracle, args, made)
    report = _check_machine(problems, oracle, expected, settings, args.part, files.get("weights"))
    if report is None:  # of what nothing is known there is nothing to foresee
        raise problems.found[0]
    if "fasta" in files:
        _read(problems, oracle, files, settings)
    return {**report, "problems": [str(problem) for problem in problems.found]}


def _files(oracle: type[Oracle], args: argparse.Namespace, settings: Settings) -> dict[str, Path]:
    return {} if args.part == "merge" else input_files.there(oracle, args, settings)


def _made(oracle: type[Oracle], args: argparse.Namespace, files: Mapping[str, Path]) -> Oracle | None:
    """The oracle, where that takes no file that is not there; one with a model for each track looks for all of them."""
    if args.part == "merge" or args.demo or oracle.tracks_per_unit:
        return None
    if "tracks" in oracle.resources(args) and "tracks" not in files:
        return None
    return oracle.from_options(args, files.get("tracks"))


def _expected(problems: Problems, oracle: type[Oracle], args: argparse.Namespace, made: Oracle | None) -> Expected:
    """What the oracle will predict, as it says itself where it could be made."""
    workload = problems.attempt(oracle.workload, args) or Workload(oracle.expected_tracks)
    if made is None:
        return Expected(workload, workload.added)
    tracks = made.tracks.track.tolist()
    return Expected(replace(workload, n_tracks=len(tracks), added=tracks if oracle.tracks_per_unit else ()), tracks)


def _check_machine(
    problems: Problems,
    oracle: type[Oracle],
    expected: Expected,
    settings: Settings,
    part: str,
    weights: Path | None = None,
) -> dict[str, Any] | None:
    """Disk, memory, options, and what would be replaced, for a build of this size; returns the estimate."""
    merging, workload = part in MERGING_PARTS, expected.workload
    report = problems.attempt(estimate.describe, oracle, workload, settings, KINDS_OF_PART[part], merging)
    if report is None:
        return None
    if report["written_bytes"]:
        problems.attempt(requirements.writable, settings.folder)
        problems.attempt(requirements.space, report, settings.folder)
    if any(work["units"] for work in report["work"].values()):
        problems.attempt(requirements.scoring_memory, report)
        if weights is not None:
            problems.attempt(requirements.gpu_memory, oracle, weights, settings.device)
    if merging:
        problems.attempt(require_options, settings)
        problems.attempt(requirements.compaction_memory, oracle, workload, settings)
        problems.attempt(requirements.replaceable, oracle, expected.tracks, report["cdfs"], settings)
    return report


def _read(problems: Problems, oracle: type[Oracle], files: Mapping[str, Path], settings: Settings) -> Materials | None:
    """What the plan is drawn from; of a store that is there, only the genome."""
    for option, path in files.items():
        problems.attempt(requirements.readable, option, path)
    genome = problems.attempt(_genome, files["fasta"], oracle, settings)
    path = settings.store_path(oracle.name)
    if path.exists():
        if genome is None:
            return None
        problems.attempt(requirements.reference_bases, path, genome)
        return Materials(genome)
    noted = Described()
    for option in {"gtf", "ccres"} & files.keys():
        noted.note(files[option])
    genes = problems.attempt(read_genes, files["gtf"]) if "gtf" in files else None
    ccres = problems.attempt(read_ccres, files["ccres"]) if "ccres" in files else None
    if genome is None:
        return None
    for annotation, option in ((genes, "gtf"), (ccres, "ccres")):
        if annotation is not None:
            problems.attempt(requirements.shared_chromosomes, files[option], annotation.chrom.tolist(), genome)
    return Materials(genome, genes, ccres, noted)


def _genome(fasta: Path, oracle: type[Oracle], settings: Settings) -> Genome:
    genome = Genome(fasta)
    if settings.assembly == oracle.assembly:
        genome.check_assembly(oracle.assembly)
    autosomes(genome)
    return genome
