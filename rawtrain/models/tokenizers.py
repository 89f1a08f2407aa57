"""Tokenizers, from a folder or the hub: as their files have them, and checked.

Only fast ones, which tell which word a sub-word belongs to.
"""

import logging
from typing import Any

from tokenizers import Tokenizer, normalizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from rawtrain.config import ModelSettings
from rawtrain.data.encoding import truncating
from rawtrain.data.files import read_object
from rawtrain.models import files
from rawtrain.models.files import check_name, reading, source_of

logger = logging.getLogger(__name__)

# What a tokenizer may treat in its own way, or in endless time. The blanks before all parts hide a
# prefix space, which may be asked for.
TRIED = """ The cat's  naïve CAFÉ, 1,234.5 (ﬁne)\tstop\n — “Üni” 東京 สวัสดี 🧑 \u0378 {0} lives."""
TRIED += f" {'a' * 40}!"


def load_tokenizer(settings: ModelSettings, **options: Any) -> PreTrainedTokenizerFast:
    """The tokenizer of the model. options: of its class, such as add_prefix_space."""
    name = check_name(settings.tokenizer_name or settings.model_name_or_path)
    files.check_tokenizer_files(name, settings.model_revision)
    with reading(name):
        tokenizer = AutoTokenizer.from_pretrained(name, **source_of(settings), **options)
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ValueError(f"{name}: its tokenizer is a slow one; name a model with a tokenizer.json")
    # without files transformers makes a tokenizer that has no words
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
        raise ValueError(
            f"{name}: its tokenizer has no vocabulary; give a --tokenizer_name that has"
        )
    length = tokenizer.model_max_length
    if not (isinstance(length, (int, float)) and length >= 1):
        raise ValueError(
            f"{name}: model_max_length in tokenizer_config.json is {length!r}; expected from 1 on"
        )
    with reading(name):
        tokenizer = _like_its_file(tokenizer, name, settings.model_revision)
        tokenizer.all_special_ids  # noqa: B018  raises if one of them has no entry
        return tokenizer


def load_word_tokenizer(settings: ModelSettings) -> PreTrainedTokenizerFast:
    """The model's tokenizer, made to split single words as it splits the words of a text.

    Left as it is, with a warning, if nothing helps.
    """
    tokenizer = load_tokenizer(settings)
    if splits_words_like_text(tokenizer):
        return tokenizer
    spaced = load_tokenizer(settings, add_prefix_space=True)
    if not splits_words_like_text(spaced):
        spaced = _without_class(spaced, spaced.backend_tokenizer)
        if not put_space_before_words(spaced):
            logger.warning("this tokenizer splits single words differently from words of a text")
            return tokenizer
    return spaced


def splits_words_like_text(tokenizer: PreTrainedTokenizerFast) -> bool:
    """Whether words given one by one become the same sub-words as in a text.

    Byte-level tokenizers mark a word by the space before it and fail this test, unless they were
    loaded with add_prefix_space=True (RoBERTa). It is tried out, because a list of names goes out
    of date.
    """
    words = ["Jeff", "lives", "in", "California"]
    apart = tokenizer(words, is_split_into_words=True, add_special_tokens=False)
    together = tokenizer(" ".join(words), add_special_tokens=False)
    # all but the first word: a text may begin without a space
    num_subwords = sum(word > 0 for word in apart.word_ids())
    return apart["input_ids"][-num_subwords:] == together["input_ids"][-num_subwords:]


def put_space_before_words(tokenizer: PreTrainedTokenizerFast) -> bool:
    """Whether a blank before each text makes the tokenizer split single words as words of a text.

    It is kept, and saved with the tokenizer, only if it does. For tokenizers that ignore
    add_prefix_space=True: byte-level ones without a class of their own (ModernBERT's), where the
    blank comes last, and those that first replace blanks themselves (Gemma's).
    """
    backend = tokenizer.backend_tokenizer
    own = [backend.normalizer] if backend.normalizer else []
    blank = normalizers.Prepend(" ")
    for changed in ([*own, blank], [blank, *own]):
        backend.normalizer = normalizers.Sequence(changed)
        if splits_words_like_text(tokenizer):
            return True
    backend.normalizer = own[0] if own else None
    return False


def _like_its_file(tokenizer, name, revision):
    """The tokenizer, or one without a class of its own if that class splits a text otherwise.

    A class of transformers makes its own normalizer and pre-tokenizer, and takes no more than the
    vocabulary from tokenizer.json: a file of another kind loses its Lowercase or byte fallback.
    """
    text = TRIED.format(tokenizer.mask_token)
    with truncating(tokenizer) as backend:
        ids = backend.encode(text).ids  # raises if its unknown token is missing
    file = files.find(name, "tokenizer.json", revision)
    if file is None or type(tokenizer) is PreTrainedTokenizerFast:
        return tokenizer
    loaded, backend = tokenizer.backend_tokenizer, Tokenizer.from_file(file)
    backend.post_processor = loaded.post_processor  # special tokens are the class's affair
    kinds = {type(loaded.normalizer), type(backend.normalizer)}
    asked = files.find(name, "tokenizer_config.json", revision)
    if asked and kinds == {normalizers.BertNormalizer} and "do_lower_case" in read_object(asked):
        backend.normalizer = loaded.normalizer
    plain = _without_class(tokenizer, backend)
    with truncating(plain) as backend:
        if backend.encode(text).ids == ids:
            return tokenizer
    logger.info(f"{file} is used as it is: a {type(tokenizer).__name__} would split otherwise")
    return plain


def _without_class(tokenizer, backend):
    """A tokenizer with this backend and all settings, which is saved and loaded as it is."""
    settings = tokenizer.init_kwargs | {"model_input_names": tokenizer.model_input_names}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **settings)
