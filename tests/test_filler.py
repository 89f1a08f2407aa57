"""What a model takes for hidden words, from Python and as a command."""

import json
import re

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast, pipeline

from rawtrain import MaskFiller
from rawtrain.data.small_bert import train_small_tokenizer
from rawtrain.fill import main
from rawtrain.study.tiny import tiny_model

# The pipeline takes its softmax of all tokens at once; in float32 that may be another last bit.
ROUNDING = 1e-6


@pytest.fixture(scope="module")
def filler(model_dir):
    return MaskFiller.from_pretrained(model_dir, use_cpu=True)


@pytest.mark.parametrize("text", ["we met [MASK] today", "[MASK] met [MASK] Nova today"])
def test_words_and_probabilities_are_those_of_the_pipeline(text, filler, model_dir):
    expected = pipeline("fill-mask", model=model_dir, top_k=5)(text)
    expected = [expected] if text.count("[MASK]") == 1 else expected
    for ours, theirs in zip(filler(text), expected, strict=True):
        assert [word["token"] for word in ours] == [word["token"] for word in theirs]
        assert [word["token_str"] for word in ours] == [word["token_str"] for word in theirs]
        scores = [word["score"] for word in theirs]
        assert [word["score"] for word in ours] == pytest.approx(scores, abs=ROUNDING)


def test_mask_stands_for_the_mask_token_of_any_model(filler, model_dir):
    other = MaskFiller.from_pretrained(model_dir, use_cpu=True)
    other.tokenizer.add_special_tokens({"mask_token": "<hidden>"})
    other.tokenizer.backend_tokenizer.add_special_tokens(["<hidden>"])
    number = other.tokenizer.convert_tokens_to_ids("<hidden>")
    other.model.resize_token_embeddings(number + 1)
    assert len(other("we met [MASK] today")) == len(other("we met <hidden> today")) == 1


TEXTS = [
    "Returns the name of the tensor.",
    "Sets the value of the tensor in the graph.",
    "Returns (the size) of the module.",
]
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]


def sub_word_tokenizer(kind, mask):
    """A tokenizer in which each word of `TEXTS` is one token, with the blank before it."""
    words = sorted({word for text in TEXTS for word in re.findall(r"\w+", text)})
    if kind == "byte-level":
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(special_tokens=SPECIAL, show_progress=False)
        backend.train_from_iterator(TEXTS + [f" {word}" for word in words] * 9, trainer)
    else:
        letters = sorted(set("".join(TEXTS)) - {" "})
        pieces = [*SPECIAL, *(f"▁{word}" for word in [*words, "a"]), "▁", *words, *letters]
        costs = [(piece, -1.0 - (len(piece) == 1)) for piece in dict.fromkeys(pieces)]
        backend = Tokenizer(models.Unigram(costs, unk_id=3))
        backend.pre_tokenizer = pre_tokenizers.Metaspace()
        backend.decoder = decoders.Metaspace()
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", unk_token="<unk>", mask_token=mask
    )


TOKENIZERS = {
    "WordPiece": lambda: train_small_tokenizer(TEXTS * 9, 400),
    "byte-level, mask takes the blank": lambda: sub_word_tokenizer(
        "byte-level", AddedToken("<mask>", lstrip=True, special=True)
    ),
    "byte-level": lambda: sub_word_tokenizer("byte-level", AddedToken("<mask>", special=True)),
    "Unigram": lambda: sub_word_tokenizer("Unigram", AddedToken("<mask>", special=True)),
    "Unigram, mask takes the blank": lambda: sub_word_tokenizer(
        "Unigram", AddedToken("<mask>", lstrip=True, special=True)
    ),
}


@pytest.fixture(scope="module", params=TOKENIZERS)
def masked(request):
    """A filler whose random model tells every position and every context apart."""
    tokenizer = TOKENIZERS[request.param]()
    torch.manual_seed(0)
    sizes = {"vocab_size": len(tokenizer), "max_position_embeddings": 40}
    return MaskFiller(tiny_model("mlm", **sizes, initializer_range=1.0), tokenizer, 40)


def hidden_by_id(filler, text, words):
    """The ids of the text with the token of each word, which stands in it once, replaced."""
    encoded = filler.tokenizer(text, return_offsets_mapping=True)
    ids = encoded["input_ids"]
    for word in words:
        end = text.index(word) + len(word)
        (place,) = [n for n, span in enumerate(encoded["offset_mapping"]) if span[1] == end > 0]
        assert filler.tokenizer.decode([ids[place]]).strip() == word
        ids[place] = filler.tokenizer.mask_token_id
    return ids


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (TEXTS[0], ["name"]),
        (TEXTS[0], ["Returns"]),
        (TEXTS[0], ["tensor"]),
        (TEXTS[1], ["Sets", "value", "graph"]),
        (TEXTS[2], ["size", "module"]),
        ("Returns  name\nthe", ["name", "the"]),
    ],
)
def test_a_mask_stands_where_the_token_of_the_word_would(text, words, masked):
    asked = text
    for word in words:
        asked = asked.replace(word, "[MASK]")
    expected = masked.predict(hidden_by_id(masked, text, words))
    assert torch.equal(masked.probabilities(asked), expected)
    assert torch.equal(
        masked.probabilities(asked.replace("[MASK]", masked.tokenizer.mask_token)), expected
    )


@pytest.mark.parametrize("asked", ["the [MASK][MASK] of", "Re[MASK]s", "[MASK]name", "[MASK]"])
def test_a_mask_within_a_word_is_found_too(asked, masked):
    assert len(masked(asked)) == asked.count("[MASK]")


CODE = """
from transformers import BertConfig, BertForMaskedLM
class MineConfig(BertConfig):
    model_type = "mine"
class Mine(BertForMaskedLM):
    config_class = MineConfig
"""


def test_a_model_with_code_of_its_own_is_used_if_it_is_trusted(
    model_dir, tmp_path, capsys, monkeypatch
):
    modules = str(tmp_path / "modules")
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", modules)
    monkeypatch.syspath_prepend(modules)
    model = MaskFiller.from_pretrained(model_dir).model
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(model_dir).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | {"model_type": "mine"}
    config["auto_map"] = {"AutoConfig": "code.MineConfig", "AutoModelForMaskedLM": "code.Mine"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "code.py").write_text(CODE)
    with pytest.raises(SystemExit) as stopped:
        main([str(tmp_path), "we met [MASK]", "--use_cpu"])
    assert stopped.value.code == 2 and "trust_remote_code" in capsys.readouterr().err
    main([str(tmp_path), "we met [MASK]", "--use_cpu", "--trust_remote_code"])
    found = capsys.readouterr().out
    main([model_dir, "we met [MASK]", "--use_cpu"])
    assert found == capsys.readouterr().out


def test_top_k_is_cut_at_the_vocabulary_and_its_probabilities_fall(filler):
    (words,) = filler("we met [MASK] today", top_k=10_000)
    assert len(words) == len(filler.tokenizer)
    scores = [word["score"] for word in words]
    assert scores == sorted(scores, reverse=True)
    assert sum(scores) == pytest.approx(1, abs=1e-5)  # float32


def test_a_text_longer_than_the_model_is_refused_with_both_lengths(filler):
    longest = "we " * 45 + "[MASK]"  # and two special tokens: 48
    assert len(filler(longest)) == 1
    with pytest.raises(ValueError, match=r"has 49 tokens, .* takes up to 48; shorten it"):
        filler("we " + longest)


def test_a_text_without_a_mask_and_no_word_asked_for_are_refused(filler):
    with pytest.raises(ValueError, match=r"no \[MASK\]; write it"):
        filler("we met Ada")
    with pytest.raises(ValueError, match="top_k is 0"):
        filler("we met [MASK]", top_k=0)


def test_the_command_lists_the_words_of_every_mask(filler, model_dir, capsys):
    text = "we [MASK] Ada [MASK]"
    main(["--top_k", "2", model_dir, text, "--use_cpu"])
    expected = [text]
    for number, words in enumerate(filler(text, 2), start=1):
        expected.append(f"  mask {number}")
        expected += [f"  {word['score']:.3f}  {word['token_str'].strip()}" for word in words]
    assert capsys.readouterr().out.splitlines() == expected


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        *[(["we met Ada"], "no [MASK]"), (["[MASK]", "--top_k", "0"], "top_k is 0"), ([], "text")],
        (["caf\udce9 [MASK]"], "surrogates not allowed"),  # bytes that are not UTF-8
    ],
)
def test_a_mistake_exits_with_2(arguments, said, model_dir, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([model_dir, *arguments])
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err
