"""Every exception that this project raises on purpose.

One tree, rooted at `ChorusStoreError`, so that a caller can catch everything or one kind. Each class also
subclasses the builtin that a caller who has never heard of it would catch, and carries a stable ``kind`` for programs.
A message says what happened, where, and what to do next; the command lines print it without a traceback.
"""

from __future__ import annotations

from typing import ClassVar


class ChorusStoreError(Exception):
    """Root of the tree."""

    kind: ClassVar[str] = "error"

    def __str__(self) -> str:
        # KeyError would show the repr of its argument.
        return str(self.args[0]) if self.args else self.__class__.__name__


class InputError(ChorusStoreError, ValueError):
    """A file, argument or option that cannot be used as it is."""

    kind = "input"


class GenomeError(InputError):
    """A FASTA file that cannot be read, or is not the assembly that was asked for."""

    kind = "genome"


class AnnotationError(InputError):
    """A GTF or BED file that is not what it should be."""

    kind = "annotation"


class TrackTableError(InputError):
    """A track table that is malformed or does not belong to the oracle."""

    kind = "track-table"


class PlanError(InputError):
    """Positions cannot be drawn from these inputs with these options."""

    kind = "plan"


class PreflightError(ChorusStoreError, ValueError):
    """Several things stand in the way of a build; the message lists them all."""

    kind = "preflight"


class MissingResourceError(ChorusStoreError, FileNotFoundError):
    """One or more resources are neither on disk nor to be downloaded."""

    kind = "missing-resource"


class ModelError(ChorusStoreError, RuntimeError):
    """The oracle cannot be loaded or does not do what it declares."""

    kind = "model"


class DeviceMemoryError(ModelError, MemoryError):
    """The device that the oracle runs on is out of memory."""

    kind = "device-memory"


class WeightsError(ModelError):
    """Weights of another architecture, truncated or refused."""

    kind = "weights"


class BackendUnavailableError(ModelError, ImportError):
    """A framework that the oracle needs is not installed."""

    kind = "backend"


class MissingPackageError(ChorusStoreError, ImportError):
    """An optional package that this needs is not installed; the message names the extra."""

    kind = "missing-package"


class StoreError(ChorusStoreError):
    """Something about a store on disk."""

    kind = "store"


class StoreNotFoundError(StoreError, FileNotFoundError):
    """There is no store at this path."""

    kind = "store-not-found"


class StoreUnreachableError(StoreError, ConnectionError):
    """A server that does not answer, or refuses."""

    kind = "unreachable"


class StoreMismatchError(StoreError, ValueError):
    """The store that is there was built from something else (oracle, plan, weights, precision)."""

    kind = "store-mismatch"


class SchemaError(StoreError, ValueError):
    """Attributes, provenance or an NPZ that do not follow their schema, or a schema of another version."""

    kind = "schema"


class CoverageError(StoreError, ValueError):
    """A background would be replaced by one that covers far fewer of its tracks."""

    kind = "coverage"


class IncompleteStoreError(StoreError, ValueError):
    """Units of work are missing; the message lists them."""

    kind = "incomplete"


class StoreBusyError(StoreError, RuntimeError):
    """Another process is doing what was asked for; the message says who, and since when."""

    kind = "busy"


class CorruptStoreError(StoreError, ValueError):
    """Bytes on disk are not the bytes that were written."""

    kind = "corrupt"


class StoreWriteError(StoreError, OSError):
    """The operating system refused a write (full disk, read-only file system)."""

    kind = "write"


class MemoryBudgetError(ChorusStoreError, MemoryError):
    """The memory budget is smaller than the least that the work needs."""

    kind = "memory"


class ClusterError(ChorusStoreError, RuntimeError):
    """The workers or the scheduler of a Dask cluster went away while they were needed."""

    kind = "cluster"


class TrackNotFoundError(ChorusStoreError, KeyError):
    """No such track; the message names near matches."""

    kind = "track-not-found"
