"""Words to sub-words and labels, against plain loops; windows in which no word is lost."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import processors
from tokenizers.pre_tokenizers import ByteLevel
from transformers import BertTokenizer, RobertaTokenizer, XLMRobertaTokenizer

from rawtrain import NerSettings, WordScorer
from rawtrain.data import words as words_module
from rawtrain.data.tags import TaggedSentences
from rawtrain.data.words import encode_words
from rawtrain.evaluation import Evaluation
from rawtrain.results.terminal import accounting, describe_tagged

LABELS = ["B-LOC", "I-LOC", "O", "B-ONE", "I-PER", "B-PER"]  # there is no I-ONE
LABEL2ID = {"O": 2} | {label: number for number, label in enumerate(LABELS)}  # ids out of order
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ROBERTA_SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
BYTE_PAIRS = {
    "vocab": [*ROBERTA_SPECIAL, *sorted(ByteLevel.alphabet()), "ab", "Ġa", "Ġab"],
    "merges": [("a", "b"), ("Ġ", "a"), ("Ġ", "ab")],
}


def numbered(tokens):
    return {token: number for number, token in enumerate(tokens)}


def word_piece(**settings):
    vocabulary = numbered([*SPECIAL, "a", "ab", "b", "##a", "##b", "##ba", "."])
    return BertTokenizer(vocab=vocabulary, **settings)


def byte_level(**settings):
    return RobertaTokenizer(numbered(BYTE_PAIRS["vocab"]), BYTE_PAIRS["merges"], **settings)


def unigram(**settings):
    pieces = [(piece, -1.0) for piece in ["▁", "▁a", "▁ab", "a", "b", "ba", "."]]
    return XLMRobertaTokenizer([(token, 0.0) for token in ROBERTA_SPECIAL] + pieces, **settings)


def framed(template, tokenizer, first, last):
    """The tokenizer with other special tokens around a sentence; `:1` is a token type."""
    ids = [(token, tokenizer.convert_tokens_to_ids(token)) for token in (first, last)]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=ids
    )
    return tokenizer


TOKENIZERS = {
    "word-piece": word_piece(),
    "word-piece, left": word_piece(truncation_side="left"),
    "byte-level": byte_level(add_prefix_space=True),
    "byte-level, left": byte_level(add_prefix_space=True, truncation_side="left"),
    "unigram": unigram(),
    "no special tokens": framed("$A", word_piece(), "[CLS]", "[SEP]"),
    "three at the end": framed("$A:1 [SEP]:1 [SEP]:1 [CLS]:2", word_piece(), "[CLS]", "[SEP]"),
}
VOID = ["", "\u200b", "\ufeff"]  # some of the tokenizers make nothing of them
WORDS = ["a", "b", "ab", "aba", "babb", "abababab", "bbbbbbbbbbbb", ".", "a.b", "x", *VOID]

many_cases = settings(max_examples=100)
names = st.sampled_from(list(TOKENIZERS))
tagged_word = st.tuples(st.sampled_from(WORDS), st.sampled_from(LABELS))
corpora = st.lists(st.lists(tagged_word, max_size=12), min_size=1, max_size=5)
# sub-words in a window, and how many of them the next one repeats
window_sizes = st.integers(2, 9).flatmap(
    lambda room: st.tuples(st.just(room), st.integers(1, room - 1))
)


@pytest.fixture(autouse=True, scope="module")
def small_chunks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(words_module, "CHUNK", 2)  # the sentences of a test come in several
        yield


def encode(tokenizer, corpus, room=500, stride=1, label_all_tokens=False):
    words = [[word for word, _ in sentence] for sentence in corpus]
    tags = [[tag for _, tag in sentence] for sentence in corpus]
    max_length = room + tokenizer.num_special_tokens_to_add()
    return encode_words(tokenizer, words, tags, LABEL2ID, max_length, stride, label_all_tokens)


def rows_of(encoded, name):
    return [encoded.columns.row(number)[name].tolist() for number in range(len(encoded.columns))]


def tokenize(tokenizer, sentence, **settings):
    return tokenizer([word for word, _ in sentence], is_split_into_words=True, **settings)


def plain_labels(word_ids, sentence, label_all_tokens):
    """The alignment of run_ner.py for one row: a loop over the words of its tokens."""
    labels, previous = [], None
    for word in word_ids:
        label = -100
        if word is not None and word != previous:
            label = LABEL2ID[sentence[word][1]]
        elif word is not None and label_all_tokens:
            tag = sentence[word][1]
            label = LABEL2ID.get(tag.replace("B-", "I-"), LABEL2ID[tag])
        labels.append(label)
        previous = word
    return labels


def plain_windows(word_ids, room, stride):
    """(start, end, words it owns) of each window over a sentence, from a search for each word."""
    spans = [(0, room)]
    while spans[-1][1] < len(word_ids):
        start = spans[-1][1] - stride
        spans.append((start, start + room))

    def context(span, piece):
        before = piece - span[0] if span[0] > 0 else np.inf
        after = span[1] - 1 - piece if span[1] < len(word_ids) else np.inf
        return min(before, after)

    owner = {}
    for word in set(word_ids):
        piece = word_ids.index(word)
        showing = [span for span in spans if span[0] <= piece < span[1]]
        owner[word] = max(showing, key=lambda span: context(span, piece))
    return [(*span, {word for word in owner if owner[word] == span}) for span in spans]


@many_cases
@given(names, corpora, st.integers(1, 30), st.booleans())
def test_without_stride_rows_and_labels_are_those_of_a_loop_over_word_ids(
    name, corpus, room, label_all_tokens
):
    tokenizer = TOKENIZERS[name]
    encoded = encode(tokenizer, corpus, room, 0, label_all_tokens)
    max_length = room + tokenizer.num_special_tokens_to_add()
    rows = [
        tokenize(tokenizer, sentence, truncation=True, max_length=max_length) for sentence in corpus
    ]
    assert rows_of(encoded, "input_ids") == [row["input_ids"] for row in rows]
    assert rows_of(encoded, "labels") == [
        plain_labels(row.word_ids(), sentence, label_all_tokens)
        for row, sentence in zip(rows, corpus, strict=True)
    ]


@many_cases
@given(names, corpora, window_sizes, st.booleans())
def test_a_word_is_labelled_in_the_window_that_shows_most_of_its_context(
    name, corpus, window_size, label_all_tokens
):
    tokenizer = TOKENIZERS[name]
    frame = tokenize(tokenizer, [("a", "O")], return_special_tokens_mask=True)
    special, begin = tokenize(tokenizer, [])["input_ids"], frame["special_tokens_mask"].index(0)
    ids, labels = [], []
    for sentence in corpus:
        whole = tokenize(tokenizer, sentence, add_special_tokens=False)
        all_labels = plain_labels(whole.word_ids(), sentence, label_all_tokens)
        for start, end, owned in plain_windows(whole.word_ids(), *window_size):
            ids.append([*special[:begin], *whole["input_ids"][start:end], *special[begin:]])
            pairs = zip(whole.word_ids()[start:end], all_labels[start:end], strict=True)
            shown = [label if word in owned else -100 for word, label in pairs]
            labels.append([-100] * begin + shown + [-100] * (len(special) - begin))

    encoded = encode(tokenizer, corpus, *window_size, label_all_tokens)
    assert rows_of(encoded, "input_ids") == ids
    assert rows_of(encoded, "labels") == labels


@many_cases
@given(names, corpora, window_sizes, st.booleans())
def test_every_word_with_a_sub_word_is_scored_once_and_gets_its_own_prediction(
    name, corpus, window_size, label_all_tokens
):
    tokenizer = TOKENIZERS[name]
    encoded = encode(tokenizer, corpus, *window_size, label_all_tokens)
    tags = [tag for sentence in corpus for _, tag in sentence]
    lengths = [len(sentence) for sentence in corpus]
    with_pieces = [
        word + sum(lengths[:number])
        for number, sentence in enumerate(corpus)
        for word in sorted(set(tokenize(tokenizer, sentence).word_ids()) - {None})
    ]
    assert encoded.scored_word[encoded.scored_word >= 0].tolist() == with_pieces
    assert encoded.num_scored == len(with_pieces)
    assert encoded.num_unseen == len(tags) - len(with_pieces)
    assert (encoded.num_cut, encoded.num_cut_entities) == (0, 0)
    assert encoded.sentence_offsets.tolist() == [0, *np.cumsum(lengths)]

    labels = encoded.columns.values["labels"]
    predicted = encoded.word_predictions(labels[labels != -100], outside=-7)
    gold = np.array([LABEL2ID[tag] for tag in tags])
    assert encoded.gold.tolist() == gold.tolist()
    assert predicted[with_pieces].tolist() == gold[with_pieces].tolist()
    assert set(np.delete(predicted, with_pieces)) <= {-7}


def perfect(encoded):
    """The evaluation of a model that predicts the label of every labelled token."""
    labels = encoded.columns.values["labels"]
    labels = labels[labels != -100]
    return Evaluation(0.0, labels, labels, num_rows=1, num_batches=1, runtime_seconds=1.0)


@many_cases
@given(names, corpora, window_sizes, st.booleans(), st.sampled_from(["ner", "pos"]))
def test_a_perfect_model_scores_1_on_any_data(name, corpus, window_size, label_all_tokens, task):
    encoded = encode(TOKENIZERS[name], corpus, *window_size, label_all_tokens)
    tags = [[tag for _, tag in sentence] for sentence in corpus]
    scorer = WordScorer(encoded, LABELS, NerSettings(task_name=task), tags)
    scores = scorer.scores(perfect(encoded))
    seen = [
        tag for tag in encoded.gold[~encoded.is_unseen] if task == "pos" or tag != LABEL2ID["O"]
    ]
    best = float(bool(seen))  # 0 where there is nothing to find
    assert (scores.overall.precision, scores.overall.recall, scores.overall.f1) == (best,) * 3
    assert scores.accuracy == float(not encoded.is_unseen.all())
    # an entity is scored unless the model sees no word of it, or not the one that separates it
    assert scores.overall.number <= len(seen)


@pytest.mark.parametrize(
    ("gold", "predicted", "entities"),
    [  # . is seen, _ is not
        (".B-LOC _I-LOC .I-LOC", "B-LOC I-LOC I-LOC", [(0, 2, "LOC")]),
        (".B-LOC _O _B-PER .I-LOC .O", "B-LOC I-LOC I-LOC I-LOC O", [(0, 3, "LOC")]),
        ("_B-LOC .I-LOC _I-LOC .O", "O I-LOC O O", [(1, 1, "LOC")]),
        (".B-LOC _I-LOC .B-LOC", "B-LOC O B-LOC", [(0, 0, "LOC"), (2, 2, "LOC")]),
        (".B-LOC _I-LOC .I-PER", "B-LOC O I-PER", [(0, 0, "LOC"), (2, 2, "PER")]),
        (".O _B-LOC _I-LOC .O", "O O O O", []),
    ],
)
def test_words_without_a_sub_word_continue_an_entity_and_never_begin_or_end_one(
    gold, predicted, entities
):
    corpus = [[("a" if w[0] == "." else "\u200b", w[1:]) for w in gold.split()], [("a", "I-LOC")]]
    encoded = encode(TOKENIZERS["word-piece"], corpus)
    tags = [[tag for _, tag in sentence] for sentence in corpus]
    scorer = WordScorer(encoded, LABELS, NerSettings(), tags)
    both = scorer.entities(perfect(encoded))
    end = len(corpus[0])  # an entity ends with its sentence
    assert [one.spans() for one in both] == [[*entities, (end, end, "LOC")]] * 2
    assert scorer.tags(perfect(encoded)) == [predicted.split(), ["I-LOC"]]


def test_what_becomes_of_words_without_a_sub_word_is_said():
    corpus = [[("a", "B-LOC"), ("", "I-LOC"), ("", "B-LOC"), ("\u200b", "B-PER"), ("b", "O")]]
    encoded = encode(TOKENIZERS["word-piece"], corpus)
    assert accounting(encoded) == (
        "5 words read = 2 words scored + 3 without a sub-word, which begin and end no entity"
    )
    sentences = TaggedSentences([["a"]], [["O"]], [[1]], "")
    figures = describe_tagged(sentences, encoded)
    assert figures["words without a sub-word"] == 3
    assert figures["entities without a sub-word, not scored"] == 2


@many_cases
@given(names, corpora, st.integers(1, 9), st.integers(0, 8))
def test_words_read_are_words_scored_and_cut_and_without_a_sub_word(name, corpus, room, stride):
    tokenizer = TOKENIZERS[name]
    encoded = encode(tokenizer, corpus, room, min(stride, room - 1))
    num_words = sum(len(sentence) for sentence in corpus)
    assert num_words == encoded.num_scored + encoded.num_cut + encoded.num_unseen
    lengths = [
        len(tokenize(tokenizer, line, add_special_tokens=False)["input_ids"]) for line in corpus
    ]
    assert encoded.num_long == sum(length > room for length in lengths)


@many_cases
@given(names, corpora, st.integers(1, 9))
def test_words_and_entities_that_stride_0_cuts_off_are_counted(name, corpus, room):
    tokenizer = TOKENIZERS[name]
    encoded = encode(tokenizer, corpus, room, stride=0)
    max_length = room + tokenizer.num_special_tokens_to_add()
    lost = []
    for sentence in corpus:
        shown = tokenize(tokenizer, sentence, truncation=True, max_length=max_length).word_ids()
        all_words = set(tokenize(tokenizer, sentence).word_ids())
        lost += [sentence[word][1] for word in all_words - set(shown)]
    assert encoded.num_cut == len(lost)
    assert encoded.num_cut_entities == sum(tag.startswith("B-") for tag in lost)


def test_the_first_sub_word_of_a_word_carries_its_label():
    corpus = [[("abab", "B-PER"), ("a", "I-PER"), ("bb", "O")]]
    tokenizer = TOKENIZERS["word-piece"]
    row = encode(tokenizer, corpus).columns.row(0)
    tokens = tokenizer.convert_ids_to_tokens(row["input_ids"].tolist())
    names = [LABELS[label] if label != -100 else None for label in row["labels"]]
    assert list(zip(tokens, names, strict=True)) == [
        ("[CLS]", None),
        ("ab", "B-PER"),
        ("##a", None),
        ("##b", None),
        ("a", "I-PER"),
        ("b", "O"),
        ("##b", None),
        ("[SEP]", None),
    ]


def test_token_types_are_kept_where_the_model_knows_them_and_they_are_not_all_0():
    corpus = [[("ab", "O")], [("a", "O"), ("b", "O")]]
    types = rows_of(encode(TOKENIZERS["three at the end"], corpus), "token_type_ids")
    assert types == [[1, 1, 1, 2], [1, 1, 1, 1, 2]]
    template = "<s> $A:1 </s>:1"
    ignorant = framed(template, unigram(), "<s>", "</s>")  # its model has no token types
    for tokenizer in (TOKENIZERS["word-piece"], ignorant):
        assert list(encode(tokenizer, corpus).columns.values) == ["input_ids", "labels"]


@pytest.mark.parametrize("stride", [0, 2])
def test_the_tokenizer_does_not_keep_truncating(stride):
    tokenizer = TOKENIZERS["word-piece, left"]
    encode(tokenizer, [[("ababababab", "O")]], room=4, stride=stride)
    assert tokenizer.backend_tokenizer.truncation is None
    assert tokenizer.truncation_side == "left"


def test_a_stride_that_leaves_nothing_new_is_refused():
    with pytest.raises(
        ValueError, match=r"--stride 4 leaves nothing new .* 4 sub-words .* at most 3"
    ):
        encode(TOKENIZERS["unigram"], [[("a", "O")]], room=4, stride=4)


def test_a_row_without_room_for_a_sub_word_is_refused():
    with pytest.raises(ValueError, match=r"3 tokens .* 3 are special; .* --max_seq_length above 3"):
        encode(TOKENIZERS["three at the end"], [[("a", "O")]], room=0, stride=0)
