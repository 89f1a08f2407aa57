"""A tokenizer, rows and models, tiny and random: for studies and tests."""

import numpy as np
import transformers
from transformers import AutoConfig, PreTrainedModel, PreTrainedTokenizerFast

from rawtrain.data.columns import IGNORED, Columns, offsets_of
from rawtrain.data.small_bert import train_small_tokenizer

WORDS = """the small model reads a few words and learns what it can from them in a moment
    before another one comes with more of these words to read again""".split()  # noqa: SIM905
MODELS = {
    "ner": transformers.AutoModelForTokenClassification,
    "mlm": transformers.AutoModelForMaskedLM,
}


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """60 sub-words with BERT's special tokens, at most 40 of them in a row."""
    return train_small_tokenizer([" ".join(WORDS)] * 3, vocab_size=60, model_max_length=40)


def tiny_rows(
    task: str, num_rows: int, seed: int = 0, unlabelled: float = 0.4, whole_words: bool = False
) -> Columns:
    """Rows of 2 to 11 words; those of ner have labels, but for the share that is `unlabelled`."""
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(WORDS, rng.integers(2, 12))) for _ in range(num_rows)]
    # transformers' collator cannot pad the offsets that its whole-word form needs
    padding = "max_length" if whole_words else False
    how = {"truncation": True, "padding": padding, "return_offsets_mapping": True}
    encoded = tiny_tokenizer()(texts, **how)
    names = ["input_ids", "attention_mask", "offset_mapping"] if whole_words else ["input_ids"]
    values = {name: np.concatenate(encoded[name]) for name in names}
    if task == "ner":
        labels = rng.integers(0, 5, len(values["input_ids"]))
        labels[rng.random(len(labels)) < unlabelled] = IGNORED
        values["labels"] = labels
    return Columns(values, offsets_of([len(ids) for ids in encoded["input_ids"]]))


def tiny_model(
    task: str, architecture: str = "bert", dropout: float = 0.1, **sizes
) -> PreTrainedModel:
    """A model of two layers for that tokenizer, its weights drawn from the global generator."""
    dropouts = dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), dropout)
    values = {
        **{"vocab_size": 60, "num_labels": 5, "num_attention_heads": 2, "pad_token_id": 0},
        **{"bos_token_id": 1, "cls_token_id": 1, "eos_token_id": 2, "sep_token_id": 2},
        **{"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2},
    }
    if architecture == "distilbert":  # has names of its own
        values |= {"dim": 16, "hidden_dim": 24, "n_layers": 2, "n_heads": 2}
        dropouts = dict.fromkeys(("dropout", "attention_dropout"), dropout)
    values = {
        name: value for name, value in (values | dropouts | sizes).items() if value is not None
    }
    config = AutoConfig.for_model(architecture, **values)
    return MODELS[task].from_config(config)
