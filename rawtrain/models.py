"""Tokenizers and models, from a folder or the hub, checked before anything is trained."""

import contextlib
import math

import torch
import transformers
from torch import nn
from transformers import AutoConfig, AutoTokenizer

from rawtrain.results.log import logger


def load_tokenizer(settings, **options):
    """The fast tokenizer of the model; only a fast one tells which word a sub-word belongs to."""
    name = settings.tokenizer_name or settings.model_name_or_path
    with _naming(name):
        tokenizer = AutoTokenizer.from_pretrained(name, **_source(settings), **options)
    if not tokenizer.is_fast:
        raise ValueError(
            f"{name}: its tokenizer is a slow one, which cannot tell the words of its sub-words; "
            f"name a model with a tokenizer.json"
        )
    if tokenizer.pad_token_id is None:
        raise ValueError(f"{name}: its tokenizer has no padding token; choose another model")
    return tokenizer


def load_config(settings, **options):
    name = settings.config_name or settings.model_name_or_path
    with _naming(name):
        return AutoConfig.from_pretrained(name, **_source(settings), **options)


def load_model(auto_class, config, settings):
    """The model in float32: pretrained with a new head where it has none, or new altogether.

    Raises ValueError if the weights fit the model nowhere, or hold numbers that are none.
    """
    name = settings.model_name_or_path
    if name is None:
        return auto_class.from_config(config, trust_remote_code=settings.trust_remote_code).float()
    with without_warnings():  # its report of the weights; ours is shorter, or an error
        model, report = auto_class.from_pretrained(
            name,
            config=config,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # reported by _check_weights
            **_source(settings),
        )
    _check_weights(name, model, report)
    return model


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


def _check_weights(name, model, report):
    """Only a head that the model was not saved with may be new."""
    prefix = f"{model.base_model_prefix}."
    missing = sorted(report["missing_keys"])
    body = [key for key in missing if key.startswith(prefix)]
    if body:
        raise ValueError(
            f"{name}: {len(body)} weights of the encoder are missing, such as {body[0]}; the file "
            f"does not fit a {type(model).__name__}"
        )
    for key, *shapes in sorted(report["mismatched_keys"]):
        saved, expected = (tuple(shape) for shape in shapes)
        raise ValueError(
            f"{name}: the weight {key} has the shape {saved}; this job needs {expected}. A head "
            f"for other labels is of no use: name the model that it was trained from"
        )
    for key, weight in model.named_parameters():
        if not torch.isfinite(weight).all():
            raise ValueError(f"{name}: the weight {key} holds numbers that are infinite or none")
    if missing:
        logger.info(f"new, trained from random weights: {', '.join(missing)}")


@contextlib.contextmanager
def _naming(name):
    """Put the model's name before a message that may lack it."""
    try:
        yield
    except (OSError, ValueError) as mistake:
        raise ValueError(f"{name}: {mistake}") from mistake


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
