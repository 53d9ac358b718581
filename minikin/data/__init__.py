"""Data sets: where they come from, how they are split, their features."""

from minikin.data.dataset import Dataset
from minikin.data.load import load_dataset
from minikin.data.sources import digits, mnist

__all__ = ["Dataset", "digits", "load_dataset", "mnist"]
