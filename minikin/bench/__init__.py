"""minikin's figures beside the recorded ones of other stacks."""

from minikin.bench.bench import Bench, BenchRow, bench

__all__ = ["Bench", "BenchRow", "bench"]
