"""compress/: pruning, clustering and quantization-aware training, alone and together, on small networks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks import Net

from minikin.check import check
from minikin.compress.accuracy import outputs_of, top_k
from minikin.compress.calibrate import entropy_range
from minikin.compress.channels import channel_groups, cut_zero_channels, keep_channels
from minikin.compress.cluster import kmeans
from minikin.compress.compressor import Compressor
from minikin.compress.lower import GraphModule
from minikin.compress.prune import (
    Pattern,
    as_matrix,
    channel_masks,
    cubic_sparsity,
    from_matrix,
    magnitude_masks,
    parse_pattern,
)
from minikin.compress.quantize import dequantize_array, quantize, quantize_array
from minikin.compress.recipe import Cluster, Finetune, Prune, Quantize, Recipe, parse_recipe
from minikin.compress.result import Measures, Result
from minikin.compress.run import compress
from minikin.compress.structure import ActivationQuant, Codebook, Structure, WeightQuant
from minikin.compress.sweep import sweep
from minikin.data import Dataset, digits
from minikin.errors import DataError, ModelError, UnsupportedError, UsageError
from minikin.exporters.tflite import write_tflite
from minikin.graph import Graph, Node, Tensor
from minikin.importers.tflite import read_tflite
from minikin.interp import run
from minikin.ops.dense import DenseAttrs
from minikin.ops.opdef import OPS, build_graph
from minikin.ops.shape import ConcatAttrs, ReshapeAttrs
from minikin.passes.batch import with_batch
from minikin.train.classifier import train_classifier
from minikin.train.loop import evaluate, fit, predict

RNG = np.random.default_rng(5)


@pytest.fixture(scope="module")
def data() -> Dataset:
    """Few of the digits: enough to learn from, and quick."""
    whole = digits()
    parts = {f"{v}_train": getattr(whole, f"{v}_train")[:480] for v in "xy"}
    parts |= {f"{v}_validation": getattr(whole, f"{v}_validation")[:120] for v in "xy"}
    return replace(whole, **parts)


@pytest.fixture(scope="module")
def net(data: Dataset) -> Graph:
    """A convolutional network that reads digits."""
    return train_classifier("digits_cnn", data, epochs=15, batch_size=32, learning_rate=5e-3)


@pytest.fixture(scope="module")
def mlp(data: Dataset) -> Graph:
    return train_classifier("mlp", data, epochs=15, batch_size=32, learning_rate=1e-2)


def weights_of(graph: Graph) -> dict[str, np.ndarray]:
    """Constant weights (no biases), by tensor."""
    found = {}
    for view in graph.views():
        for index in OPS[view.node.op].weights:
            tensor = view.inputs[index]
            assert tensor is not None
            assert tensor.data is not None
            found[tensor.name] = tensor.data
    return found


def mixed_net() -> Graph:
    """Convolutions of every padding, a residual, a concat, pools, a mean, dense layers, a softmax."""
    net = Net("mixed", (1, 9, 7, 3), seed=2)
    first = net.conv(8, (3, 3), stride=2)
    net.depthwise((3, 3))
    net.conv(8, (1, 1), activation="none")
    net.add("add", OPS["add"].attrs("relu6"), first)
    branch = net.x
    net.conv(4, (3, 1))
    net.add("concat", ConcatAttrs(3), branch)
    net.global_pool()
    net.dense(6, "relu")
    net.dense(5)
    net.softmax()
    return net.graph()


# Graph to module and back


@pytest.mark.parametrize("make", [mixed_net])
def test_a_lowered_graph_gives_what_the_graph_gives(make: Any) -> None:
    graph = make()
    model = GraphModule(graph)
    x = RNG.normal(size=(4, 9, 7, 3)).astype(np.float32)
    scores = graph.nodes[-1].inputs[0]
    want = np.concatenate([run(graph, s[None], keep=True)[scores] for s in x])
    np.testing.assert_allclose(predict(model, x), want, rtol=1e-4, atol=1e-5)
    back = model.to_graph()
    check(back)
    assert write_tflite(back) == write_tflite(graph)


def test_a_lowered_graph_trains(data: Dataset, mlp: Graph) -> None:
    worse = mlp.replace(
        tensors={
            n: t.replace(data=(t.data * 0.05).astype(np.float32)) if t.data is not None else t
            for n, t in mlp.tensors.items()
        }
    )
    model = GraphModule(worse)
    before = evaluate(model, data.x_test, data.y_test)
    fit(model, data, epochs=5, learning_rate=5e-3)
    after = evaluate(model, data.x_test, data.y_test)
    assert after > before + 0.1
    assert top_k(model.to_graph(), data.x_test, data.y_test, (1,)) == (after,)


def test_shared_weights_stay_shared() -> None:
    w = Tensor("w", (4, 4), "float32", data=RNG.normal(size=(4, 4)).astype(np.float32))
    nodes = [Node(n, "dense", DenseAttrs(), (x, "w"), (y,)) for n, x, y in (("a", "x", "h"), ("b", "h", "y"))]
    graph = build_graph("twice", nodes, [Tensor("x", (1, 4), "float32"), w], ["x"], ["y"])
    model = GraphModule(graph)
    assert sum(p.numel() for p in model.parameters()) == 16
    with torch.no_grad():
        model.weight_of("w").mul_(2)
    np.testing.assert_array_equal(model.to_graph().tensors["w"].data, 2 * w.data)  # type: ignore[operator]


def test_a_graph_that_mixes_samples_is_refused() -> None:
    nodes = [
        Node("r", "reshape", ReshapeAttrs((2, 3)), ("x",), ("h",)),
        Node("c", "concat", ConcatAttrs(0), ("h", "k"), ("y",)),
    ]
    k = Tensor("k", (2, 3), "float32", data=np.ones((2, 3), np.float32))
    graph = build_graph("mixes", nodes, [Tensor("x", (1, 6), "float32"), k], ["x"], ["y"])
    with pytest.raises(UnsupportedError, match=r"c \(concat\) makes \(4, 3\) of one sample and \(6, 3\) of 2"):
        GraphModule(graph)


def test_batches_give_what_single_samples_give() -> None:
    graph = mixed_net()
    x = RNG.normal(size=(5, 9, 7, 3)).astype(np.float32)
    small = quantize(graph, x)
    entry, last = small.input_tensors[0], small.output_tensors[0]
    codes = quantize_array(x, entry)
    whole = run(with_batch(small, 5), codes)[last.name]
    np.testing.assert_array_equal(whole, np.concatenate([run(small, c[None])[last.name] for c in codes]))
    np.testing.assert_array_equal(outputs_of(small, x), dequantize_array(whole, last))


def test_top_k_counts() -> None:
    w = Tensor("w", (4, 4), "float32", data=np.eye(4, dtype=np.float32))
    graph = build_graph(
        "id", [Node("d", "dense", DenseAttrs(), ("x", "w"), ("y",))], [Tensor("x", (1, 4), "float32"), w], ["x"], ["y"]
    )
    x = np.array([[3, 2, 1, 0], [0, 1, 2, 3], [1, 1, 0, 0]], np.float32)
    assert top_k(graph, x, np.array([1, 3, 1]), (1, 2, 4)) == (1 / 3, 1.0, 1.0)
    with pytest.raises(DataError, match=r"\(5,\).*\(4,\)"):
        top_k(graph, np.zeros((2, 5), np.float32), np.array([0, 0]))


# Masks


def masks_of(w: np.ndarray, sparsity: float, pattern: str, axis: int = 0) -> np.ndarray:
    return magnitude_masks({"w": (w, axis)}, {"w": sparsity}, parse_pattern(pattern))["w"]


def test_the_least_weights_go() -> None:
    w = RNG.permutation(np.arange(1, 101)).reshape(10, 10) * RNG.choice([-1.0, 1.0], (10, 10))
    mask = masks_of(w, 0.3, "unstructured")
    assert np.sort(np.abs(w[~mask])).tolist() == list(range(1, 31))


@pytest.mark.parametrize("axis", [0, 3])
def test_runs_blocks_and_channels(axis: int) -> None:
    shape = (6, 3, 2, 8)
    w = RNG.normal(size=shape)
    runs = as_matrix(masks_of(w, 0.5, "2:4", axis), axis)
    columns = runs.shape[1] // 4 * 4
    assert (runs[:, :columns].reshape(len(runs), -1, 4).sum(axis=2) == 2).all()
    blocks = as_matrix(masks_of(w, 0.5, "2x4", axis), axis)
    padded = np.pad(blocks, ((0, -len(blocks) % 2), (0, -blocks.shape[1] % 4)), mode="edge")
    grouped = padded.reshape(padded.shape[0] // 2, 2, -1, 4)
    assert (grouped == grouped[:, :1, :, :1]).all()
    channels = as_matrix(masks_of(w, 0.5, "channels", axis), axis)
    assert channels.all(axis=1).sum() == shape[axis] // 2
    assert (~channels).all(axis=1).sum() == shape[axis] // 2
    np.testing.assert_array_equal(from_matrix(as_matrix(w, axis), shape, axis), w)


def test_global_masks_have_one_threshold() -> None:
    weights = {
        "a": (RNG.normal(size=(20, 30)), 0),
        "b": (RNG.normal(size=(10, 10)) * 5, 0),
        "c": (np.full((3, 3), 1e-6), 0),
    }
    masks = magnitude_masks(weights, dict.fromkeys(weights, 0.5), Pattern(), "global")
    gone = np.concatenate([np.abs(weights[n][0][~masks[n]]) for n in "ab"])
    kept = np.concatenate([np.abs(weights[n][0][masks[n]]) for n in "ab"])
    assert gone.max() <= kept.min()
    total = sum(m.size for m in masks.values())
    assert abs(sum(m.sum() for m in masks.values()) - total / 2) <= 2
    assert masks["c"].sum() == 1  # no layer dies
    lamp = magnitude_masks(weights, dict.fromkeys(weights, 0.5), Pattern(), "global", "lamp")
    assert lamp["c"].sum() > 1
    assert abs(sum(m.sum() for m in lamp.values()) - total / 2) <= 2


def test_the_cubic_schedule() -> None:
    assert [cubic_sparsity(0.1, 0.9, t) for t in (-1, 0, 0.5, 1, 2)] == pytest.approx([0.1, 0.1, 0.8, 0.9, 0.9])


# k-means


@pytest.mark.parametrize("start", ["linear", "density", "kmeans++"])
def test_kmeans_finds_what_is_there(start: str) -> None:
    middles = np.array([-3.0, -1.0, 0.5, 4.0])
    values = RNG.permutation(np.concatenate([m + RNG.normal(0, 0.05, 200) for m in middles]))
    centroids, index = kmeans(values, 4, start, seed=1)
    np.testing.assert_allclose(centroids, middles, atol=0.03)
    nearest = np.abs(values[:, None] - centroids).argmin(axis=1)
    np.testing.assert_array_equal(index, nearest)
    again = kmeans(values, 4, start, seed=1)
    np.testing.assert_array_equal(again[0], centroids)


def test_kmeans_of_few_values_keeps_them() -> None:
    centroids, index = kmeans(np.array([2.0, -1.0, 2.0]), 5)
    assert (centroids.tolist(), index.tolist()) == ([-1.0, 2.0], [1, 0, 1])


def test_a_centroids_gradient_is_the_sum_of_its_weights() -> None:
    index = torch.tensor([[0, 1], [1, 1]])
    book = Codebook(torch.tensor([1.0, 2.0]), index, torch.tensor([[1.0], [10.0]]), 127)
    (book(rounded=False) * torch.tensor([[1.0, 2.0], [3.0, 4.0]])).sum().backward()
    assert book.centroids.grad is not None
    assert book.centroids.grad.tolist() == [1.0, 2.0 + 30.0 + 40.0]


# Fake quantization


def test_the_order_is_mask_codebook_quantization() -> None:
    structure = Structure(None)
    structure.quant = WeightQuant(None, 127, "peak", torch.ones(1))
    structure.mask = torch.tensor([1.0, 0.0, 1.0])
    structure.codebook = Codebook(torch.tensor([3.4, -2.6]), torch.tensor([0, 0, 1]), torch.tensor(0.5), 127)
    assert structure(torch.zeros(3)).tolist() == [1.5, 0.0, -1.5]


@pytest.mark.parametrize("symmetric", [False, True])
def test_the_gradients_of_a_learned_range(symmetric: bool) -> None:
    """Of what is clipped an end gets all; inside, x passes, and the ends get the rounding's residual."""
    quant = ActivationQuant(-1.0, 3.0, symmetric)
    lo, hi = quant.range()
    assert (lo, hi) == ((-3.0, 3.0) if symmetric else (-1.0, 3.0))
    x = torch.tensor([-9.0, 0.4, 9.0], requires_grad=True)
    y = quant(x)
    assert y.detach().numpy() == pytest.approx([lo, 0.4, hi], abs=0.03)
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 1.0, 0.0]
    assert quant.logs.grad is not None
    assert quant.logs.grad[1] != 0 or symmetric
    assert (quant.logs.grad[0] == 0) == symmetric


def test_entropy_clips_outliers() -> None:
    values = np.concatenate([RNG.normal(0, 1, 200_000), [60.0]])
    counts, edges = np.histogram(values, 4096, (values.min(), values.max()))
    lo, hi = entropy_range(counts, (edges[0], edges[-1]))
    assert 3 < hi < 30
    assert lo >= edges[0]


@pytest.mark.parametrize(
    "step", [Quantize(epochs=1), Quantize(symmetric=True, per_channel=False), Quantize(weights="int4")]
)
def test_the_integers_are_what_training_saw(step: Quantize, data: Dataset, net: Graph) -> None:
    """Without its softmax, the integer graph gives the fake-quantized module's scores within a step or two."""
    scores = net.replace(nodes=net.nodes[:-1], outputs=net.nodes[-1].inputs)
    compressor = Compressor(scores, data, Recipe(steps=(step,)))
    compressor.apply(step)
    small = compressor.deployed()
    check(small)
    quant = small.output_tensors[0].quant
    assert quant is not None
    x = data.x_test[:100]
    steps = np.abs(predict(compressor.model, x) - outputs_of(small, x)) / quant.scale
    assert steps.max() < 3.5
    assert (steps < 0.5).mean() > 0.5
    limit = 7 if step.weights == "int4" else 127
    scaled = compressor.model.to_graph()
    for name, codes in weights_of(small).items():
        quant = small.tensors[name].quant
        assert quant is not None
        assert len(quant.scales) == (1 if not step.per_channel else codes.shape[quant.axis or 0])
        assert np.abs(codes.astype(int)).max() == limit
        np.testing.assert_allclose(dequantize(codes, quant), scaled.tensors[name].data, rtol=1e-4, atol=1e-7)  # type: ignore[arg-type]


def dequantize(codes: np.ndarray, quant: Any) -> np.ndarray:
    shape = [-1 if i == quant.axis else 1 for i in range(codes.ndim)]
    return codes * np.array(quant.scales, np.float32).reshape(shape)


def test_biases_of_few_bits_are_multiples(mlp: Graph, data: Dataset) -> None:
    fine, coarse = (quantize(mlp, data.x_train[:50], bias_bits=bits) for bits in (32, 6))
    for view, other in zip(fine.views(), coarse.views(), strict=True):
        if OPS[view.node.op].bias is None:
            continue
        exact, rounded = view.inputs[2].data, other.inputs[2].data  # type: ignore[union-attr]
        assert exact is not None
        assert rounded is not None
        unit = np.gcd.reduce(rounded)
        assert np.abs(rounded).max() <= 31 * unit
        assert np.abs(exact - rounded).max() <= unit / 2


# Recipes


def test_each_step_keeps_what_the_former_made(data: Dataset, net: Graph) -> None:
    steps = [Prune(sparsity=0.6, epochs=6, learning_rate=1e-2), Cluster(clusters=16, epochs=2), Quantize(epochs=2)]
    result = compress(net, data, steps)
    check(result.graph)
    for codes in weights_of(result.graph).values():
        assert np.mean(codes == 0) >= 0.6 - 1 / codes.size
        assert len(np.unique(codes)) <= 16
    first, *_, last = result.rows
    assert [row.step for row in result.rows] == ["before", "prune 60%", "cluster 16", "int8"]
    assert last.distinct <= 16
    assert last.test_accuracy is not None
    assert first.test_accuracy is not None
    assert last.test_accuracy > first.test_accuracy - 0.08
    assert all(row.test_accuracy is None for row in result.rows[1:-1])
    assert last.test_accuracy == top_k(result.graph, data.x_test, data.y_test, (1,))[0]
    assert result.drop == pytest.approx(100 * (first.test_accuracy - last.test_accuracy))


@pytest.mark.parametrize(
    "steps",
    [
        (Quantize(), Cluster(clusters=12), Prune(sparsity=0.5)),
        (Cluster(clusters=12), Prune(sparsity=0.5, pattern="1x2"), Quantize()),
        (Quantize(), Prune(sparsity=0.5), Cluster(clusters=12), Finetune(epochs=1)),
        (Cluster(clusters=12), Quantize(weights="int4"), Prune(sparsity=0.5)),
    ],
)
def test_any_order_gives_zeros_and_clusters(steps: tuple[Any, ...], data: Dataset, net: Graph) -> None:
    result = compress(net, data, steps)
    for codes in weights_of(result.graph).values():
        assert len(np.unique(codes)) <= 13  # a later mask adds zero
        assert np.mean(codes == 0) >= 0.45  # half of the blocks, and a last one of a row may be smaller


def test_layers_may_differ(data: Dataset, net: Graph) -> None:
    steps = [
        Prune(sparsity=0.5, layers={"dense*": 0.75, "depthwise*": 0}),
        Cluster(clusters=8, layers={"depthwise*": 0}),
        Quantize(layers={"dense*": "int4"}),
    ]
    small = compress(net, data, steps).graph
    for view in small.views():
        if not OPS[view.node.op].weights:
            continue
        codes = view.inputs[1].data  # type: ignore[union-attr]
        assert codes is not None
        if view.node.name.startswith("depthwise"):
            assert np.mean(codes == 0) < 0.2
            assert len(np.unique(codes)) > 20
        else:
            dense = view.node.name.startswith("dense")
            assert np.mean(codes == 0) >= (0.75 if dense else 0.5)
            assert len(np.unique(codes)) <= 8
            assert np.abs(codes.astype(int)).max() <= (7 if dense else 127)


def test_pruned_channels_go(data: Dataset, net: Graph, tmp_path: Path) -> None:
    """A group penalty, then masks over whole channels, which leave the network; a resumed run makes the same one."""
    steps = [
        Prune(sparsity=0.25, pattern="channels", epochs=4, penalty=1e-4, learning_rate=3e-3),
        Prune(sparsity=0.5),
        Quantize(),
    ]
    result = compress(net, data, steps, checkpoint_dir=tmp_path)
    before, after = ({v.node.name: v.y.shape[-1] for v in g.views()} for g in (net, result.graph))
    ratios = [after[name] / before[name] for name in after]
    assert ratios.count(0.75) == len(ratios) - 2  # but the last dense layer and the softmax
    assert result.rows[1].parameters < 0.85 * result.rows[0].parameters
    for codes in weights_of(result.graph).values():
        assert np.mean(codes == 0) >= 0.5 - 1 / codes.size
    again = compress(net, data, steps, checkpoint_dir=tmp_path)
    assert write_tflite(again.graph) == write_tflite(result.graph)


def test_tied_channels_go_together() -> None:
    graph = mixed_net()
    found = channel_groups(graph)
    names = {view.node.name: view.inputs[1].name for view in graph.views() if OPS[view.node.op].weights}  # type: ignore[union-attr]
    first, depthwise, pointwise, branch, hidden, last = names.values()
    assert (found.groups[first] == found.groups[pointwise]).all()  # by the residual
    assert (found.groups[first] == found.groups[depthwise]).all()
    assert not set(found.groups[branch].tolist()) & set(found.groups[first].tolist())
    assert set(found.groups[last].tolist()) <= found.fixed
    weights = {n: (graph.tensors[n].data, 3 if n == depthwise else 0) for n in names.values()}
    masks = channel_masks(weights, dict.fromkeys(weights, 0.5), found.groups, found.fixed)  # type: ignore[arg-type]
    alive = {n: as_matrix(m, weights[n][1]).all(axis=1) for n, m in masks.items()}
    assert alive[last].all()
    assert [alive[n].sum() for n in (first, branch, hidden)] == [4, 2, 3]
    np.testing.assert_array_equal(alive[first], alive[pointwise])
    tensors = dict(graph.tensors)
    for view in graph.views():
        if OPS[view.node.op].weights:
            _, w, b = view.inputs
            assert w is not None
            assert b is not None
            tensors[w.name] = w.replace(data=np.where(masks[w.name], w.data, 0).astype(np.float32))  # type: ignore[arg-type]
            tensors[b.name] = b.replace(data=np.where(alive[w.name], b.data, 0).astype(np.float32))  # type: ignore[arg-type]
    zeroed = graph.replace(tensors=tensors)
    smaller, kept = cut_zero_channels(zeroed)
    check(smaller)
    assert smaller.parameters < 0.5 * graph.parameters
    x = RNG.normal(size=(6, 9, 7, 3)).astype(np.float32)
    np.testing.assert_allclose(outputs_of(smaller, x), outputs_of(zeroed, x), rtol=1e-4, atol=1e-6)
    assert write_tflite(keep_channels(zeroed, kept)) == write_tflite(smaller)


def test_constants_that_are_not_zero_stay() -> None:
    """A unit of zero weights but some bias adds to what follows: it is no zero channel."""
    w1, w2 = RNG.normal(size=(4, 3)).astype(np.float32), RNG.normal(size=(2, 4)).astype(np.float32)
    w1[1:3] = 0
    b1 = np.array([0.5, 0.5, 0, 0.5], np.float32)
    constants = [Tensor(n, d.shape, "float32", data=d) for n, d in (("w1", w1), ("b1", b1), ("w2", w2))]
    nodes = [
        Node("a", "dense", DenseAttrs("relu"), ("x", "w1", "b1"), ("h",)),
        Node("b", "dense", DenseAttrs(), ("h", "w2"), ("y",)),
    ]
    graph = build_graph("n", nodes, [Tensor("x", (1, 3), "float32"), *constants], ["x"], ["y"])
    smaller, kept = cut_zero_channels(graph)
    assert kept["h"].tolist() == [0, 1, 3]
    x = RNG.normal(size=(5, 3)).astype(np.float32)
    np.testing.assert_allclose(outputs_of(smaller, x), outputs_of(graph, x), rtol=1e-6)


def test_the_teacher_is_the_model_before(data: Dataset, mlp: Graph) -> None:
    plain = compress(mlp, data, [Finetune(epochs=1)])
    taught = compress(mlp, data, parse_recipe([{"do": "distill", "epochs": 1}]))
    assert write_tflite(plain.graph) != write_tflite(taught.graph)


@pytest.mark.parametrize("weights", ["dynamic", "float16"])
def test_weights_alone_may_shrink(weights: Any, data: Dataset, net: Graph) -> None:
    result = compress(net, data, [Prune(sparsity=0.5), Quantize(weights=weights)])
    check(result.graph)
    assert result.graph.input_tensors[0].dtype == "float32"
    assert result.rows[-1].file_bytes < 0.75 * result.rows[0].file_bytes
    again = read_tflite(write_tflite(result.graph), "again")
    np.testing.assert_array_equal(outputs_of(again, data.x_test[:9]), outputs_of(result.graph, data.x_test[:9]))
    for w in weights_of(result.graph).values():
        assert np.mean(w == 0) >= 0.5 - 1 / w.size


def test_the_same_recipe_gives_the_same_bytes(data: Dataset, mlp: Graph, tmp_path: Path) -> None:
    """Also after a kill between steps and in the middle of training, from checkpoints."""
    steps = [Prune(sparsity=0.5, epochs=2), Cluster(clusters=8, epochs=2, init="kmeans++"), Quantize(epochs=2)]
    recipe = Recipe(seed=3, steps=tuple(steps))
    want = compress(mlp, data, recipe)

    class Killed(Exception):
        pass

    def kill(step: str, epoch: int) -> Any:
        def report(what: str, done: int, total: int) -> None:
            if what.startswith(step) and done == epoch:
                raise Killed

        return report

    for progress in (kill("1. ", 1), kill("2. ", 2), kill("steps", 2)):
        with pytest.raises(Killed):
            compress(mlp, data, recipe, checkpoint_dir=tmp_path, progress=progress)
    seen: list[str] = []
    result = compress(mlp, data, recipe, checkpoint_dir=tmp_path, progress=lambda what, done, total: seen.append(what))
    assert not any(what.startswith(("1. ", "2. ")) for what in seen)
    assert write_tflite(result.graph) == write_tflite(want.graph)
    assert result.rows == want.rows
    other = compress(mlp, data, recipe.model_copy(update={"seed": 4}))
    assert write_tflite(other.graph) != write_tflite(want.graph)


def test_a_result_is_saved_with_its_recipe(data: Dataset, mlp: Graph, tmp_path: Path) -> None:
    recipe = Recipe(seed=2, steps=(Prune(sparsity=0.5, layers={"dense_*": 0.25}), Quantize(per_channel=False)))
    result = compress(mlp, data, recipe)
    assert [p.name for p in result.save(tmp_path / "small.tflite")] == [
        "small.tflite",
        "small.recipe.toml",
        "small.json",
    ]
    assert Recipe.load(tmp_path / "small.recipe.toml") == recipe
    report = json.loads((tmp_path / "small.json").read_text())
    assert report["made_by"]["recipe_sha256"] == result.made_by["recipe_sha256"]
    assert report["rows"][-1]["test_accuracy"] == result.rows[-1].test_accuracy
    assert (tmp_path / "small.tflite").read_bytes() == write_tflite(result.graph)
    assert "small" not in str(result.table().title)


def test_a_loss_that_explodes_stops_the_recipe(data: Dataset, mlp: Graph) -> None:
    with pytest.raises(UsageError, match=r"step 2 \(prune\): loss became"):
        compress(mlp, data, [Cluster(clusters=30), Prune(sparsity=0.5, epochs=3, learning_rate=1e30, optimizer="sgd")])


def test_what_cannot_be_compressed(data: Dataset, net: Graph) -> None:
    with pytest.raises(ModelError, match="already"):
        compress(quantize(net, data.x_train[:20]), data, [Finetune(epochs=1)])
    few = replace(data, x_train=data.x_train[:, :4], x_validation=data.x_validation[:, :4], x_test=data.x_test[:, :4])
    with pytest.raises(DataError, match=r"digits has samples \(4, 8, 1\), and digits_cnn takes \(8, 8, 1\)"):
        compress(net, few, [Finetune(epochs=1)])
    with pytest.raises(DataError, match="digits has labels up to 17, and digits_cnn gives 10"):
        compress(net, replace(data, y_test=data.y_test * 2 - 1), [Finetune(epochs=1)])
    with pytest.raises(UsageError, match=r"leaves every layer alone.*conv2d, conv2d_1"):
        compress(net, data, [Prune(layers={"nothing": 0.5}, epochs=1)])


# Recipes as files

BAD_RECIPES: dict[str, tuple[str, str]] = {
    "no toml": ("[[step", "is no TOML"),
    "empty": ("", "steps is missing"),
    "no steps": ("step = []", "there are no steps"),
    "unknown step": ('[[step]]\ndo = "squash"', r"step 1 \(squash\): no step is called squash"),
    "no do": ("[[step]]\nsparsity = 0.5", "step 1 does not say what to do"),
    "unknown parameter": ('[[step]]\ndo = "cluster"\nk = 3', r"step 1 \(cluster\): k is no parameter"),
    "range": ('[[step]]\ndo = "prune"\nsparsity = 1.5', r"step 1 \(prune\): sparsity is 1.5"),
    "type": ('[[step]]\ndo = "finetune"\nepochs = "ten"', r"step 1 \(finetune\): epochs is \"ten\""),
    "not finite": ('[[step]]\ndo = "finetune"\nepochs = 1\nlearning_rate = nan', r"step 1 \(finetune\): learning_rate"),
    "missing": ('[[step]]\ndo = "prune"', "sparsity is missing"),
    "pattern": ('[[step]]\ndo = "prune"\nsparsity = 0.5\npattern = "4:2"', "pattern '4:2' is not known"),
    "runs": ('[[step]]\ndo = "prune"\nsparsity = 0.9\npattern = "2:4"', "makes sparsity 0.5, and sparsity is 0.9"),
    "twice": ('[[step]]\ndo = "quantize"\n[[step]]\ndo = "quantize"', "steps 1 and 2 both quantize"),
    "backwards": (
        '[[step]]\ndo = "prune"\nsparsity = 0.9\n[[step]]\ndo = "prune"\nsparsity = 0.5',
        "steps 1 and 2 contradict each other: sparsity 0.9",
    ),
    "too many values": (
        '[[step]]\ndo = "cluster"\n[[step]]\ndo = "quantize"\nweights = "int4"',
        "16 clusters.*15 codes",
    ),
    "best of a ramp": ('[[step]]\ndo = "prune"\nsparsity = 0.5\nepochs = 2\nkeep = "best"', "give keep last"),
}


@pytest.mark.parametrize("name", BAD_RECIPES)
def test_bad_recipes_are_one_sentence(name: str, tmp_path: Path) -> None:
    text, words = BAD_RECIPES[name]
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(UsageError, match=words) as raised:
        Recipe.load(tmp_path / "bad.toml")
    assert "bad.toml" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_recipe_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.toml: No such file"):
        Recipe.load(tmp_path / "none.toml")


# The sparsity table


def test_a_sweep_is_a_table_and_a_plot(data: Dataset, mlp: Graph, tmp_path: Path) -> None:
    measured: list[int] = []

    def measure(graph: Graph) -> Measures:
        measured.append(1)
        return Measures(1000 - len(measured), 20, 800 - len(measured), 5000, "board", "compiler", "engine")

    found = sweep(mlp, data, [0, 0.5, 0.95], measure=measure)
    nonzero = [p.row.nonzero for p in found.points]
    assert nonzero == sorted(nonzero, reverse=True)
    assert nonzero[2] < 0.1 * nonzero[0]
    accuracy = [p.row.test_accuracy or 0 for p in found.points]
    assert accuracy[2] < accuracy[0]
    assert len(measured) == 3
    assert len(found.table().rows) == 3
    assert json.loads(json.dumps(found.to_json()))["points"][1]["sparsity"] == 0.5
    svg = found.save_plot(tmp_path / "curve.svg").read_text()
    assert svg.count("<circle") == 4 * 3 + 4
    assert found.save_plot(tmp_path / "curve.html").read_text().startswith("<!doctype html>")
    with pytest.raises(UsageError, match=r"1\.5"):
        sweep(mlp, data, [0.5, 1.5])


def test_a_result_shows_itself(data: Dataset, mlp: Graph) -> None:
    result = compress(mlp, data, [Quantize()], measure=lambda graph: Measures(1, 2, 3, 4, "b", "t", "e"))
    assert isinstance(result, Result)
    assert len(result.table().rows) == 2
    assert "instructions" in result._repr_html_()
