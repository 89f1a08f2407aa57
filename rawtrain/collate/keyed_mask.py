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

    The columns hold "input_ids", "special" (bool: never masked) and, for whole words, "word_starts"
    (bool). The masks of evaluation are always the same, whatever the seed, so that two evaluations
    of one model give one number.
    """

    columns: Columns
    tokenizer: PreTrainedTokenizerBase
    settings: MlmSettings

    def tokens(self, rows: np.ndarray, epoch: int = EVALUATION) -> dict[str, np.ndarray]:
        """ "input_ids" and "labels" (N,) of the rows end to end; labels are -100 but where masked.

        With --whole_word_mask all tokens of a word are masked or none.
        """
        settings, columns = self.settings, self.columns
        key = (0 if epoch == EVALUATION else settings.seed, epoch)
        where, positions = columns.token_index(rows)
        row_of_token = np.repeat(rows, columns.lengths_of(rows))
        deciding = positions  # of the token whose draw decides
        if settings.whole_word_mask:
            starts = columns.values["word_starts"][where] | (positions == 0)
            deciding = positions[first_of_word(starts)]
        is_chosen = uniform(*key, 0, row_of_token, deciding) < settings.mlm_probability
        chosen = np.flatnonzero(is_chosen & ~columns.values["special"][where])

        input_ids = columns.values["input_ids"][where]
        labels = np.full_like(input_ids, IGNORED)
        input_ids[chosen], labels[chosen] = replace_masked(
            input_ids[chosen],
            np.ones(len(chosen), dtype=bool),
            KeyedDraws(key, row_of_token[chosen], positions[chosen], len(self.tokenizer)),
            self.tokenizer.mask_token_id,
            settings.mask_replace_prob,
            settings.random_replace_prob,
        )
        return {"input_ids": input_ids, "labels": labels}


class KeyedDraws:
    """One number for each token and draw, a function of (seed, epoch, draw, row, position).

    The draws are numbered in the order in which the rule asks for them.
    """

    def __init__(self, key: tuple[int, int], rows, positions, vocab_size: int):
        self.key, self.token, self.vocab_size = key, (rows, positions), vocab_size
        self.draw_numbers = itertools.count(1)  # 0 was the choice of the tokens

    def coins(self, probability: float) -> np.ndarray:
        return self._numbers() < probability

    def tokens(self, where: np.ndarray) -> np.ndarray:
        return (self._numbers()[where] * self.vocab_size).astype(np.int64)

    def _numbers(self) -> np.ndarray:
        return uniform(*self.key, next(self.draw_numbers), *self.token)
