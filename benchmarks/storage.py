"""Bytes and instructions of each form of weights, for weights that it suits: `python benchmarks/storage.py`.

One dense layer 512 -> 128 and one convolution 3x3 of 32 -> 64 channels on 12x12 pixels; built by zig (balanced), counted by
the emulated core: instructions for each weight of the dense layer, for each multiply-accumulate of the convolution.
"""

from __future__ import annotations

import numpy as np

from minikin.display import Table
from minikin.graph import Graph, Node, Quant, Tensor
from minikin.ops.conv import Conv2dAttrs
from minikin.ops.dense import DenseAttrs
from minikin.vboard.build import compile

BOARDS = {"Cortex-M4": "nucleo-l4r5zi", "Cortex-M0+": "pico"}


def layer(weights: np.ndarray) -> Graph:
    """One int8 layer with these weights."""
    units = len(weights)
    shape = (1, weights.shape[1]) if weights.ndim == 2 else (1, 12, 12, weights.shape[3])
    out = (1, units) if weights.ndim == 2 else (1, 12, 12, units)
    tensors = [
        Tensor("x", shape, "int8", Quant((0.02,), (3,))),
        Tensor("w", weights.shape, "int8", Quant((0.01,), (0,)), weights.astype(np.int8)),
        Tensor("b", (units,), "int32", Quant((0.0002,), (0,)), np.arange(units, dtype=np.int32) * 10),
        Tensor("y", out, "int8", Quant((0.5,), (-128,))),
    ]
    attrs = DenseAttrs("relu") if weights.ndim == 2 else Conv2dAttrs(padding=(1, 1, 1, 1), activation="relu")
    node = Node("layer", "dense" if weights.ndim == 2 else "conv2d", attrs, ("x", "w", "b"), ("y",))
    return Graph("layer", {t.name: t for t in tensors}, (node,), ("x",), ("y",))


def patterns(shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    codes = rng.choice(np.delete(np.arange(-127, 128), 127), 15, replace=False)
    trained = np.clip(np.round(rng.normal(0, 30, shape)), -127, 127)
    clusters = rng.choice(np.append(codes, 0), shape)
    keep = np.argsort(rng.random((trained.size // 4, 4)), axis=1) < 2
    made = {
        "int8, normal": trained,
        "16 clusters": clusters,
        "2:4": trained * keep.reshape(shape),
        "90% zeros": trained * (rng.random(shape) < 0.1),
        "90% zeros, 7 codes": rng.choice(codes[:7], shape) * (rng.random(shape) < 0.1),
        "97% zeros, 7 codes": rng.choice(codes[:7], shape) * (rng.random(shape) < 0.03),
    }
    return {name: np.asarray(w).astype(np.int8) for name, w in made.items()}


FORMS = {
    "int8, normal": ("dense", "coded"),
    "16 clusters": ("codebook", "coded"),
    "2:4": ("nm", "bitmask", "coded"),
    "90% zeros": ("bitmask", "sparse", "coded"),
    "90% zeros, 7 codes": ("bitmask", "sparse", "coded"),
    "97% zeros, 7 codes": ("sparse", "coded"),
}


def main() -> None:
    from rich import print as show

    table = Table(
        "weights", "form", ">bits a weight", *(f">{core}, {op}" for op in ("dense", "conv") for core in BOARDS)
    )
    shapes = {"dense": (128, 512), "conv": (64, 3, 3, 32)}
    for pattern, forms in FORMS.items():
        for form in forms:
            cells = []
            bits = 0.0
            for shape in shapes.values():
                w = patterns(shape)[pattern]
                for board in BOARDS.values():
                    build = compile(layer(w), board, storage=form)
                    run = build.run()
                    cells.append(f"{run.instructions / run.layers[0].macs:.2f}")
                    bits = bits or 8 * build.stored[0].stored_bytes / w.size
            table.add_row(pattern, form, f"{bits:.2f}", *cells)
    show(table)


if __name__ == "__main__":
    main()
