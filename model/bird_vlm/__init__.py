"""BiRD: a refer-and-ground vision-language model for medical volumes.

Importing this package is cheap: torch and transformers load with the modules that use them
(`bird_vlm.modeling_bird`, `bird_vlm.engine`). Whenever transformers is imported too, before or
after, its Auto classes know BiRD.
"""

import importlib
import sys
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

from bird_vlm.version import __version__

__all__ = ["__version__"]


def _register() -> None:
    """Load the modules that enter BiRD into transformers' Auto classes."""
    importlib.import_module("bird_vlm.configuration_bird")


class _RegisterAfterTransformers(MetaPathFinder):
    """Finds transformers where Python does, and registers BiRD as soon as it is loaded."""

    def find_spec(self, name: str, path=None, target=None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name == "transformers" else None
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module = self._then_register(spec.loader.exec_module)
        return spec

    def _then_register(self, load: Callable[[ModuleType], None]) -> Callable[[ModuleType], None]:
        def load_and_register(module: ModuleType) -> None:
            load(module)
            sys.meta_path.remove(self)
            _register()

        return load_and_register


if "transformers" in sys.modules:
    _register()
else:
    sys.meta_path.insert(0, _RegisterAfterTransformers())
