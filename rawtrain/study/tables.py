"""What the studies of several runs find, and how they write and print it."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rawtrain.run.durable import write_json, write_text


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

    def __str__(self) -> str:
        return f"{self.mean:.3f}" + ("" if self.std is None else f" ± {self.std:.3f}")

    @property
    def note(self) -> list[str]:
        """What stands in a cell, for below the table."""
        first, *others = self.by_seed
        if not others:
            return [f"One seed, {first}; --seeds 5 shows how far a seed moves F1."]
        return [
            f"Mean ± sample standard deviation (n - 1) over {1 + len(others)} seeds: "
            f"{', '.join(map(str, self.by_seed))}.",
            f"They are far apart because seed + epoch decides the order of the sentences: with "
            f"seed {first + 1},\nepoch 0 would have the order of epoch 1 with seed {first}.",
        ]


def show(found: Any, name: str, folder: Path) -> None:
    """Write what a study found, its fields as JSON and its table as Markdown; print the table."""
    about = {"std": "sample standard deviation over seeds, n - 1"}
    write_json(folder / f"{name}.json", _plain(vars(found) | about))
    text = "\n".join(found.table())
    write_text(folder / f"{name}.md", text + "\n")
    print(text)
    print(f"\ntable and runs: {folder}/")


def _plain(value: Any) -> Any:
    if isinstance(value, Scores):
        value = {"mean": value.mean, "std": value.std, "by_seed": value.by_seed}
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    return value
