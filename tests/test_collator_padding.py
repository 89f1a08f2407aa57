"""Our collator for token classification is transformers', and padding is what it is there for."""

import numpy as np
import pytest
import torch
import transformers
from collator_cases import (
    FRAMEWORKS,
    MULTIPLES,
    TOKENIZERS,
    assert_same_as_transformers,
    calls_with,
    random_features,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BatchEncoding
from transformers.utils import PaddingStrategy

from rawtrain.collate.pad import DataCollatorForTokenClassification

PADDINGS = [True, True, True, False, "longest", "max_length", "do_not_pad", *PaddingStrategy]
COLLATOR_SETTINGS = st.fixed_dictionaries(
    {"tokenizer": st.sampled_from(list(TOKENIZERS.values()))},
    optional={
        "padding": st.sampled_from([*PADDINGS, None, 1, "longer"]),
        "max_length": st.sampled_from([None, 3, 9, 14]),
        "pad_to_multiple_of": MULTIPLES,
        "label_pad_token_id": st.sampled_from([-100, -1, 0]),
        "return_tensors": FRAMEWORKS,
    },
)


@settings(max_examples=1000)
@given(COLLATOR_SETTINGS, calls_with(random_features()))
def test_token_classification_collator_equals_transformers(collator_settings, calls):
    assert_same_as_transformers(DataCollatorForTokenClassification, collator_settings, calls)


def test_rows_that_are_too_long_and_hold_nothing_are_refused_as_by_transformers():
    features = [{"input_ids": [1] * 9, "labels": [0] * 9, "special_tokens_mask": None}] * 2
    chosen = {"tokenizer": TOKENIZERS["right"], "padding": "max_length", "max_length": 3}
    calls = [({}, features, None)]
    assert_same_as_transformers(DataCollatorForTokenClassification, chosen, calls)


@pytest.mark.parametrize("framework", ["pt", "np"])
@pytest.mark.parametrize(
    "features",
    [
        [],
        {},
        {"input_ids": [[1, 2], [3]]},
        [[1, 2], [3]],
        ["text"],
        [{}],
        [BatchEncoding({"input_ids": [1, 2]}), BatchEncoding({"input_ids": [3]})],
        [{"input_ids": [torch.tensor(1), torch.tensor(2)]}, {"input_ids": [torch.tensor(3)]}],
        [{"input_ids": torch.ones((1, 3), dtype=torch.int64), "labels": [1]}] * 2,
        [{"input_ids": [1, 2], "attention_mask": torch.ones(1, 2, 2)}] * 2,
        [{"attention_mask": np.ones((2, 2)), "input_ids": [1, 2], "labels": [0, 1]}] * 2,
        [{"attention_mask": np.ones((n, n)), "input_ids": [1] * n} for n in (1, 2)],
        [{"input_ids": [1, 2], "labels": "OO"}],
        [{"input_ids": [1, 2], "labels": 1}],
        [{"input_ids": [1, 2], "labels": [0.9, 2]}],
        [{"input_ids": [1], "labels": [0, 1, 2]}] * 2,
        [{"input_ids": [1, 2], "labels": torch.tensor([1, 0])}, {"input_ids": [1], "labels": [1]}],
        [{"input_ids": [], "attention_mask": []}] * 2,
        [
            {"input_ids": np.array([1.0]), "labels": np.array([1])},
            {"input_ids": [2], "labels": [0]},
        ],
        [{"input_ids": [1, 2], "label": [1, 0], "labels": [3, 4]}],
        [{"input_ids": [2**70, 2]}],
    ],
    ids=str,
)
def test_unusual_features_are_treated_as_by_transformers(features, framework):
    for name in ("right", "no attention mask"):
        assert_same_as_transformers(
            DataCollatorForTokenClassification,
            {"tokenizer": TOKENIZERS[name]},
            [({}, features, framework)],
        )


def test_labels_of_different_lengths_end_in_minus_100():
    features = [
        {"input_ids": [2, 5, 3], "labels": [-100, 4, -100]},
        {"input_ids": [2], "labels": [0]},
    ]
    batch = DataCollatorForTokenClassification(TOKENIZERS["right"])(features)
    assert batch["labels"].tolist() == [[-100, 4, -100], [0, -100, -100]]
    assert batch["input_ids"].tolist() == [[2, 5, 3], [2, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]


@pytest.mark.parametrize(
    "name, rows, expected",
    [
        ("attention_mask", [np.array([1, 1]), np.array([1])], [[1, 1], [1, 0]]),
        ("token_type_ids", [(1, 1), (1,)], [[1, 1], [1, 2]]),
        ("labels", [np.array([True, False]), np.array([True])], [[1, 0], [1, -100]]),
    ],
    ids=["arrays beside lists", "tuples", "numpy bools"],
)
def test_what_transformers_fails_on_is_padded(name, rows, expected):
    features = [{"input_ids": [5] * len(row), name: row} for row in rows]
    tokenizer = TOKENIZERS["right"]
    with pytest.raises((ValueError, TypeError)):
        transformers.DataCollatorForTokenClassification(tokenizer)(features)
    batch = DataCollatorForTokenClassification(tokenizer)(features)
    assert batch[name].tolist() == expected


def test_return_tensors_is_switched_on_a_living_collator():
    collator = DataCollatorForTokenClassification(TOKENIZERS["right"])
    features = [{"input_ids": [2, 3]}]
    assert isinstance(collator(features)["input_ids"], torch.Tensor)
    collator.return_tensors = "np"
    assert isinstance(collator(features)["input_ids"], np.ndarray)
    assert isinstance(collator(features, return_tensors="pt")["input_ids"], torch.Tensor)


@pytest.mark.parametrize(
    "tokenizer, features, message",
    [
        ("no pad token", [{"input_ids": [1]}], "has none: set tokenizer.pad_token"),
        ("right", [{"ids": [1]}], r"\['ids'\], but no 'input_ids'"),
        ("right", [{"input_ids": "text"}], "'text'.*expected lists of int"),
    ],
)
def test_an_error_says_what_was_found_and_what_to_do(tokenizer, features, message):
    with pytest.raises(ValueError, match=message):
        DataCollatorForTokenClassification(TOKENIZERS[tokenizer])(features)
