"""Networks by name, as torch modules made for a data set's sample shape (NHWC) and number of outputs."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from minikin.errors import UsageError
from minikin.train.zoo.autoencoder import autoencoder
from minikin.train.zoo.digits_cnn import digits_cnn
from minikin.train.zoo.ds_cnn import ds_cnn_l, ds_cnn_m, ds_cnn_s
from minikin.train.zoo.lenet5 import lenet5
from minikin.train.zoo.linear import linear
from minikin.train.zoo.mlp import dnn, lenet300, mlp
from minikin.train.zoo.mobilenet import mobilenet
from minikin.train.zoo.resnet8 import resnet8

ZOO: dict[str, Callable[..., Any]] = {
    "linear": linear,
    "logistic": linear,
    "mlp": mlp,
    "lenet300": lenet300,
    "lenet5": lenet5,
    "dnn": dnn,
    "digits_cnn": digits_cnn,
    "resnet8": resnet8,
    "ds_cnn_s": ds_cnn_s,
    "ds_cnn_m": ds_cnn_m,
    "ds_cnn_l": ds_cnn_l,
    "mobilenet": mobilenet,
    "autoencoder": autoencoder,
}
IMAGES = ("lenet5", "digits_cnn", "resnet8", "ds_cnn_s", "ds_cnn_m", "ds_cnn_l", "mobilenet")


def get_model(name: str, sample_shape: tuple[int, ...], outputs: int, **options: float) -> Any:
    """A fresh network for samples of this shape, its weights drawn from torch's generator.

    `options` are the keyword arguments of the network's function, above 0; `dropout` is in [0, 1). Raises UsageError.
    """
    if name not in ZOO:
        raise UsageError(f"network {name} is not in the zoo: choose one of {', '.join(ZOO)}")
    known = [p.name for p in inspect.signature(ZOO[name]).parameters.values() if p.kind is p.KEYWORD_ONLY]
    for option, value in options.items():
        if option not in known:
            raise UsageError(f"{name} has no option {option}: it has {', '.join(known) or 'none'}")
        if not (0 <= value < 1 if option == "dropout" else value > 0):
            bounds = "in [0, 1)" if option == "dropout" else "above 0"
            raise UsageError(f"{option} of {name} is {value:g}: it must be {bounds}")
    if name in IMAGES and len(sample_shape) != 3:
        shape = "x".join(map(str, sample_shape))
        raise UsageError(f"{name} takes images, height x width x channels, not {shape}: choose mlp or dnn")
    return ZOO[name](sample_shape, outputs, **options)


__all__ = ["ZOO", "get_model"]
