"""The job's own masks: a function of (seed, epoch, row, position), with the shares of the rule."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rawtrain import MlmSettings
from rawtrain.batches import EVALUATION
from rawtrain.collate.keyed_mask import MaskedTokens
from rawtrain.data.columns import Columns, offsets_of

VOCAB_SIZE, MASK_ID = 1000, 3


class Tokenizer:
    mask_token_id = MASK_ID

    def __len__(self):
        return VOCAB_SIZE


def rows_of(lengths):
    """Rows of these lengths, all ids 500, the ends of each row special."""
    special = [np.isin(np.arange(n), [0, n - 1]) for n in lengths]
    values = {"input_ids": np.full(sum(lengths), 500, np.int32), "special": np.concatenate(special)}
    return Columns(values, offsets_of(lengths))


def mask(columns, rows=None, epoch=0, **flags):
    """(what the model sees, labels) of these rows, by default of all."""
    flags["whole_word_mask"] = "word_starts" in columns.values
    rows = np.arange(len(columns)) if rows is None else np.asarray(rows)
    found = MaskedTokens(columns, Tokenizer(), MlmSettings(**flags)).tokens(rows, epoch)
    return found["input_ids"], found["labels"]


def within(count, total, share, sigmas=4):
    """Whether a binomial count is as near to its mean as all but 1 of 16,000 are."""
    return abs(count - total * share) < sigmas * (total * share * (1 - share)) ** 0.5


@pytest.mark.parametrize("by_words", [False, True], ids=["tokens", "words"])
def test_15_percent_are_masked_and_replaced_80_10_10(by_words):
    columns = rows_of([502] * 600)
    special = columns.values["special"]
    if by_words:  # of two tokens after [CLS]
        columns.values["word_starts"] = np.tile(np.arange(502) % 2 == 1, 600)
    seen, labels = mask(columns)
    chosen = labels != -100
    draws_per_choice = 2 if by_words else 1
    assert within(chosen.sum() / draws_per_choice, (~special).sum() / draws_per_choice, 0.15)
    assert within((seen[chosen] == MASK_ID).sum(), chosen.sum(), 0.8 + 0.1 / VOCAB_SIZE)
    assert within((seen[chosen] == 500).sum(), chosen.sum(), 0.1 + 0.1 / VOCAB_SIZE)
    random_ids = seen[chosen & (seen != MASK_ID) & (seen != 500)]
    counts = np.bincount(random_ids, minlength=VOCAB_SIZE)
    counts = np.delete(counts, [MASK_ID, 500])
    chi_square = ((counts - counts.mean()) ** 2 / counts.mean()).sum()
    assert abs(chi_square - (len(counts) - 1)) < 4 * (2 * len(counts)) ** 0.5


def test_only_chosen_tokens_change_and_labels_are_what_they_were():
    columns = rows_of([20] * 100)
    input_ids, special = columns.values["input_ids"], columns.values["special"]
    input_ids[:] = np.arange(len(input_ids)) % VOCAB_SIZE
    before = input_ids.copy()
    seen, labels = mask(columns, mlm_probability=0.5)
    assert (seen == before)[labels == -100].all()
    assert (labels == before)[labels != -100].all()
    assert (labels[special] == -100).all()
    assert (input_ids == before).all()
    assert seen.dtype == labels.dtype == np.int32


@pytest.mark.parametrize("by_words", [False, True], ids=["tokens", "words"])
def test_masks_do_not_depend_on_the_batch_a_row_is_in(by_words):
    columns = rows_of([7, 2, 30, 1, 12, 9])
    if by_words:
        columns.values["word_starts"] = np.random.default_rng(0).random(61) < 0.1
    expected = mask(columns, mlm_probability=0.5)
    for order in ([0, 1, 2, 3, 4, 5], [5, 3, 1, 0, 2, 4]):
        for cut in (4, 1000):  # rows of a batch
            for of_batch in np.split(order, range(cut, len(order), cut)):
                tokens, _ = columns.token_index(of_batch)
                found = mask(columns, of_batch, mlm_probability=0.5)
                assert np.array_equal(found, [column[tokens] for column in expected])


@pytest.mark.parametrize(
    "change", [{"epoch": 1}, {"seed": 43}, {"rows": range(600, 1200)}], ids=str
)
def test_another_epoch_seed_or_row_has_independent_masks(change):
    columns = rows_of([502] * 1200)
    first, second = (
        mask(columns, **{"rows": range(600)} | changed)[1] != -100 for changed in ({}, change)
    )
    assert within((first & second).sum(), 600 * 500, 0.15**2)


def test_masks_of_evaluation_are_the_same_whatever_the_seed():
    columns = rows_of([100] * 5)
    found = [mask(columns, epoch=EVALUATION, seed=seed) for seed in (42, 43)]
    assert np.array_equal(*found)
    assert not np.array_equal(found[0], mask(columns))


@settings(max_examples=200)
@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=5), st.integers(0, 2**32), st.integers(0, 9)
)
def test_all_tokens_of_a_word_are_masked_or_none(row_lengths, seed, epoch):
    columns = rows_of(row_lengths)
    special, (_, positions) = (
        columns.values["special"],
        columns.token_index(np.arange(len(columns))),
    )
    word_starts = np.random.default_rng(seed).random(len(special)) < 0.4
    columns.values["word_starts"] = word_starts
    _, labels = mask(columns, epoch=epoch, mlm_probability=0.5)
    word = np.cumsum(word_starts | (positions == 0))
    for number in np.unique(word):
        assert len(set(labels[(word == number) & ~special])) <= 1


@pytest.mark.parametrize(
    "shares, expected", [((0, 0), {500}), ((1, 0), {MASK_ID}), ((0.5, 0), {500, MASK_ID})]
)
def test_the_shares_of_the_rule_can_be_set(shares, expected):
    seen, labels = mask(
        rows_of([500]),
        mlm_probability=1.0,
        mask_replace_prob=shares[0],
        random_replace_prob=shares[1],
    )
    assert set(seen[labels != -100].tolist()) == expected
