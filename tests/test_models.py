import copy
import math
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    BertConfig,
    ModernBertConfig,
    XLMRobertaConfig,
)

from rawtrain.models.loading import check_length, load_config, load_model, num_positions
from rawtrain.models.tokenizers import load_tokenizer
from rawtrain.study.tiny import tiny_model

TOKENS = AutoModelForTokenClassification


@pytest.fixture
def folder(model_dir, tmp_path):
    """A copy of the tiny model that a test may damage."""
    return Path(shutil.copytree(model_dir, tmp_path / "model"))


def load(settings, folder):
    chosen = settings(model_name_or_path=str(folder), do_train=True)
    return load_model(TOKENS, load_config(chosen), chosen)


def test_a_new_head_is_reported_and_the_rest_is_pretrained(settings, folder, caplog):
    with caplog.at_level("INFO", logger="rawtrain"):
        model = load(settings, folder)
    assert "classifier.bias, classifier.weight" in caplog.text
    saved = load_file(folder / "model.safetensors")
    assert torch.equal(
        model.bert.encoder.layer[1].output.dense.weight,
        saved["bert.encoder.layer.1.output.dense.weight"],
    )


def test_a_pooler_that_a_masked_language_model_lacks_is_new_as_the_head_is(
    settings, folder, caplog
):
    def load_classifier(**flags):
        chosen = settings(model_name_or_path=str(folder), **flags)
        return load_model(AutoModelForSequenceClassification, load_config(chosen), chosen)

    with caplog.at_level("INFO", logger="rawtrain"):
        model = load_classifier(do_train=True)
    saved = load_file(folder / "model.safetensors")
    assert "bert.pooler.dense.weight" in model.state_dict() and not any("pool" in k for k in saved)
    assert "new, trained from random weights: bert.pooler.dense.bias, bert.pooler.d" in caplog.text
    with pytest.raises(ValueError, match=r"has no trained head \(bert.pooler.dense.bias, "):
        load_classifier()


def test_a_new_model_is_made_from_a_configuration_alone(settings, model_dir):
    chosen = settings(config_name=model_dir, tokenizer_name=model_dir)
    model = load_model(TOKENS, load_config(chosen), chosen)
    assert load_tokenizer(chosen).mask_token == "[MASK]"
    saved = load_file(Path(model_dir) / "model.safetensors")
    name = "bert.embeddings.word_embeddings.weight"
    assert model.state_dict()[name].shape == saved[name].shape
    assert not torch.equal(model.state_dict()[name], saved[name])


SMALL = {"vocab_size": 30, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}


def test_a_model_without_a_table_of_positions_takes_rows_of_any_length():
    config = AutoConfig.for_model("xlnet", vocab_size=30, d_model=8, n_layer=1, n_head=2, d_inner=8)
    assert num_positions(TOKENS.from_config(config)) == math.inf  # its config says -1


@pytest.mark.parametrize(
    "config, positions",
    [
        (BertConfig(**SMALL, intermediate_size=8, max_position_embeddings=40), 40),
        # numbered from padding_idx + 1 = 2 on
        (XLMRobertaConfig(**SMALL, intermediate_size=8, max_position_embeddings=42), 40),
        # rotary: no table, but the length it was made for
        (ModernBertConfig(**SMALL, max_position_embeddings=40, pad_token_id=0), 40),
    ],
    ids=lambda value: getattr(value, "model_type", None),
)  # fmt: skip
def test_the_longest_row_is_what_the_model_can_take(config, positions, settings, model_dir):
    model = TOKENS.from_config(config).eval()
    assert num_positions(model) == positions
    ids = torch.full((1, positions), 5)
    model(input_ids=ids, attention_mask=torch.ones_like(ids))
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    tokenizer.model_max_length = int(1e30)
    assert check_length(settings(), tokenizer, model) == positions == tokenizer.model_max_length
    assert check_length(settings(max_seq_length=7), tokenizer, model) == 7
    with pytest.raises(ValueError, match=f"is {positions + 1}; this model takes up to {positions}"):
        check_length(settings(max_seq_length=positions + 1), tokenizer, model)


def test_bigbird_attends_to_a_long_row_sparsely_whatever_it_has_seen(settings, tmp_path):
    torch.manual_seed(0)
    sparse = {"block_size": 4, "num_random_blocks": 1, "initializer_range": 0.5}
    tiny_model("ner", "big_bird", dropout=0.0, **sparse).save_pretrained(tmp_path / "model")
    model = load(settings, tmp_path / "model").eval()
    long, short = torch.randint(5, 60, (1, 40)), torch.randint(5, 60, (1, 8))
    with torch.no_grad():
        before, in_full = model(long).logits, model(short).logits
        after = copy.deepcopy(model)(long).logits
        model.base_model.set_attention_type("original_full")
        assert torch.equal(model.eval()(long).logits, before) and torch.equal(before, after)
        assert torch.equal(model(short).logits, in_full)


def test_bigbird_drops_the_same_units_whatever_it_has_seen(settings, tmp_path):
    tiny_model("ner", "big_bird", block_size=4, num_random_blocks=1).save_pretrained(tmp_path / "m")
    model, answers = load(settings, tmp_path / "m").train(), []
    for seen in (8, 40):
        model(torch.ones(1, seen, dtype=torch.long))
        torch.manual_seed(0)
        answers.append(model(torch.arange(40)[None]).logits)
    assert torch.equal(*answers)
