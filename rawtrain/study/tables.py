"""The cells of a study's tables: scores over seeds."""

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


def seeds_line(seeds) -> str:
    """What stands in a cell, for the note under a table."""
    if len(seeds) == 1:
        return f"One seed, {seeds[0]}; how far a seed moves F1 is told by --seeds 5."
    return (
        f"Mean ± sample standard deviation (n - 1) over {len(seeds)} seeds, "
        f"{seeds[0]} to {seeds[-1]}."
    )
