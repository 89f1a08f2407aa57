"""Our collator for language modeling is transformers', draw for draw."""

import multiprocessing
import random

import numpy as np
import pytest
import torch
import transformers
from collator_cases import (
    FRAMEWORKS,
    MISTAKES,
    MULTIPLES,
    TOKENIZERS,
    UNFOLLOWED,
    assert_same_as_transformers,
    bare_tokenizer,
    calls_with,
    random_features,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.version import Version

from rawtrain.collate.mask import DataCollatorForLanguageModeling

# From 5.24 on a seeded collator has a generator for each framework and each process, as ours has.
SEEDS_LIKE_OURS = Version(transformers.__version__) >= Version("5.24")
needs_seeds_like_ours = pytest.mark.skipif(
    not SEEDS_LIKE_OURS, reason="transformers before 5.24 draws in another way after a seed"
)
SETTINGS = {
    "mlm_probability": st.sampled_from([0.0, 0.15, 0.15, 0.5, 1.0, 1]),
    "mask_replace_prob": st.sampled_from([0.0, 0.5, 0.8, 0.8, 1.0, 1]),
    "random_replace_prob": st.sampled_from([0.0, 0.0, 0.1, 0.1, 0.2, 0.5]),
    "pad_to_multiple_of": MULTIPLES,
    "return_tensors": FRAMEWORKS,
    "seed": st.sampled_from([None, 0, 7] if SEEDS_LIKE_OURS else [None]),
}
COLLATORS = st.fixed_dictionaries(
    {"tokenizer": st.sampled_from(list(TOKENIZERS.values()))},
    optional=SETTINGS | {"mlm": st.sampled_from([True, True, False])},
)
WHOLE_WORD_COLLATORS = st.fixed_dictionaries(
    {
        "tokenizer": st.sampled_from([TOKENIZERS["right"], TOKENIZERS["left"]]),
        "whole_word_mask": st.just(True),
    },
    optional=SETTINGS,
)


def id_lists_from(seed, form):
    choose = random.Random(seed)
    lengths = [choose.randint(1, 9) for _ in range(choose.randint(1, 5))]
    if choose.random() < 0.4:
        lengths = lengths[:1] * len(lengths)
    return [form([choose.randint(0, 7) for _ in range(n)]) for n in lengths]


def features_with_words_from(seed, form):
    """Rows of one length, the only ones for which transformers can find the words."""
    choose = random.Random(seed)
    length = choose.randint(1, 12)
    features = []
    for _ in range(choose.randint(1, 4)):
        ends = np.cumsum([choose.randint(1, 3) for _ in range(length)]).tolist()
        offsets = [(a + choose.randint(0, 1), b) for a, b in zip([0, *ends], ends, strict=False)]
        features.append(
            {
                "input_ids": form([choose.randint(0, 12) for _ in range(length)]),
                "offset_mapping": form([list(pair) for pair in offsets]),
                "special_tokens_mask": form([choose.choice([0, 0, 0, 1]) for _ in range(length)]),
            }
        )
    for name in choose.choice([[], [], ["special_tokens_mask"], ["offset_mapping"]]):
        for feature in features:
            del feature[name]
    return features


SEEDS = st.integers(0, 2**32)
# torch puts no mask id among bools
FEATURES = random_features(MISTAKES.keys() - UNFOLLOWED - {"bools"})
ID_LISTS = st.builds(id_lists_from, SEEDS, st.sampled_from([list, tuple, np.array]))
ID_TENSORS = st.builds(id_lists_from, SEEDS, st.just(torch.tensor))
FEATURES_WITH_WORDS = st.builds(
    features_with_words_from, SEEDS, st.sampled_from([list, np.array, torch.tensor])
)


@settings(max_examples=800)
@given(COLLATORS, calls_with(st.one_of(FEATURES, ID_LISTS)))
def test_language_modeling_collator_equals_transformers(collator_settings, calls):
    assert_same_as_transformers(DataCollatorForLanguageModeling, collator_settings, calls)


@settings(max_examples=150)
@given(COLLATORS, ID_TENSORS)
def test_a_list_of_tensors_is_treated_as_by_transformers(collator_settings, tensors):
    collator_settings["return_tensors"] = "pt"  # with "np" transformers can only stack them
    calls = [({}, tensors, None)]
    assert_same_as_transformers(DataCollatorForLanguageModeling, collator_settings, calls)


@settings(max_examples=300)
@given(WHOLE_WORD_COLLATORS, calls_with(FEATURES_WITH_WORDS))
def test_whole_word_masking_equals_transformers(collator_settings, calls):
    assert_same_as_transformers(DataCollatorForLanguageModeling, collator_settings, calls)


@pytest.mark.parametrize(
    "wrong",
    [
        {"mlm_probability": 1.1},
        {"mlm_probability": -0.1},
        {"mlm_probability": None},
        {"mlm_probability": "0.1"},
        {"mask_replace_prob": 0.8, "random_replace_prob": 0.3},
        {"mask_replace_prob": -0.1},
        {"mask_replace_prob": None},
        {"random_replace_prob": 1.5, "mask_replace_prob": -0.7},
        {"mlm": False, "whole_word_mask": True},
        {"mlm": False, "mlm_probability": None},
        {"tokenizer": TOKENIZERS["no mask token"]},
        {"tokenizer": TOKENIZERS["no mask token"], "mlm": False},
        {"unknown": 1},
    ],
    ids=str,
)
def test_construction_fails_where_transformers_does(wrong):
    collator_settings = {"tokenizer": TOKENIZERS["right"]} | wrong
    calls = [({}, [{"input_ids": [5, 6]}], None)]
    assert_same_as_transformers(DataCollatorForLanguageModeling, collator_settings, calls)


@pytest.mark.parametrize(
    "examples", [[], [3, 4], [[]], [["a"]], [[None]], [[1.5]], [{}], np.ones((2, 3), int)], ids=str
)
@pytest.mark.parametrize("framework", ["pt", "np"])
def test_unusual_examples_are_treated_as_by_transformers(examples, framework):
    seed = 1 if SEEDS_LIKE_OURS else None
    collator_settings = {
        "tokenizer": TOKENIZERS["right"],
        "seed": seed,
        "return_tensors": framework,
    }
    calls = [({}, examples, None)]
    assert_same_as_transformers(DataCollatorForLanguageModeling, collator_settings, calls)


@pytest.mark.parametrize("framework", ["pt", "np"])
def test_shares_that_rounding_puts_above_one_are_treated_as_by_transformers(framework):
    shares = {"mask_replace_prob": 0.8, "random_replace_prob": 0.2}  # 0.2 / (1 - 0.8) > 1
    collator_settings = {"tokenizer": TOKENIZERS["right"], "return_tensors": framework} | shares
    calls = [({}, [{"input_ids": ids}] * 2, None) for ids in ([], [5, 6])]
    assert_same_as_transformers(DataCollatorForLanguageModeling, collator_settings, calls)


def test_the_book_s_example_gives_the_book_s_mask():
    """Chapter 9 of Natural Language Processing with Transformers, the first masked example."""
    tokens = [f"w{i}" for i in range(30522)]
    names = ["pad_token", "unk_token", "cls_token", "sep_token", "mask_token"]
    for token_id, name in zip([0, 100, 101, 102, 103], names, strict=True):
        tokens[token_id] = name
    tokenizer = bare_tokenizer(tokens, **{name: name for name in names})
    assert len(tokenizer) == 30522
    transformers.set_seed(3)
    collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)
    collator.return_tensors = "np"
    features = [{"input_ids": [101, 19081, 2024, 12476, 999, 102]}]
    batch = collator(features)
    assert batch["input_ids"].tolist() == [[101, 19081, 2024, 12476, 103, 102]]
    assert batch["labels"].tolist() == [[-100, -100, -100, -100, 999, -100]]


@pytest.mark.parametrize("drawn_before", [False, pytest.param(True, marks=needs_seeds_like_ours)])
def test_dataloader_workers_draw_as_in_transformers(drawn_before):
    rows = [{"input_ids": list(range(5, 13))} for _ in range(12)]

    def batches(collator_class):
        collator = collator_class(TOKENIZERS["right"], mlm_probability=0.5, seed=4)
        if drawn_before:
            collator(rows)
        loader = torch.utils.data.DataLoader(rows, 2, collate_fn=collator, num_workers=2)
        return [batch["input_ids"].tolist() for batch in loader]

    ours = batches(DataCollatorForLanguageModeling)
    assert ours == batches(transformers.DataCollatorForLanguageModeling)
    assert ours[0] != ours[1], "each worker has a seed of its own"


def test_a_seeded_collator_refuses_a_process_whose_number_it_does_not_know(monkeypatch):
    monkeypatch.setattr(multiprocessing.current_process(), "_config", {}, raising=True)
    monkeypatch.setattr(multiprocessing.current_process(), "_name", "Process-7")
    collator = DataCollatorForLanguageModeling(TOKENIZERS["right"], seed=4)
    with pytest.raises(ValueError, match="neither the main one nor a DataLoader worker"):
        collator([[5, 6]])


def test_ragged_tensors_become_arrays_where_transformers_raises():
    tensors = [torch.tensor([5, 6]), torch.tensor([7])]
    with pytest.raises(TypeError):
        transformers.DataCollatorForLanguageModeling(TOKENIZERS["right"])(tensors, "np")
    batch = DataCollatorForLanguageModeling(TOKENIZERS["right"], mlm=False)(tensors, "np")
    assert batch["input_ids"].tolist() == [[5, 6], [7, 0]]
    assert batch["labels"].tolist() == [[5, 6], [7, -100]]


def test_an_empty_row_is_padded_on_the_left_where_transformers_raises():
    with pytest.raises(RuntimeError):
        transformers.DataCollatorForLanguageModeling(TOKENIZERS["left"])([[5, 6], []])
    batch = DataCollatorForLanguageModeling(TOKENIZERS["left"], mlm=False)([[5, 6], []])
    assert batch["input_ids"].tolist() == [[5, 6], [0, 0]]


def test_whole_word_mask_says_that_it_replaces_by_mask_tokens_only():
    with pytest.warns(UserWarning, match="mask_replace_prob is set to 1"):
        DataCollatorForLanguageModeling(TOKENIZERS["right"], whole_word_mask=True)


def test_all_problems_of_a_collator_are_reported_at_once():
    with pytest.raises(ValueError, match=r"mask token.*probability is 2.*replace_prob is -1"):
        DataCollatorForLanguageModeling(
            TOKENIZERS["no mask token"], mlm_probability=2, mask_replace_prob=-1
        )


def test_whole_word_mask_without_offsets_says_how_to_get_them():
    collator = DataCollatorForLanguageModeling(
        TOKENIZERS["right"], whole_word_mask=True, mask_replace_prob=1, random_replace_prob=0
    )
    with pytest.raises(IndexError, match="return_offsets_mapping=True"):
        collator([{"input_ids": [5, 6]}])
