"""minikin fits neural networks into microcontrollers, and proves that they fit.

import minikin as mk
graph = mk.load("kws.tflite")                 # or .pt2, or a torch module with an example input
build = mk.compile(graph, board="nano33ble")  # build.ram_bytes, build.flash_bytes, build.path
run = build.run(x)                            # run.output, run.instructions, run.stack_bytes
"""

from typing import TYPE_CHECKING, Any

from minikin.api import compile, compress, inspect, load, make_plan, measure_on, quantize, save
from minikin.boards import Board, get_board, load_boards
from minikin.errors import MinikinError
from minikin.graph import Graph, Node, Quant, Tensor
from minikin.version import __version__

if TYPE_CHECKING:
    from minikin.compress.recipe import Recipe

__all__ = [
    "Board",
    "Graph",
    "MinikinError",
    "Node",
    "Quant",
    "Recipe",
    "Tensor",
    "__version__",
    "compile",
    "compress",
    "get_board",
    "inspect",
    "load",
    "load_boards",
    "make_plan",
    "measure_on",
    "quantize",
    "save",
]


def __getattr__(name: str) -> Any:
    """`Recipe` brings pydantic, which takes longer to import than all the rest: only for who asks for it."""
    if name == "Recipe":
        from minikin.compress.recipe import Recipe

        return Recipe
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
