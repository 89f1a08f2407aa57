"""Names in raw text: exact offsets, every word tagged once, the same whatever stands beside it."""

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import settings as drawing
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import BertForTokenClassification, PreTrainedTokenizerFast, pipeline

from rawtrain import Tagger
from rawtrain.data.raw_text import split_words
from rawtrain.results.entities import continue_over_unseen
from rawtrain.study.tiny import tiny_model

LABELS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
LONGEST = 16
many_texts = drawing(max_examples=60)
# emoji, combining marks, zero-width signs, right-to-left letters, NBSP, very long words
HARD = "aB.'-👩\u200d👧\u0301\u200b\u200f\u00a0 אب\n"
texts = st.text(max_size=60) | st.text(HARD, max_size=60) | st.text("ab", max_size=120)
# Rows of another number are multiplied in another order of sums: 1e-7 in a float32 probability.
ROUNDING = 1e-5


def bytes_tokenizer():
    """Every byte is a token, and a word is marked by the blank before it."""
    vocab = {"<pad>": 0, "<s>": 1, "</s>": 2}
    for sign in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocab[sign] = len(vocab)
    backend = Tokenizer(models.BPE(vocab, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.BertProcessing(("</s>", 2), ("<s>", 1))
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>")


@pytest.fixture(scope="module")
def folders(tmp_path_factory, small_tokenizer):
    """Models with random weights, large ones, so that they find all kinds of entities."""
    folders = {}
    for name, tokenizer in {"word pieces": small_tokenizer, "bytes": bytes_tokenizer()}.items():
        torch.manual_seed(7)
        names = {"num_labels": len(LABELS), "id2label": dict(enumerate(LABELS))}
        sizes = {"max_position_embeddings": LONGEST, "initializer_range": 1.0}
        model = tiny_model("ner", vocab_size=len(tokenizer), **sizes, **names)
        folders[name] = tmp_path_factory.mktemp("tagger")
        model.save_pretrained(folders[name])
        tokenizer.save_pretrained(folders[name])
    return folders


@pytest.fixture(scope="module", params=["word pieces", "bytes"])
def tagger(request, folders):
    return Tagger.from_pretrained(folders[request.param], use_cpu=True)


def tags_of(tagger, words):
    labels, _, _ = tagger.tag_words([words])
    return [tagger.label_names[label] for label in labels]


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        scores = [[entity["score"] for entity in entities] for entities in (one, other)]
        assert scores[0] == pytest.approx(scores[1], abs=ROUNDING)
        one, other = ([e | {"score": None} for e in entities] for entities in (one, other))
        assert one == other


def test_the_random_models_find_entities_of_all_kinds(tagger):
    found = tagger("the quick brown fox jumps over the lazy dog " * 20)
    assert {entity["entity_group"] for entity in found} == {"PER", "LOC"}
    assert any(" " in entity["word"] for entity in found)


@many_texts
@given(texts)
@example("a \u200b b")
@example("x" * 500)
def test_the_word_of_an_entity_is_the_text_between_its_offsets(tagger, text):
    found = tagger(text)
    position = 0
    for entity in found:
        assert text[entity["start"] : entity["end"]] == entity["word"] != ""
        assert position <= entity["start"] < entity["end"]
        assert 0 < entity["score"] <= 1 and type(entity["score"]) is float
        position = entity["end"]


@many_texts
@given(texts)
def test_entities_are_those_that_seqeval_reads_from_one_tag_a_word(tagger, text):
    spans = split_words(text)
    tags = tags_of(tagger, [text[start:end] for start, end in spans])
    assert len(tags) == len(spans)
    expected = [(kind, spans[a][0], spans[b][1]) for kind, a, b in get_entities(tags)]
    found = [(e["entity_group"], e["start"], e["end"]) for e in tagger(text)]
    assert found == expected


@many_texts
@given(st.lists(texts, max_size=6), st.integers(1, 5), st.randoms(use_true_random=False))
def test_batch_size_and_order_of_the_texts_change_nothing(tagger, several, batch_size, random):
    alone = [tagger(text) for text in several]
    order = random.sample(range(len(several)), len(several))
    other = Tagger(
        tagger.model, tagger.tokenizer, LABELS, tagger.max_seq_length, batch_size=batch_size
    )
    assert_same(other([several[i] for i in order]), [alone[i] for i in order])


@torch.no_grad()
def tags_by_windows(tagger, words):
    """One word after the other: of the windows that show it, that with most context on both sides.

    The reference for long texts, by transformers' own tokenizer call.
    """
    windows = tagger.tokenizer(
        words, is_split_into_words=True, truncation=True, max_length=tagger.max_seq_length,
        stride=tagger.stride, return_overflowing_tokens=True,
    )  # fmt: skip
    best = {}
    for number, ids in enumerate(windows["input_ids"]):
        logits = tagger.model(input_ids=torch.tensor([ids])).logits[0]
        places = [place for place, word in enumerate(windows.word_ids(number)) if word is not None]
        shown = set()
        for before, place in enumerate(places):
            word = windows.word_ids(number)[place]
            context = min(before, len(places) - 1 - before)
            if word not in shown and context > best.get(word, (-1,))[0]:
                best[word] = context, LABELS[int(logits[place].argmax())]
            shown.add(word)
    labels = np.array(
        [LABELS.index(best[word][1] if word in best else "O") for word in range(len(words))], int
    )
    is_unseen = np.array([word not in best for word in range(len(words))])
    return [
        LABELS[n]
        for n in continue_over_unseen(labels, is_unseen, LABELS, np.array([0, len(words)]))
    ]


@many_texts
@given(st.lists(st.sampled_from(["the", "quick", "fox", "dogs", "x" * 40, "\u200b"]), max_size=60))
def test_a_long_text_is_tagged_by_the_rule_of_the_windows(tagger, words):
    assert tags_of(tagger, words) == (tags_by_windows(tagger, words) if words else [])


def test_entities_and_scores_are_the_pipelines_where_words_are_the_same(folders):
    tagger = Tagger.from_pretrained(folders["word pieces"], use_cpu=True)
    user = pipeline("ner", model=str(folders["word pieces"]), aggregation_strategy="first")
    rng = np.random.default_rng(0)
    words = ["the", "quick", "brown", "fox", "jumps", "over", "lazy", "dog", "quit"]
    several = [" ".join(rng.choice(words, rng.integers(1, 4))) for _ in range(60)]
    expected = [
        [
            {name: entity[name] for name in ("entity_group", "score", "start", "end")}
            | {"word": text[entity["start"] : entity["end"]], "score": float(entity["score"])}
            for entity in user(text)
        ]
        for text in several
    ]
    assert sum(map(len, expected)) > 40
    assert_same(tagger(several), expected)


def test_no_text_and_empty_texts_have_no_entities(tagger):
    assert tagger([]) == []
    assert tagger(["", " \n "]) == [[], []]


def test_a_model_whose_labels_mark_no_entities_is_refused(folders, tmp_path):
    model = BertForTokenClassification.from_pretrained(folders["word pieces"])
    model.config.id2label = dict(enumerate(["ADJ", "NOUN", "VERB", "DET", "X"]))
    model.save_pretrained(tmp_path)
    bytes_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"'ADJ', mark no entities; expected O, B-TYPE and"):
        Tagger.from_pretrained(tmp_path)


def test_a_window_longer_than_the_model_and_no_batch_are_refused(folders):
    with pytest.raises(ValueError, match="17; this model takes up to 16"):
        Tagger.from_pretrained(folders["bytes"], max_seq_length=17)
    with pytest.raises(ValueError, match="batch size is 0"):
        Tagger.from_pretrained(folders["bytes"], batch_size=0)
