"""Making networks smaller: lowering to torch and back, pruning, clustering, quantization, recipes.

The package is callable, as `minikin.compress(graph, data, recipe)`: the public function has its name, and importing a
module of the package would otherwise hide it.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Package(ModuleType):
    def __call__(self, graph: Any, dataset: Any, recipe: Any, **options: Any) -> Any:
        from minikin.compress.run import compress

        return compress(graph, dataset, recipe, **options)


sys.modules[__name__].__class__ = _Package
