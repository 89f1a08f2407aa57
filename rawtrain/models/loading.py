"""Tokenizers and models, from a folder or the hub, checked before anything is trained."""

import contextlib
import logging
import math
import re

import torch
import transformers
from torch import nn
from transformers import AutoConfig, AutoTokenizer

from rawtrain.data.words import put_blank_before_words, splits_words_like_text
from rawtrain.models.files import (
    check_config,
    check_name,
    check_tokenizer_files,
    check_weight_files,
    reading,
)

logger = logging.getLogger(__name__)


def load_tokenizer(settings, **options):
    """The fast tokenizer of the model; only a fast one tells which word a sub-word belongs to."""
    name = settings.tokenizer_name or settings.model_name_or_path
    check_name(name)
    check_tokenizer_files(name, settings.model_revision)
    with reading(name):
        tokenizer = AutoTokenizer.from_pretrained(name, **_source(settings), **options)
    if not tokenizer.is_fast:
        raise ValueError(
            f"{name}: its tokenizer is a slow one, which cannot tell the words of its sub-words; "
            f"name a model with a tokenizer.json"
        )
    # where the files are missing, transformers makes a tokenizer that knows no words
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
        raise ValueError(
            f"{name}: no vocabulary of a tokenizer; expected a tokenizer.json there, or name "
            f"another folder with --tokenizer_name"
        )
    if tokenizer.pad_token_id is None:
        raise ValueError(f"{name}: its tokenizer has no padding token; choose another model")
    length = tokenizer.model_max_length
    if not (isinstance(length, (int, float)) and length >= 1):
        raise ValueError(
            f"{name}: model_max_length in its tokenizer_config.json is {length!r}; expected a "
            f"number from 1"
        )
    return tokenizer


def load_word_tokenizer(settings):
    """The model's tokenizer, loaded so that single words are split as words of a text are."""
    tokenizer = load_tokenizer(settings)
    if not splits_words_like_text(tokenizer):
        tokenizer = load_tokenizer(settings, add_prefix_space=True)
    if not splits_words_like_text(tokenizer):
        put_blank_before_words(tokenizer)
    if not splits_words_like_text(tokenizer):
        logger.warning("this tokenizer splits single words differently from those of a text")
    return tokenizer


def load_config(settings, **options):
    name = settings.config_name or settings.model_name_or_path
    check_name(name, "config.json")
    with reading(name):
        config = AutoConfig.from_pretrained(name, **_source(settings), **options)
    check_config(name, config)
    return config


def load_model(auto_class, config, settings):
    """The model in float32: pretrained with a new head where it has none, or new altogether.

    Raises ValueError if the weights fit the model nowhere, or hold numbers that are none.
    """
    name = settings.model_name_or_path
    if not name:
        with reading(config.name_or_path):
            model = auto_class.from_config(config, trust_remote_code=settings.trust_remote_code)
        return model.float()
    check_name(name)
    stored = check_weight_files(name, settings.model_revision)
    with reading(name), without_warnings():  # its report of the weights; ours is below
        model, report = auto_class.from_pretrained(
            name,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # reported by _check_weights
            **_source(settings),
        )
    _check_weights(name, model, report, settings)
    if others := sorted(dtype for dtype in stored - {"F32"} if "F" in dtype):
        logger.info(f"weights stored as {', '.join(others)}, trained in float32")
    return model


def named_labels(config, settings):
    """The labels of the model's outputs in their order; none where they are unusable.

    Training gives a model new ones. Raises ValueError if it is to predict by unusable ones.
    """
    labels = dict(sorted(config.id2label.items()))  # sorted as text, a file has 10 before 2
    names = list(labels.values())
    are_names = all(isinstance(name, str) for name in names) and len(set(names)) == len(names)
    if are_names and list(labels) == list(range(len(names))):
        return names
    if settings.do_train:
        return []
    raise ValueError(
        f"{config.name_or_path}: id2label in its config.json is {labels}; expected numbers from 0 "
        f"to {len(names) - 1}, and each name once"
    )


def check_vocabulary(tokenizer, model):
    """Raise ValueError if the tokenizer gives a number that the model has no embedding for."""
    size = len(model.get_input_embeddings().weight)
    largest = max(tokenizer.get_vocab().values())
    if largest >= size:
        raise ValueError(
            f"{tokenizer.name_or_path}: its tokenizer numbers tokens up to {largest}; the model "
            f"has embeddings for {size}, so up to {size - 1}. Name the tokenizer of this model"
        )


def check_length(settings, tokenizer, model, longest_by_default=math.inf):
    """The longest row in sub-words, special tokens counted: as set, else what the model can take.

    Makes that limit of the model the tokenizer's too, so that it is saved and a pipeline keeps to
    it. Raises ValueError for a setting beyond it.
    """
    longest = min(tokenizer.model_max_length, num_positions(model))
    if longest < math.inf:
        tokenizer.model_max_length = longest
    length = settings.max_seq_length or min(longest, longest_by_default)
    if length > longest:
        raise ValueError(f"--max_seq_length is {length}; this model takes up to {longest}")
    return int(length)


def num_positions(model):
    """How many positions the model has embeddings for; infinite where it has no such table."""
    table = _position_table(model)
    if table is not None:
        return table.num_embeddings - first_position(model)
    return getattr(model.config, "max_position_embeddings", None) or math.inf


def first_position(model):
    """The number that the model gives to the first place of a row.

    RoBERTa and its kin number positions from padding_idx + 1 on: the first rows of their table are
    never reached by a token.
    """
    table = _position_table(model)
    return 0 if table is None or table.padding_idx is None else table.padding_idx + 1


def _position_table(model):
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            return module
    return None


def _check_weights(name, model, report, settings):
    """Only a head that the model was not saved with may be new, and only to be trained."""
    _check_fit(name, model, report)
    for key, weight in model.named_parameters():
        if not torch.isfinite(weight).all():
            raise ValueError(f"{name}: the weight {key} holds numbers that are infinite or none")
    new, unused = sorted(report["missing_keys"]), sorted(report["unexpected_keys"])
    if new and not settings.do_train:
        raise ValueError(
            f"{name}: has no trained head ({', '.join(new)} are missing); name a model that was "
            f"trained for this, or train it with {settings.command} --do_train"
        )
    if new:
        logger.info(f"new, trained from random weights: {', '.join(new)}")
    if unused:
        logger.info(f"not used: {len(unused)} weights of the file, such as {unused[0]}")


def _check_fit(name, model, report):
    """Raise ValueError for an encoder that is not the one that the weights are of."""
    # a model that does not say which part is its encoder has to be complete
    encoder = "" if model.base_model is model else f"{model.base_model_prefix}."
    pooler = f"{encoder}pooler."  # part of a head: masked-language modelling trains none
    missing = sorted(
        key
        for key in report["missing_keys"]
        if key.startswith(encoder) and not key.startswith(pooler)
    )
    if missing:
        raise ValueError(
            f"{name}: {len(missing)} weights of the encoder are missing, such as {missing[0]}; the "
            f"file does not fit a {type(model).__name__}"
        )
    for key, *shapes in sorted(report["mismatched_keys"]):
        saved, expected = (tuple(shape) for shape in shapes)
        why = "A head for other labels is of no use: name the model that it was trained from"
        if key.startswith(encoder):
            why = "Its config.json and its weights are not of the same model"
        raise ValueError(
            f"{name}: the weight {key} has the shape {saved}; this job needs {expected}. {why}"
        )
    # a file from which only the first layers are taken is of a larger model
    layers = {_any_layer(key.removeprefix(encoder)) for key in model.state_dict()}
    unused = sorted(report["unexpected_keys"])
    if more := [key for key in unused if _any_layer(key.removeprefix(encoder)) in layers]:
        raise ValueError(
            f"{name}: {len(more)} weights belong to layers that config.json does not count, such "
            f"as {more[0]}. Its config.json and its weights are not of the same model"
        )


def _any_layer(key):
    """The name of a weight without its layer's number."""
    return re.sub(r"\d+", "0", key)


@contextlib.contextmanager
def without_warnings():
    """Without what transformers says by itself; what matters of it is said by us."""
    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(before)


def _source(settings):
    return {
        "revision": settings.model_revision,
        "trust_remote_code": settings.trust_remote_code,
    }
