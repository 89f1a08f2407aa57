"""Three sources of chance for masking. Each answers two questions:

coins(p)       at each position, true with probability p, independently of all others
tokens(where)  a random token id for each true position of `where`
"""

import itertools
from dataclasses import dataclass

import numpy as np
import torch

from rawtrain.randomness import uniform


@dataclass(frozen=True)
class TorchDraws:
    """What transformers draws from torch, in its order: always a number for each position."""

    shape: tuple[int, ...]
    vocab_size: int
    generator: torch.Generator | None  # None: the global one

    def coins(self, probability: float, where: np.ndarray | None = None) -> np.ndarray:
        probabilities = torch.full(self.shape, probability)
        if where is not None:
            probabilities.masked_fill_(torch.from_numpy(~where), 0.0)
        return torch.bernoulli(probabilities, generator=self.generator).bool().numpy()

    def tokens(self, where: np.ndarray) -> np.ndarray:
        tokens = torch.randint(self.vocab_size, self.shape, generator=self.generator)
        return tokens.numpy()[where]


@dataclass(frozen=True)
class NumpyDraws:
    """What transformers draws from numpy, in its order: random tokens only where needed."""

    shape: tuple[int, ...]
    vocab_size: int
    generator: np.random.Generator | None  # None: the global state

    def coins(self, probability: float, where: np.ndarray | None = None) -> np.ndarray:
        if where is not None:
            probability = np.full(self.shape, probability)
            probability[~where] = 0
        source = self.generator or np.random
        return source.binomial(1, probability, size=self.shape).astype(bool)

    def tokens(self, where: np.ndarray) -> np.ndarray:
        integers = self.generator.integers if self.generator else np.random.randint
        return integers(0, self.vocab_size, size=np.count_nonzero(where), dtype=np.int64)


class KeyedDraws:
    """One number for each token and draw; the draws are numbered as the rule asks for them."""

    def __init__(self, seed: int, epoch: int, rows: np.ndarray, positions: np.ndarray, vocab_size):
        self.key, self.token = (seed, epoch), (rows, positions)
        self.vocab_size = vocab_size
        self.draw_numbers = itertools.count(1)  # 0 was the choice of the tokens

    def coins(self, probability: float) -> np.ndarray:
        return self._numbers() < probability

    def tokens(self, where: np.ndarray) -> np.ndarray:
        return (self._numbers()[where] * self.vocab_size).astype(np.int64)

    def _numbers(self) -> np.ndarray:
        return uniform(*self.key, next(self.draw_numbers), *self.token)
