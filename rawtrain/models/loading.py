"""Models, from a folder or the hub, checked before anything is trained."""

import contextlib
import copy
import logging
import math
import re
from collections.abc import Iterator
from typing import Any

import torch
import transformers
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

from rawtrain.config import DataSettings, ModelSettings, TrainingSettings
from rawtrain.models import files
from rawtrain.models.files import check_name, check_weight_files, reading, source_of

logger = logging.getLogger(__name__)

OTHER_BITS = {
    "funnel": "transformers sets the row of its padding token to 0 when it is loaded",
    "reformer": "it draws its hashes from a seed of its own",
}


def load_config(settings: ModelSettings, **options: Any) -> PretrainedConfig:
    """The configuration of the model."""
    name = check_name(settings.config_name or settings.model_name_or_path, "config.json")
    with reading(name):
        config = AutoConfig.from_pretrained(name, **source_of(settings), **options)
    files.check_config(name, config)
    config.update({"output_attentions": False, "output_hidden_states": False, "return_dict": True})
    config.chunk_size_feed_forward = 0  # which would refuse some rows
    return config


def load_model(
    auto_class: Any, config: PretrainedConfig, settings: ModelSettings, new_head: bool = False
) -> PreTrainedModel:
    """The model in float32: pretrained, with a new head if it has none, or entirely new.

    settings: those of a task; only a model that is to be trained may have a new head.
    new_head: the head of the file, if there is one, is for other labels; draw another.
    Raises ValueError if the weights do not fit the model, or are not all finite.
    """
    if not settings.model_name_or_path:
        with reading(config.name_or_path or type(config).__name__):
            model = auto_class.from_config(config, trust_remote_code=settings.trust_remote_code)
        _forget_history(model, settings)
        return model.float()
    name = check_name(settings.model_name_or_path)
    stored = set().union(*check_weight_files(name, settings.model_revision).values())
    with reading(name), without_warnings():  # of new and unused weights: see _check_weights
        model, report = auto_class.from_pretrained(
            name,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # refused by _check_fit
            **source_of(settings),
        )
    if new_head:
        _draw_head(model, report)
    _check_weights(name, model, report, settings)
    _forget_history(model, settings)
    if others := sorted(dtype for dtype in stored - {"F32"} if "F" in dtype):
        logger.info(f"weights stored as {', '.join(others)}, trained in float32")
    return model


def _forget_history(model, settings):
    """Let what a model learns hang on its weights and batches alone, or say why it will not.

    BigBird attends in full from the first short batch on, for good, be it one of an evaluation.
    Here it chooses its attention anew in each forward, and the layers that it makes for the change
    take no numbers from those of dropout.
    """

    def choose_anew(encoder, inputs):
        with torch.random.fork_rng(devices=[]):
            encoder.set_attention_type("block_sparse")

    encoder = model.base_model
    if getattr(encoder, "attention_type", None) == "block_sparse":
        encoder.register_forward_pre_hook(choose_anew)
        logging.getLogger(type(encoder).__module__).setLevel(logging.ERROR)  # it tells each time
        logger.info("attention is sparse in batches of long rows, and full in those of short ones")
    if settings.do_train and (why := OTHER_BITS.get(model.config.model_type)):
        logger.warning(f"resumed after an interruption, this run will end with other bits: {why}")


def named_labels(config: PretrainedConfig, settings: TrainingSettings) -> list[str]:
    """The labels of the model's outputs in their order; none if they are unusable.

    Raises ValueError for unusable ones if the model is not to be trained, which gives it new ones.
    """
    labels = dict(sorted((config.id2label or {}).items()))  # in the file 10 may be before 2
    names = list(labels.values())
    are_names = all(isinstance(name, str) for name in names) and len(set(names)) == len(names)
    if are_names and list(labels) == list(range(len(names))):
        return names
    if settings.do_train:
        return []
    expected = f"expected numbers from 0 to {len(names) - 1}, and each name once"
    raise ValueError(f"{config.name_or_path}: id2label in config.json is {labels}; {expected}")


def check_vocabulary(
    tokenizer: PreTrainedTokenizerFast, model: PreTrainedModel, may_grow: bool = False
) -> None:
    """Raise ValueError if the tokenizer has a token id for which the model has no embedding, or if
    the model does not make logits of token ids alone: a few are tried.

    may_grow: add embeddings for the tokens that were added to the tokenizer.
    """
    name, largest = str(tokenizer.name_or_path), max(tokenizer.get_vocab().values())
    with reading(name, f"its {type(model).__name__} does not run on token ids"), torch.no_grad():
        embeddings: Any = model.get_input_embeddings()
        size = len(embeddings.weight)
        if may_grow and len(tokenizer) > size:
            found = f"{size} embeddings for {len(tokenizer)} tokens: the others are new"
            logger.warning(f"{found}; is {name} the tokenizer of this model?")
            size = len(tokenizer)
            model.resize_token_embeddings(size)
        with torch.random.fork_rng(devices=[]):  # Reformer draws in a forward
            ids = torch.arange(8)[None] % size
            logits = model.eval()(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        expected = ids.shape[: logits.ndim - 1]  # of each token, or of the row alone
        assert logits.shape[:-1] == expected, f"the logits have the shape {tuple(logits.shape)}"
    if largest >= size:
        raise ValueError(
            f"{name}: its tokenizer has token ids up to {largest}; the model has "
            f"embeddings for {size}, so up to {size - 1}. Name the tokenizer of this model"
        )


def check_length(
    settings: DataSettings,
    tokenizer: PreTrainedTokenizerFast,
    model: PreTrainedModel,
    longest_by_default: float = math.inf,
) -> int:
    """The longest row in sub-words, with special tokens: as set, or else the model's limit.

    Sets the limit in the tokenizer too, so that it is saved for pipelines. Raises ValueError for a
    setting beyond the model's own limit; the tokenizer's, often another model's, is only a default.
    """
    said, positions = tokenizer.model_max_length, num_positions(model)
    length = settings.max_seq_length or min(said, positions, longest_by_default)
    if length > positions:
        raise ValueError(f"--max_seq_length is {length}; this model takes up to {positions}")
    if length > said:
        logger.info(f"its tokenizer_config.json says up to {said} tokens, the model {positions}")
    longest = max(length, min(said, positions))
    if longest < math.inf:
        tokenizer.model_max_length = longest
    return int(length)


def num_positions(model: PreTrainedModel) -> float:
    """How many positions the model has embeddings for; infinite if it has no position table."""
    table = _position_table(model)
    if table is not None:
        return len(table.weight) - first_position(model)
    named = getattr(model.config, "max_position_embeddings", None) or 0
    return named if named > 0 else math.inf  # XLNet says -1


def first_position(model: PreTrainedModel) -> int:
    """The position id of the first token of a row.

    RoBERTa and its relatives number positions from padding_idx + 1 on, Nystromformer, YOSO and MRA
    from the first of their `position_ids`: no token uses the first rows of their table.
    """
    table, buffers = _position_table(model), model.named_buffers()
    if table is None:
        return 0
    if table.padding_idx is not None:
        return table.padding_idx + 1
    numbers = [buffer for name, buffer in buffers if name.endswith(".position_ids")]
    return int(numbers[0].min()) if numbers else 0


def _position_table(model) -> Any:
    named = model.named_modules()
    tables = [module for name, module in named if name.endswith("position_embeddings")]
    return next((table for table in tables if hasattr(table, "padding_idx")), None)


def _draw_head(model, report):
    """Draw the weights that the file has for other labels, and list them as missing in it."""
    more = copy.deepcopy(model.config)
    more.num_labels += 1
    with torch.device("meta"):  # shapes alone: those of a head follow the number of labels
        shapes = {name: weight.shape for name, weight in type(model)(more).named_parameters()}
    head = {name for name, weight in model.named_parameters() if weight.shape != shapes[name]}
    drawn = report["missing_keys"] | {name for name, *_ in report["mismatched_keys"]}
    for part in sorted({name.rpartition(".")[0] for name in head - drawn}):
        module = model.get_submodule(part)
        for weight in module.parameters(recurse=False):
            weight._is_hf_initialized = False  # else transformers keeps what it has loaded
        model._init_weights(module)
    report["mismatched_keys"] = [key for key in report["mismatched_keys"] if key[0] not in head]
    report["missing_keys"] |= head


def _check_weights(name, model, report, settings):
    """Refuse new weights, except those of a head that is to be trained."""
    _check_fit(name, model, report)
    for key, weight in model.named_parameters():
        if not torch.isfinite(weight).all():
            raise ValueError(f"{name}: the weight {key} has NaN or infinite numbers; copy it again")
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
    """Raise ValueError if the weights are not those of the model's encoder."""

    def kind_of(key):
        """A weight whatever the number of its layer."""
        return re.sub(r"\d+", "0", key.removeprefix(encoder))

    # a model that does not name its encoder has to be complete
    encoder = "" if model.base_model is model else f"{model.base_model_prefix}."
    pooler = f"{encoder}pooler."  # part of a head: masked-language modelling trains none
    missing = sorted(key for key in report["missing_keys"] if key.startswith(encoder))
    if missing := [key for key in missing if not key.startswith(pooler)]:
        raise ValueError(
            f"{name}: {len(missing)} weights of the encoder are missing, such as {missing[0]}; the "
            f"file does not fit a {type(model).__name__}"
        )
    for key, *shapes in sorted(report["mismatched_keys"]):
        saved, expected = (tuple(shape) for shape in shapes)
        raise ValueError(
            f"{name}: the weight {key} has the shape {saved}; this job needs {expected}. "
            f"Its config.json and its weights are not of the same model"
        )
    # a file with more layers is that of a larger model
    kinds = {kind_of(key) for key in model.state_dict()}
    if more := [key for key in sorted(report["unexpected_keys"]) if kind_of(key) in kinds]:
        raise ValueError(
            f"{name}: {len(more)} weights belong to layers that config.json does not count, such "
            f"as {more[0]}. Its config.json and its weights are not of the same model"
        )


@contextlib.contextmanager
def without_warnings() -> Iterator[None]:
    """Silence the warnings of transformers; the caller reports what matters of them."""
    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(before)
