"""Tokenizers are loaded as their files have them, and mended only where that helps."""

import json

import pytest
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoTokenizer, BertTokenizer, PreTrainedTokenizerFast

from rawtrain.models.tokenizers import (
    load_tokenizer,
    load_word_tokenizer,
    put_space_before_words,
    splits_words_like_text,
)

SENTENCE = "Jeff lives in California"
LETTERS = sorted({*SENTENCE, *SENTENCE.lower(), *SENTENCE.upper()} - {" "})
BERT_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ROBERTA_SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
NAMES = {"pad_token": "<pad>", "unk_token": "<unk>", "mask_token": "<mask>"}
PAIRS = [("l", "i"), ("i", "n"), ("Ġ", "li"), ("Ġ", "in")]


def numbered(tokens):
    return {token: number for number, token in enumerate(dict.fromkeys(tokens))}


BYTES = numbered([*ROBERTA_SPECIAL, *sorted(ByteLevel.alphabet()), *map("".join, PAIRS)])
PIECES = numbered([*BERT_SPECIAL, *LETTERS, *(f"##{letter}" for letter in LETTERS), "in"])
SCORED = [(piece, -1.0) for piece in ["▁", "▁li", *LETTERS]]


def bare_byte_level(normalizer=None):
    """ModernBERT's kind: of no class of its own, all it does stands in tokenizer.json."""
    backend = Tokenizer(models.BPE(vocab=BYTES, merges=PAIRS))
    backend.pre_tokenizer, backend.decoder = ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    if normalizer:
        backend.normalizer = normalizer
    return PreTrainedTokenizerFast(tokenizer_object=backend, **NAMES)


def gemma(vocabulary=()):
    """mmBERT's kind: blanks become "▁" first, and are bytes if they come later."""
    in_bytes = [f"<0x{number:02X}>" for number in range(256)]
    pairs = [("▁", "l"), ("▁l", "i"), ("▁", "i")]
    tokens = [*NAMES.values(), *in_bytes, "▁", *LETTERS, *map("".join, pairs), *vocabulary]
    model = models.BPE(
        vocab=numbered(tokens), merges=pairs, unk_token="<unk>", byte_fallback=True, fuse_unk=True
    )
    backend = Tokenizer(model)
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    return PreTrainedTokenizerFast(tokenizer_object=backend, **NAMES)


def word_piece(kind, **flags):
    return getattr(transformers, kind)(vocab=PIECES, **flags)


def unigram(kind, **flags):
    special = map(str, getattr(transformers, kind)().all_special_tokens)
    vocabulary = [(token, 0.0) for token in dict.fromkeys(special)] + SCORED
    return getattr(transformers, kind)(vocab=vocabulary, **flags)


def byte_level(kind, **flags):
    return getattr(transformers, kind)(vocab=BYTES, merges=PAIRS, **flags)


@pytest.fixture
def save(settings, tmp_path):
    """Save a tokenizer as a model's, its tokenizer_config.json changed; returns settings."""

    def made(tokenizer, **changes):
        tokenizer.save_pretrained(tmp_path / "model")
        file = tmp_path / "model" / "tokenizer_config.json"
        content = json.loads(file.read_text()) | changes
        file.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
        return settings(model_name_or_path=str(tmp_path / "model"))

    return made


def reloaded(tokenizer, folder):
    tokenizer.save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize(
    "tokenizer, expected",
    [
        (word_piece("BertTokenizer", do_lower_case=False), True),
        (unigram("XLMRobertaTokenizer"), True),
        (byte_level("RobertaTokenizer", add_prefix_space=True), True),
        (byte_level("RobertaTokenizer"), False),
        (bare_byte_level(), False),
        (gemma(), False),
    ],
    ids=["word-piece", "unigram", "byte-level", "byte-level without blank", "bare", "gemma"],
)
def test_whether_single_words_are_split_as_in_a_text_is_found_by_trying(tokenizer, expected):
    assert splits_words_like_text(tokenizer) is expected


@pytest.mark.parametrize(
    "tokenizer",
    [byte_level("RobertaTokenizer"), bare_byte_level(), gemma()],
    ids=["roberta", "bare byte-level", "gemma"],
)
@pytest.mark.parametrize("as_class", [None, "GemmaTokenizerFast"])
def test_single_words_are_split_as_in_a_text_and_saved_so(tokenizer, as_class, save, tmp_path):
    chosen = save(tokenizer, **({"tokenizer_class": as_class} if as_class else {}))
    mended = load_word_tokenizer(chosen)
    words = SENTENCE.split()
    for one in (mended, reloaded(mended, tmp_path / "trained")):
        assert splits_words_like_text(one)
        tokens = one(words, is_split_into_words=True, add_special_tokens=False).tokens()
        assert tokens == one.tokenize(SENTENCE)
        assert "li" in tokens[5] and "<0x20>" not in tokens


def test_a_change_that_does_not_help_is_undone(save, caplog):
    tokenizer = gemma()
    tokenizer.backend_tokenizer.normalizer = own = normalizers.Replace(Regex(r"^ *(?!J)"), "x")
    assert not put_space_before_words(tokenizer)
    assert tokenizer.backend_tokenizer.normalizer.__getstate__() == own.__getstate__()
    assert not splits_words_like_text(load_word_tokenizer(save(tokenizer)))
    assert "splits single words differently" in caplog.text


@pytest.mark.parametrize(
    "as_class", ["RobertaTokenizerFast", "GPT2Tokenizer", "Qwen2TokenizerFast"]
)
def test_what_a_class_would_drop_of_tokenizer_json_is_kept_and_saved(
    as_class, save, tmp_path, caplog
):
    tokenizer = bare_byte_level(normalizers.Lowercase())
    with caplog.at_level("INFO", logger="rawtrain"):
        loaded = load_tokenizer(save(tokenizer, tokenizer_class=as_class, model_max_length=77))
    assert "tokenizer.json is used as it is: a " in caplog.text
    for one in (loaded, reloaded(loaded, tmp_path / "trained")):
        assert one.tokenize(SENTENCE.upper()) == tokenizer.tokenize(SENTENCE.lower())
        assert (one.mask_token_id, one.pad_token_id, one.model_max_length) == (4, 1, 77)


def test_a_class_that_knows_other_normalizers_keeps_its_special_tokens(save):
    tokenizer = word_piece("BertTokenizer", do_lower_case=False)
    ids = tokenizer(SENTENCE).input_ids
    loaded = load_tokenizer(save(tokenizer, do_lower_case=None))  # which the class takes for True
    assert type(loaded) is PreTrainedTokenizerFast
    assert loaded(SENTENCE).input_ids == ids and loaded("").tokens() == ["[CLS]", "[SEP]"]
    assert loaded.model_input_names == tokenizer.model_input_names


KINDS = [
    *((word_piece, kind, {}) for kind in ("BertTokenizer", "DistilBertTokenizer",
      "ElectraTokenizer", "MobileBertTokenizer", "LayoutLMTokenizer", "ConvBertTokenizer")),
    (word_piece, "BertTokenizer", {"do_lower_case": False, "strip_accents": False}),
    *((unigram, kind, {}) for kind in ("XLMRobertaTokenizer", "AlbertTokenizer",
      "CamembertTokenizer", "DebertaV2Tokenizer", "BigBirdTokenizer", "XLNetTokenizer")),
    (unigram, "AlbertTokenizer", {"keep_accents": True, "do_lower_case": False}),
    (unigram, "DebertaV2Tokenizer", {"split_by_punct": True, "do_lower_case": True}),
    *((byte_level, kind, flags) for kind in ("RobertaTokenizer", "DebertaTokenizer",
      "BartTokenizer", "LongformerTokenizer") for flags in ({}, {"add_prefix_space": True})),
]  # fmt: skip


@pytest.mark.parametrize(("make", "kind", "flags"), KINDS)
def test_a_class_that_fits_its_file_is_kept(make, kind, flags, save, caplog):
    tokenizer = make(kind, **flags)
    chosen = save(tokenizer)
    with caplog.at_level("INFO", logger="rawtrain"):
        for options in ({}, {"add_prefix_space": True}):
            loaded = load_tokenizer(chosen, **options)
            expected = AutoTokenizer.from_pretrained(chosen.model_name_or_path, **options)
            assert type(loaded) is type(expected) is type(tokenizer)
            assert loaded.backend_tokenizer.to_str() == expected.backend_tokenizer.to_str()
    assert not caplog.messages


def test_the_case_that_tokenizer_config_asks_for_goes_before_that_of_the_file(save):
    loaded = load_tokenizer(save(word_piece("BertTokenizer"), do_lower_case=False))
    assert type(loaded) is BertTokenizer
    assert loaded.tokenize("Jeff")[0] == "J"
