import subprocess
import sys

import pytest
import torch
from transformers import AutoTokenizer, BertForMaskedLM, BertForTokenClassification, pipeline

from rawtrain.data.small_bert import small_bert_config, train_small_tokenizer

TEXTS = [f"The torch.nn module number_{i} Applies a linear map to input {i}." for i in range(200)]


@pytest.fixture(scope="module")
def tokenizer():
    return train_small_tokenizer(TEXTS, vocab_size=300)


@pytest.mark.slow
def test_the_same_texts_give_the_same_tokenizer_in_every_process(tokenizer):
    code = (
        "from rawtrain.data.small_bert import train_small_tokenizer as train\n"
        f"print(train({TEXTS!r}, vocab_size=300).backend_tokenizer.to_str())"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == tokenizer.backend_tokenizer.to_str()


def test_the_tokenizer_is_loaded_as_it_was_saved(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    small_bert_config(tokenizer).save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    text = "The torch.nn module [MASK] Unseen words, too"
    assert loaded(text).input_ids == tokenizer(text).input_ids
    assert loaded.model_max_length == tokenizer.model_max_length == 128
    assert loaded.all_special_tokens == tokenizer.all_special_tokens
    assert loaded.mask_token_id in loaded(text).input_ids


def test_only_the_five_tokens_of_bert_are_special(tokenizer):
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert sorted(tokenizer.all_special_tokens) == sorted(names)
    assert tokenizer.convert_tokens_to_ids(names) == [0, 1, 2, 3, 4]
    assert (
        tokenizer.decode(tokenizer("linear map").input_ids, skip_special_tokens=True)
        == "linear map"
    )
    spelt = tokenizer("plamir").input_ids
    assert len(spelt) > 4
    assert tokenizer.decode(spelt, skip_special_tokens=True) == "plamir"


def test_case_is_kept_and_words_are_known_by_their_number(tokenizer):
    assert tokenizer("Applies").input_ids != tokenizer("applies").input_ids
    encoded = tokenizer(["torch.nn", "linear"], is_split_into_words=True)
    assert encoded.word_ids()[0] is None and encoded.word_ids()[-1] is None
    assert sorted(set(encoded.word_ids()[1:-1])) == [0, 1]


def test_a_name_with_dots_and_underscores_is_one_token_where_it_is_known(tokenizer):
    assert "torch.nn" in tokenizer.tokenize("(torch.nn)")
    assert tokenizer.tokenize("number_7")[0].startswith("number_")


def test_the_small_bert_fits_its_tokenizer_and_serves_the_ner_pipeline(tokenizer):
    torch.manual_seed(0)
    config = small_bert_config(tokenizer)
    assert (config.vocab_size, config.pad_token_id) == (len(tokenizer), 0)
    longest = tokenizer("map " * 500, truncation=True, return_tensors="pt")
    assert longest.input_ids.shape == (1, config.max_position_embeddings)
    assert BertForMaskedLM(config)(**longest).logits.isfinite().all()
    config.id2label, config.label2id = {0: "O", 1: "B-ATTR"}, {"O": 0, "B-ATTR": 1}
    tag = pipeline("ner", model=BertForTokenClassification(config), tokenizer=tokenizer)
    text = "a linear map"
    for found in tag(text):
        assert text[found["start"] : found["end"]] == found["word"].removeprefix("##")
