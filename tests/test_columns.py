"""Rows kept flat are the rows that were put in."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rawtrain.data.columns import Columns, flat, offsets_of, positions_in_rows

many_cases = settings(max_examples=100)
row_lists = st.lists(st.lists(st.integers(0, 99), max_size=5), min_size=1, max_size=6)


def columns_of(rows):
    values = {"input_ids": flat(rows), "special": flat(rows) % 2 == 0}
    return Columns(values, offsets_of([len(row) for row in rows]))


def rows_of(columns):
    return [columns.row(number)["input_ids"].tolist() for number in range(len(columns))]


@many_cases
@given(row_lists)
def test_flat_rows_come_back_one_by_one(rows):
    columns = columns_of(rows)
    assert rows_of(columns) == rows
    assert columns.lengths.tolist() == [len(row) for row in rows]
    assert columns.offsets.dtype == np.int64  # a large corpus has more tokens than int32 can count
    is_even = [columns.row(number)["special"].tolist() for number in range(len(rows))]
    assert is_even == [[value % 2 == 0 for value in row] for row in rows]


def test_a_row_is_a_view_and_costs_no_copy():
    columns = columns_of([[1, 2], [3]])
    assert np.shares_memory(columns.row(1)["input_ids"], columns.values["input_ids"])


@many_cases
@given(row_lists, st.none() | st.integers(0, 8))
def test_the_first_rows_are_a_prefix(rows, number):
    first = columns_of(rows).first(number)
    assert rows_of(first) == rows[:number]
    assert len(first.values["input_ids"]) == sum(map(len, rows[:number]))


@many_cases
@given(row_lists, st.data())
def test_selected_rows_and_the_index_of_their_tokens_follow_the_order_asked_for(rows, data):
    wanted = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=6))
    columns, picked = columns_of(rows), [rows[number] for number in wanted]
    assert rows_of(columns.select(np.array(wanted))) == picked

    where, positions = columns.token_index(np.array(wanted))
    assert columns.values["input_ids"][where].tolist() == [i for row in picked for i in row]
    assert positions.tolist() == [position for row in picked for position in range(len(row))]


@many_cases
@given(row_lists)
def test_positions_restart_in_every_row(rows):
    positions = positions_in_rows([len(row) for row in rows])
    assert positions.tolist() == [position for row in rows for position in range(len(row))]


def test_a_token_of_no_word_is_flattened_to_minus_one():
    assert flat([[None, 0, 0, None], [], [None]]).tolist() == [-1, 0, 0, -1, -1]
