"""What a plan draws: sizes, seeds and margins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from chorus_store.annotations import CCRE_CLASSES
from chorus_store.errors import PlanError

#: Of a stratum: a third of the genome, and few enough to list their units of work.
MOST_POSITIONS = 1_000_000_000


def _documented_ccre_counts() -> dict[str, int]:
    return dict(zip(CCRE_CLASSES, (3000, 2500, 1500, 1500, 1000, 500, 1000, 500), strict=True))


@dataclass(frozen=True)
class PlanOptions:
    """What to draw. The defaults are the documented ones of the reference.

    Attributes
    ----------
    n_variants, n_random, n_tss, n_gene_bodies : int
        Size of each set; 0 leaves it out.
    ccre_counts : mapping of str to int
        Wanted per cCRE class; a class that is not named is left out.
    variant_seed, random_seed, ccre_seed, tss_seed, gene_body_seed, bin_seed : int
        One per stream.
    variant_margin_bp, random_margin_bp : int
        Distance from the ends of a chromosome.
    bin_slots : int
        Output bins per baseline position and resolution.

    Raises
    ------
    PlanError
        A negative size, a margin or number of slots below 1, or an unknown cCRE class.
    """

    n_variants: int = 10_000
    n_random: int = 15_000
    ccre_counts: Mapping[str, int] = field(default_factory=_documented_ccre_counts)
    n_tss: int = 3_000
    n_gene_bodies: int = 2_000
    variant_seed: int = 42
    random_seed: int = 789
    ccre_seed: int = 456
    tss_seed: int = 111
    gene_body_seed: int = 222
    bin_seed: int = 999
    variant_margin_bp: int = 5_000_000
    random_margin_bp: int = 10_000_000
    bin_slots: int = 32

    def __post_init__(self) -> None:
        unknown = sorted(set(self.ccre_counts) - set(CCRE_CLASSES))
        if unknown:
            raise PlanError(f"unknown cCRE classes {unknown}; known classes: {', '.join(CCRE_CLASSES)}")
        sizes = {name: getattr(self, name) for name in ("n_variants", "n_random", "n_tss", "n_gene_bodies")}
        negative = [name for name, n in {**sizes, **self.ccre_counts}.items() if n < 0]
        if negative:
            raise PlanError(f"sizes must be 0 or more: {', '.join(negative)}")
        huge = [name for name, n in {**sizes, **self.ccre_counts}.items() if n > MOST_POSITIONS]
        if huge:
            raise PlanError(f"sizes must be at most {MOST_POSITIONS:,}: {', '.join(huge)}")
        if min(self.variant_margin_bp, self.random_margin_bp, self.bin_slots) < 1:
            raise PlanError("margins and bin slots must be 1 or more")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; inverse of `from_dict`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PlanOptions:
        """Options from plain values; missing ones take their defaults.

        Raises
        ------
        PlanError
            There is no such option.
        """
        unknown = sorted(set(values) - {option.name for option in fields(cls)})
        if unknown:
            raise PlanError(f"unknown plan options: {', '.join(unknown)}")
        return cls(**values)

    def wanted(self) -> dict[str, int]:
        """Positions wanted per baseline stratum, in drawing order."""
        return {
            "random": self.n_random,
            "ccre": sum(self.ccre_counts.values()),
            "tss": self.n_tss,
            "gene_body": self.n_gene_bodies,
        }
