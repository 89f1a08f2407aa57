"""What a model takes for hidden words, from Python and as a command."""

import pytest
from transformers import pipeline

from rawtrain import MaskFiller
from rawtrain.fill import main

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
    [(["we met Ada"], "no [MASK]"), (["[MASK]", "--top_k", "0"], "top_k is 0"), ([], "text")],
)
def test_a_mistake_exits_with_2(arguments, said, model_dir, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([model_dir, *arguments])
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err
