"""Packed rows: nothing is lost, sentences stay whole and apart, and few slots stay empty."""

import copy
import itertools

import numpy as np
import pytest
import torch
from conftest import token_source
from hypothesis import given
from hypothesis import strategies as st

from rawtrain.collate.pack import ALIGNMENT, HIDDEN, PackedRows, choose_rows, fit
from rawtrain.collate.pad import DataCollatorForTokenClassification, PaddedRows
from rawtrain.collate.tokens import TaggedTokens

some_lengths = st.lists(st.integers(1, 60), min_size=1, max_size=40).map(np.array)


@given(some_lengths, st.integers(60, 90))
def test_no_row_holds_more_than_its_slots_and_no_row_is_empty(lengths, num_slots):
    rows = fit(lengths, num_slots)
    used = np.bincount(rows, weights=lengths)
    assert used.max() <= num_slots
    assert used.min() > 0


@given(some_lengths)
def test_a_sentence_opens_a_new_row_only_if_no_row_has_room(lengths):
    """Best fit decreasing: no two rows could be one."""
    used = np.bincount(fit(lengths, 60), weights=lengths)
    assert all(a + b > 60 for a, b in itertools.combinations(used, 2))


@given(some_lengths)
def test_the_chosen_rows_cost_no_more_than_those_of_any_other_length_tried(lengths):
    width = 32
    rows, num_slots = choose_rows(lengths, width)
    assert num_slots % ALIGNMENT == 0 and num_slots >= lengths.max()
    shortest = -(-lengths.max() // ALIGNMENT) * ALIGNMENT
    costs = [
        (fit(lengths, slots).max() + 1) * slots * (width + slots)
        for slots in range(shortest, 2 * shortest + 8 * ALIGNMENT, ALIGNMENT)
    ]
    assert (rows.max() + 1) * num_slots * (width + num_slots) == min(costs)


def test_24_short_sentences_leave_few_slots_empty():
    rng = np.random.default_rng(0)
    num_slots = num_tokens = 0
    for _ in range(50):
        lengths = rng.integers(4, 40, 24)
        rows, slots = choose_rows(lengths, width=384)
        num_slots += (rows.max() + 1) * slots
        num_tokens += lengths.sum()
    assert num_slots / num_tokens < 1.1  # padded to the longest: 1.8


def test_a_row_is_no_longer_than_the_model_has_positions_unless_a_sentence_is():
    lengths = np.array([20, 20, 20, 20])
    assert choose_rows(lengths, 384)[1] > 30
    assert choose_rows(lengths, 384, most_slots=30)[1] <= 30
    assert choose_rows(np.array([29, 3]), 16, most_slots=30)[1] == 30
    assert choose_rows(np.array([35, 3]), 16, most_slots=30)[1] == 35


def test_what_hides_another_sentence_is_the_lowest_number_of_bfloat16():
    assert torch.finfo(torch.bfloat16).min == HIDDEN


@given(num_rows=st.integers(1, 12), seed=st.integers(0, 10**6), first_position=st.integers(0, 2))
def test_every_sentence_stands_whole_in_one_row_and_sees_itself_alone(
    num_rows, seed, first_position, small_tokenizer
):
    source = token_source("ner", small_tokenizer, num_rows, longest=20, seed=seed)
    batch = PackedRows(source, small_tokenizer, 16, first_position)(np.arange(num_rows))
    found, num_tokens = [], 0
    sees = batch["attention_mask"][:, 0] == 0  # (R, S, S)
    for ids, labels, positions, visible in zip(
        batch["input_ids"], batch["labels"], batch["position_ids"], sees, strict=True
    ):
        for group in {tuple(row.nonzero().squeeze(1).tolist()) for row in visible}:
            group = list(group)
            assert all(visible[slot].nonzero().squeeze(1).tolist() == group for slot in group)
            if ids[group[0]] == small_tokenizer.pad_token_id and len(set(ids[group].tolist())) == 1:
                assert (labels[group] == -100).all()  # the gap at the end of a row
                continue
            assert group == list(range(group[0], group[-1] + 1))
            assert positions[group].tolist() == list(
                range(first_position, first_position + len(group))
            )
            found.append((ids[group].tolist(), labels[group].tolist()))
            num_tokens += len(group)
    expected = [source.columns.row(row) for row in range(num_rows)]
    assert sorted(found) == sorted(
        (row["input_ids"].tolist(), row["labels"].tolist()) for row in expected
    )
    assert num_tokens == source.columns.offsets[-1]


@pytest.mark.parametrize("side", ["right", "left"])
def test_padded_rows_are_what_the_collator_makes_of_the_same_features(side, small_tokenizer):
    tokenizer = copy.copy(small_tokenizer)
    tokenizer.padding_side = side
    columns = token_source("ner", tokenizer, num_rows=12).columns
    columns.values["token_type_ids"] = columns.values["input_ids"] % 2
    rows = np.array([7, 0, 11, 3])
    found = PaddedRows(TaggedTokens(columns), tokenizer)(rows)
    features = [columns.row(row) for row in rows]
    expected = DataCollatorForTokenClassification(tokenizer)(features)
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert tensor.dtype == expected[name].dtype and torch.equal(tensor, expected[name])


def test_masks_of_packed_rows_are_those_of_padded_ones(small_tokenizer):
    source, rows = token_source("mlm", small_tokenizer, num_rows=30), np.arange(30)
    packed, padded = (
        make(rows, epoch=3)
        for make in (
            PackedRows(source, small_tokenizer, width=16),
            PaddedRows(source, small_tokenizer),
        )
    )
    hidden = [
        torch.stack([batch["input_ids"], batch["labels"]], -1)[batch["labels"] != -100].tolist()
        for batch in (packed, padded)
    ]
    assert sorted(hidden[0]) == sorted(hidden[1]) and len(hidden[0]) > 20
