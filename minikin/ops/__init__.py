"""Importing this package fills the table OPS."""

from minikin.ops import activation, conv, dense, elementwise, norm, pool, separable, shape
from minikin.ops.opdef import OPS, get_op

__all__ = ["OPS", "activation", "conv", "dense", "elementwise", "get_op", "norm", "pool", "separable", "shape"]
