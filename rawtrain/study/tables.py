"""Tables of a study: scores over seeds as cells, in Markdown that is also read on a terminal."""

import statistics
from dataclasses import dataclass


@dataclass(frozen=True)
class Scores:
    """A score, such as F1, of the same training with several seeds."""

    by_seed: dict[int, float]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.by_seed.values())

    @property
    def std(self) -> float | None:
        """The sample standard deviation: n - 1 in the divisor. None for a single seed."""
        return statistics.stdev(self.by_seed.values()) if len(self.by_seed) > 1 else None

    def __str__(self):
        return f"{self.mean:.3f}" + ("" if self.std is None else f" ± {self.std:.3f}")

    def as_json(self):
        by_seed = {str(seed): f1 for seed, f1 in self.by_seed.items()}
        return {"mean": self.mean, "std": self.std, "by_seed": by_seed}


def markdown_table(header, rows) -> list[str]:
    """Lines of a table of texts, the first column to the left and the others to the right.

    >>> print("\\n".join(markdown_table(["on", "F1"], [["de", "0.612"], ["all", "**0.7**"]])))
    | on  |      F1 |
    |:----|--------:|
    | de  |   0.612 |
    | all | **0.7** |
    """
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]

    def line(cells):
        first, *others = zip(cells, widths, strict=True)
        aligned = [f"{first[0]:<{first[1]}}", *(f"{cell:>{width}}" for cell, width in others)]
        return f"| {' | '.join(aligned)} |"

    rule = [f":{'-' * (widths[0] + 1)}", *(f"{'-' * (width + 1)}:" for width in widths[1:])]
    return [line(header), f"|{'|'.join(rule)}|", *map(line, rows)]


def seeds_line(seeds) -> str:
    """What stands in a cell, for the note under a table."""
    if len(seeds) == 1:
        return f"One seed, {seeds[0]}; how far a seed moves F1 is told by --seeds 5."
    return (
        f"Mean ± sample standard deviation (n - 1) over {len(seeds)} seeds, "
        f"{seeds[0]} to {seeds[-1]}."
    )
