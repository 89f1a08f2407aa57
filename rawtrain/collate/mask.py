"""Random masking: the collator for language modeling, and the 80/10/10 rule.

Of all tokens that are not special, 15 % are chosen. Of these, 80 % become the mask token, 10 % a
random token and 10 % stay as they are; the model is to predict them all, and nothing else. The rule
is written once, in `replace_masked`; keyed_mask.py applies it with draws of another origin.

Shapes: B rows, T sub-words of a padded row.
"""

import multiprocessing
import os
import warnings
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from rawtrain.collate import pad
from rawtrain.data.columns import IGNORED


@dataclass
class DataCollatorForLanguageModeling:
    """Pads features or plain id lists, masks them, and adds the labels.

    Takes the place of the class of this name in transformers 5.24: the same draws from the same
    generator, so the same masks; tests/test_collator_masking.py compares the two. Labels are -100
    where nothing is to be predicted; with `mlm=False` they are the ids, -100 at pad tokens.
    A `seed` gives the collator a generator of its own, seeded with seed + number of the worker.
    `whole_word_mask` needs "offset_mapping", and replaces every chosen word by mask tokens.
    """

    tokenizer: PreTrainedTokenizerBase
    mlm: bool = True
    whole_word_mask: bool = False
    mlm_probability: float | None = 0.15
    mask_replace_prob: float = 0.8
    random_replace_prob: float = 0.1
    pad_to_multiple_of: int | None = None
    return_tensors: str = "pt"
    seed: int | None = None

    def __post_init__(self):
        if problems := self._problems():
            raise ValueError("; ".join(problems))
        if self.mlm:
            self.mlm_probability = float(self.mlm_probability)
        if self.whole_word_mask and self.mask_replace_prob < 1:
            warnings.warn(
                "whole_word_mask replaces whole words by mask tokens only: "
                "mask_replace_prob is set to 1 and random_replace_prob to 0",
                stacklevel=3,
            )
            self.mask_replace_prob, self.random_replace_prob = 1, 0
        self.mask_replace_prob = float(self.mask_replace_prob)
        self.random_replace_prob = float(self.random_replace_prob)
        self.generator = self._generator_pid = None

    def __call__(self, features: Sequence, return_tensors: str | None = None) -> Mapping[str, Any]:
        """The batch; `features` are a dict for each row, or its token ids alone."""
        framework, multiple = pad.chosen_framework(self, return_tensors), self.pad_to_multiple_of
        if self.seed is not None:
            self._have_own_generator(self.seed, framework)
        batch: MutableMapping[str, Any]
        if isinstance(features[0], Mapping):
            columns = pad.columns_of(features)
            batch = pad.pad_columns(self.tokenizer, columns, framework, pad_to_multiple_of=multiple)
        else:
            ids = _pad_id_lists(features, self.tokenizer, framework, multiple)
            batch = {"input_ids": pad.as_tensor(ids, framework)}
        special_tokens_mask = batch.pop("special_tokens_mask", None)
        offset_mapping = batch.pop("offset_mapping", None)
        if self.mlm:
            mask_tokens = self.torch_mask_tokens if framework == "pt" else self.numpy_mask_tokens
            batch["input_ids"], batch["labels"] = mask_tokens(
                batch["input_ids"], special_tokens_mask, offset_mapping
            )
        else:
            labels = np.asarray(batch["input_ids"]).copy()
            labels[labels == self.tokenizer.pad_token_id] = IGNORED
            batch["labels"] = pad.as_tensor(labels, framework)
        return batch

    def torch_mask_tokens(self, inputs, special_tokens_mask=None, offset_mapping=None):
        """(input_ids, labels), int64 (B, T) both; `inputs` itself is not changed."""
        draws = TorchDraws(inputs.shape, len(self.tokenizer), self.generator)
        masked = self._mask(inputs.numpy(), special_tokens_mask, offset_mapping, draws)
        puts_random_tokens = self.mask_replace_prob < 1 and self.random_replace_prob > 0
        if puts_random_tokens and inputs.dtype != torch.int64:  # as torch refuses to mix the two
            raise RuntimeError(f"input_ids are {inputs.dtype}: expected token ids in torch.int64")
        return tuple(torch.from_numpy(array) for array in masked)

    def numpy_mask_tokens(self, inputs, special_tokens_mask=None, offset_mapping=None):
        """As `torch_mask_tokens`, from arrays and drawn by numpy."""
        draws = NumpyDraws(inputs.shape, len(self.tokenizer), self.generator)
        return self._mask(inputs, special_tokens_mask, offset_mapping, draws)

    def _problems(self) -> list[str]:
        problems = []
        if self.mlm and self.tokenizer.mask_token is None:
            problems.append(
                f"mlm=True needs a mask token, and {type(self.tokenizer).__name__} has none: "
                "choose a masked language model's tokenizer, or pass mlm=False"
            )
        if self.whole_word_mask and not self.mlm:
            problems.append("whole_word_mask=True needs mlm=True")
        names = ["mask_replace_prob", "random_replace_prob"]
        for name in ["mlm_probability", *names] if self.mlm else names:
            share = getattr(self, name)
            if (share is None and name == "mlm_probability") or share < 0 or share > 1:
                problems.append(f"{name} is {share}: expected 0 to 1")
        if not problems and self.mask_replace_prob + self.random_replace_prob > 1:
            problems.append(
                f"mask_replace_prob {self.mask_replace_prob} and random_replace_prob "
                f"{self.random_replace_prob} are shares of one whole: expected at most 1 together"
            )
        return problems

    def _have_own_generator(self, seed: int, framework: str) -> None:
        """Each framework and each process draws from one of its own, made at its first batch."""
        kind = torch.Generator if framework == "pt" else np.random.Generator
        if isinstance(self.generator, kind) and self._generator_pid == os.getpid():
            return
        worker = torch.utils.data.get_worker_info()
        if worker is None and multiprocessing.current_process().name != "MainProcess":
            raise ValueError(
                "a seed was given, but this process is neither the main one nor a DataLoader "
                "worker, so its number is not known: collate in one of these, or leave the seed out"
            )
        seeded = torch.Generator().manual_seed if framework == "pt" else np.random.default_rng
        self.generator = seeded(seed + worker.id if worker else seed)
        self._generator_pid = os.getpid()

    def _mask(self, input_ids, special_tokens_mask, offset_mapping, draws):
        if special_tokens_mask is None:  # asked once: a token is special by its id, wherever it is
            ids = [token_id for row in input_ids.tolist() for token_id in row]
            flat = self.tokenizer.get_special_tokens_mask(ids, already_has_special_tokens=True)
            special_tokens_mask = np.reshape(flat, input_ids.shape)
        special_tokens_mask = np.asarray(special_tokens_mask)
        deciding = may_be_masked = ~special_tokens_mask.astype(bool)
        if self.whole_word_mask:
            deciding = _word_starts(special_tokens_mask, offset_mapping)
        chosen = draws.coins(self.mlm_probability, never=~deciding)
        if self.whole_word_mask:  # a word's first token has decided for all of it
            chosen = np.take_along_axis(chosen, first_of_word(deciding), axis=1) & may_be_masked
        mask_token_id = self.tokenizer.convert_tokens_to_ids(self.tokenizer.mask_token)
        shares = self.mask_replace_prob, self.random_replace_prob
        return replace_masked(input_ids, chosen, draws, mask_token_id, *shares)


def replace_masked(
    input_ids, chosen, draws, mask_token_id, mask_replace_prob, random_replace_prob
) -> tuple[np.ndarray, np.ndarray]:
    """(what the model sees, labels), arrays like `input_ids`; labels are -100 where not `chosen`.

    draws: `TorchDraws`, `NumpyDraws` or `KeyedDraws`. `coins(p)` is true at each position with
    probability p; `tokens(where)` is a random token id for each true position of `where`.
    """
    seen, labels = input_ids.copy(), input_ids.copy()
    labels[~chosen] = IGNORED
    replaced = draws.coins(mask_replace_prob) & chosen
    seen[replaced] = mask_token_id
    if mask_replace_prob < 1 and random_replace_prob > 0:
        share_of_rest = random_replace_prob / (1 - mask_replace_prob)  # 0.1 of all, 0.5 of the rest
        randomised = draws.coins(share_of_rest) & chosen & ~replaced
        seen[randomised] = draws.tokens(randomised)
    return seen, labels


def first_of_word(starts: np.ndarray) -> np.ndarray:
    """For each token (last axis) the index of the latest word start up to it.

    >>> first_of_word(np.array([True, False, True, False, False]))
    array([0, 0, 2, 2, 2])
    """
    return np.maximum.accumulate(np.where(starts, np.arange(starts.shape[-1]), 0), axis=-1)


def _word_starts(special_tokens_mask: np.ndarray, offset_mapping) -> np.ndarray:
    """Bool (B, T): tokens that do not start where the previous one ends."""
    if offset_mapping is None:  # an IndexError, because it is one in transformers
        raise IndexError(
            "whole_word_mask=True found no 'offset_mapping' in the features: "
            "tokenize with return_offsets_mapping=True"
        )
    offsets = np.asarray(offset_mapping)
    begins, ends = offsets[:, :, 0], offsets[:, :, 1]
    is_apart = begins != np.roll(ends, 1, axis=1)
    is_apart[:, :1] = True
    follows_special = np.roll(special_tokens_mask, 1, axis=1) == 1
    return (is_apart | follows_special) & ~special_tokens_mask.astype(bool)


def _pad_id_lists(
    examples, tokenizer, framework: str, pad_to_multiple_of: int | None
) -> np.ndarray:
    """Plain lists, arrays or tensors of token ids as one array (B, T) of the first one's dtype."""
    rows = [_id_row(example, framework) for example in examples]
    lengths = [len(row) for row in rows]
    length = pad.round_up(max(lengths), pad_to_multiple_of)
    if min(lengths) == length:
        return np.stack(rows)
    pad.require_pad_token(tokenizer)
    filled = pad.fill_up(rows, tokenizer.pad_token_id, lengths, length, tokenizer.padding_side)
    return np.array(filled, dtype=rows[0].dtype)


def _id_row(example, framework: str) -> np.ndarray:
    """One row of plain ids; as in transformers, torch makes int64 of all but its own tensors."""
    to_int64 = (list, tuple, np.ndarray) if framework == "pt" else (list, tuple)
    if isinstance(example, to_int64):
        return np.array(example, dtype=np.int64)
    return example.numpy() if framework == "pt" else np.asarray(example)


@dataclass(frozen=True)
class TorchDraws:
    """What transformers draws from torch, in its order: always a number for each position."""

    shape: tuple[int, ...]
    vocab_size: int
    generator: torch.Generator | None  # None: the global one

    def coins(self, probability: float, never: np.ndarray | None = None) -> np.ndarray:
        probabilities = torch.full(self.shape, probability)
        if never is not None:
            probabilities.masked_fill_(torch.from_numpy(never), 0.0)
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

    def coins(self, probability: float, never: np.ndarray | None = None) -> np.ndarray:
        source = self.generator or np.random
        if never is None:
            return source.binomial(1, probability, size=self.shape).astype(bool)
        probabilities = np.full(self.shape, probability)
        probabilities[never] = 0
        return source.binomial(1, probabilities).astype(bool)

    def tokens(self, where: np.ndarray) -> np.ndarray:
        integers = self.generator.integers if self.generator else np.random.randint
        return integers(0, self.vocab_size, size=np.count_nonzero(where), dtype=np.int64)
