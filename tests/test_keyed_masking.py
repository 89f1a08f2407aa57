"""The job's own masks: a function of (seed, epoch, row, position), with the shares of the rule."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rawtrain.collate.keyed_mask import mask_tokens

VOCAB_SIZE, MASK_ID = 1000, 3


def flat_batch(row_lengths, first_row=0):
    """input_ids (all 500), special (each row's ends), rows and positions of such rows, [N] each."""
    rows = np.repeat(np.arange(len(row_lengths)) + first_row, row_lengths)
    positions = np.concatenate([np.arange(n) for n in row_lengths])
    special = np.concatenate([np.isin(np.arange(n), [0, n - 1]) for n in row_lengths])
    return np.full(len(rows), 500, dtype=np.int32), special, rows, positions


def mask(batch, **settings):
    defaults = dict(seed=42, epoch=0, vocab_size=VOCAB_SIZE, mask_token_id=MASK_ID)
    return mask_tokens(*batch, **defaults | settings)


def within(count, total, share, sigmas=4):
    """Whether a binomial count is as near to its mean as all but 1 of 16,000 are."""
    return abs(count - total * share) < sigmas * (total * share * (1 - share)) ** 0.5


@pytest.mark.parametrize("by_words", [False, True], ids=["tokens", "words"])
def test_15_percent_are_masked_and_replaced_80_10_10(by_words):
    batch = flat_batch([502] * 600)
    _, special, _, positions = batch
    word_starts = positions % 2 == 1 if by_words else None  # words of two tokens after [CLS]
    seen, labels = mask(batch, word_starts=word_starts)
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
    batch = flat_batch([20] * 100)
    input_ids, special, *_ = batch
    input_ids[:] = np.arange(len(input_ids)) % VOCAB_SIZE
    before = input_ids.copy()
    seen, labels = mask(batch, mlm_probability=0.5)
    assert (seen == before)[labels == -100].all()
    assert (labels == before)[labels != -100].all()
    assert (labels[special] == -100).all()
    assert (input_ids == before).all()
    assert seen.dtype == labels.dtype == np.int32


@pytest.mark.parametrize("by_words", [False, True], ids=["tokens", "words"])
def test_masks_do_not_depend_on_the_batch_a_row_is_in(by_words):
    lengths = [7, 2, 30, 1, 12, 9]
    whole = flat_batch(lengths)
    starts = np.random.default_rng(0).random(len(whole[0])) < 0.1 if by_words else None
    expected = mask(whole, word_starts=starts, mlm_probability=0.5)
    ends = np.cumsum(lengths)
    for order in ([0, 1, 2, 3, 4, 5], [5, 3, 1, 0, 2, 4]):
        token_order = np.concatenate([np.arange(ends[r] - lengths[r], ends[r]) for r in order])
        for cut in (4, 1000):  # rows of a batch
            for of_batch in np.split(order, range(cut, len(order), cut)):
                tokens = token_order[np.isin(whole[2][token_order], of_batch)]
                found = mask(
                    [column[tokens] for column in whole],
                    word_starts=None if starts is None else starts[tokens],
                    mlm_probability=0.5,
                )
                assert np.array_equal(found, [column[tokens] for column in expected])


@pytest.mark.parametrize("change", [{"epoch": 1}, {"seed": 43}, {"first_row": 600}], ids=str)
def test_another_epoch_seed_or_row_has_independent_masks(change):
    lengths = [502] * 600
    first = mask(flat_batch(lengths))[1] != -100
    batch = flat_batch(lengths, change.get("first_row", 0))
    second = mask(batch, **{k: v for k, v in change.items() if k != "first_row"})[1] != -100
    maskable = (~batch[1]).sum()
    assert within((first & second).sum(), maskable, 0.15**2)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=5), st.integers(0, 2**32), st.integers(0, 9)
)
def test_all_tokens_of_a_word_are_masked_or_none(row_lengths, seed, epoch):
    batch = flat_batch(row_lengths)
    _, special, rows, positions = batch
    word_starts = np.random.default_rng(seed).random(len(rows)) < 0.4
    _, labels = mask(batch, word_starts=word_starts, epoch=epoch, mlm_probability=0.5)
    word = np.cumsum(word_starts | (positions == 0))
    for number in np.unique(word):
        assert len(set(labels[(word == number) & ~special])) <= 1


@pytest.mark.parametrize(
    "shares, expected",
    [((0, 0), {500}), ((1, 0), {MASK_ID}), ((0.5, 0), {500, MASK_ID})],
)
def test_the_shares_of_the_rule_can_be_set(shares, expected):
    seen, labels = mask(
        flat_batch([500]),
        mlm_probability=1.0,
        mask_replace_prob=shares[0],
        random_replace_prob=shares[1],
    )
    assert set(seen[labels != -100].tolist()) == expected
