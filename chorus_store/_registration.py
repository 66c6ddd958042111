"""The accessor ``Dataset.chorus``, registered whichever of xarray and this package is imported first.

Importing xarray takes a third of a second, and neither the normalizer nor the command lines always need it.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


def register() -> None:
    """Register the accessor now if xarray is imported, else as soon as it is."""
    if "xarray" in sys.modules:
        import chorus_store.accessor  # noqa: F401 - registers itself
    else:
        sys.meta_path.insert(0, _XarrayFinder())


class _XarrayFinder(MetaPathFinder):
    """Finds xarray as it is found anyway, once, and registers the accessor when it has been imported."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != "xarray":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module: ModuleType) -> None:
                execute(module)
                register()

            spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec
