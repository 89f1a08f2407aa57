"""The job's own masks: a function of (seed, epoch, row, position), and of nothing else.

The collator of mask.py draws from a generator, so its masks depend on everything that drew before.
Here every draw is a hash of where it is needed: masks are new in each epoch, and no batch size,
number of workers or resume can change them. The 80/10/10 rule is mask.py's.

Shapes: N sub-words of a micro-batch, its rows end to end without padding.
"""

import itertools
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerBase

from rawtrain.batches import EVALUATION
from rawtrain.collate.mask import first_of_word, replace_masked
from rawtrain.config import MlmSettings
from rawtrain.data.columns import IGNORED, Columns
from rawtrain.randomness import uniform


@dataclass(frozen=True)
class MaskedTokens:
    """Tokens of rows, some of them hidden, and the labels that say what they were.

    The masks are a function of (seed, epoch, row, position); those of evaluation are always the
    same, so that two evaluations of one model give one number.
    """

    columns: Columns
    tokenizer: PreTrainedTokenizerBase
    settings: MlmSettings

    def tokens(self, rows: np.ndarray, epoch: int = EVALUATION) -> dict[str, np.ndarray]:
        """ "input_ids" and "labels" (N,) of the rows end to end."""
        settings, values = self.settings, self.columns.values
        where, positions = self.columns.token_index(rows)
        input_ids, labels = mask_tokens(
            values["input_ids"][where],
            values["special"][where],
            np.repeat(rows, self.columns.lengths_of(rows)),
            positions,
            seed=0 if epoch == EVALUATION else settings.seed,
            epoch=epoch,
            vocab_size=len(self.tokenizer),
            mask_token_id=self.tokenizer.mask_token_id,
            mlm_probability=settings.mlm_probability,
            mask_replace_prob=settings.mask_replace_prob,
            random_replace_prob=settings.random_replace_prob,
            word_starts=values["word_starts"][where] if settings.whole_word_mask else None,
        )
        return {"input_ids": input_ids, "labels": labels}


def mask_tokens(
    input_ids: np.ndarray,
    special_tokens_mask: np.ndarray,
    rows: np.ndarray,
    positions: np.ndarray,
    *,
    seed: int,
    epoch: int,
    vocab_size: int,
    mask_token_id: int,
    mlm_probability: float = 0.15,
    mask_replace_prob: float = 0.8,
    random_replace_prob: float = 0.1,
    word_starts: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """(masked input_ids, labels), both (N,); labels are -100 where nothing is to be predicted.

    `rows` (N,) is a token's row number in the data, `positions` (N,) its place in the row, from 0;
    special tokens (bool (N,)) are never masked. With `word_starts` (bool (N,)) all tokens of a word
    are masked or none; a row's first token starts a word, whatever `word_starts` says of it.
    """
    deciding = positions  # of the token whose draw decides
    if word_starts is not None:
        deciding = positions[first_of_word(word_starts | (positions == 0))]
    is_chosen = uniform(seed, epoch, 0, rows, deciding) < mlm_probability
    chosen = np.flatnonzero(is_chosen & ~special_tokens_mask)

    draws = KeyedDraws(seed, epoch, rows[chosen], positions[chosen], vocab_size)
    masked_ids, labels = input_ids.copy(), np.full_like(input_ids, IGNORED)
    masked_ids[chosen], labels[chosen] = replace_masked(
        input_ids[chosen],
        np.ones(len(chosen), dtype=bool),
        draws,
        mask_token_id,
        mask_replace_prob,
        random_replace_prob,
    )
    return masked_ids, labels


class KeyedDraws:
    """One number for each token and draw, a function of (seed, epoch, draw, row, position).

    The draws are numbered in the order in which the rule asks for them.
    """

    def __init__(
        self, seed: int, epoch: int, rows: np.ndarray, positions: np.ndarray, vocab_size: int
    ):
        self.key, self.token = (seed, epoch), (rows, positions)
        self.vocab_size = vocab_size
        self.draw_numbers = itertools.count(1)  # 0 was the choice of the tokens

    def coins(self, probability: float) -> np.ndarray:
        return self._numbers() < probability

    def tokens(self, where: np.ndarray) -> np.ndarray:
        return (self._numbers()[where] * self.vocab_size).astype(np.int64)

    def _numbers(self) -> np.ndarray:
        return uniform(*self.key, next(self.draw_numbers), *self.token)
