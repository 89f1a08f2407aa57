import hashlib
import subprocess
import sys

import pytest

from rawtrain.data.docstrings import read_docstring_corpus
from rawtrain.data.raw_text import split_words
from rawtrain.data.schemes import detect_scheme

SPLITS = ("train", "validation", "test")
# Verbs and nouns that make as many different sentences as one wants.
WORDS = [
    "".join(chr(ord("a") + int(digit, 16)) for digit in hashlib.md5(bytes([i])).hexdigest()[:6])
    for i in range(256)
]


@pytest.fixture(scope="module")
def corpus():
    return read_docstring_corpus()


def plain(text):
    """The letters of a text, in lower case: what is left when no near-duplicate can hide."""
    return "".join(filter(str.isalpha, text.lower()))


def sentence(number, name="Tensor"):
    first, second = WORDS[number // 256], WORDS[number % 256]
    return f"the {first} gives a {second} for every {WORDS[number * 7 % 256]} to :class:`{name}`"


def write(path, texts):
    path.write_text("\n".join(f'"""{text}"""' for text in texts), encoding="utf-8")
    return path


def texts_without_markup(texts):
    return [text.replace(":class:", "").replace("`", "") for text in texts]


def held_out_words(corpus):
    return corpus.splits["validation"].words + corpus.splits["test"].words


def split_by_sentence(corpus):
    return {" ".join(words): name for name in SPLITS for words in corpus.splits[name].words}


def test_the_installed_corpus_is_large_enough_to_learn_from(corpus):
    sizes = [len(corpus.splits[name].words) for name in SPLITS]
    num_entities = sum(
        tag[0] == "B" for name in SPLITS for t in corpus.splits[name].tags for tag in t
    )
    assert 1000 < sum(sizes) < 10_000
    assert sizes[0] > 0.6 * sum(sizes) and min(sizes) > 0.05 * sum(sizes)
    assert 1500 < num_entities < 20_000
    assert 5000 < len(corpus.documents) < 50_000
    assert 200_000 < sum(len(document.split()) for document in corpus.documents) < 2_000_000
    assert "torch" in corpus.description and "Python" in corpus.description


def test_the_tags_are_iob2_and_each_split_has_all_types(corpus):
    assert corpus.types == ["ATTR", "CLASS", "FUNC"]
    for name in SPLITS:
        split = corpus.splits[name]
        assert {tag[2:] for tags in split.tags for tag in tags if tag != "O"} == {*corpus.types}
        assert all(any(tag != "O" for tag in tags) for tags in split.tags)
        assert [len(words) for words in split.words] == [len(tags) for tags in split.tags]
        assert [len(words) for words in split.words] == [len(lines) for lines in split.lines]
        assert all(
            word and not any(map(str.isspace, word)) for words in split.words for word in words
        )
        assert detect_scheme(split.tags) == "IOB2"
    assert corpus.splits["test"].place(1, 0) == "docstrings (test), sentence 2"


def test_a_tagger_cuts_the_sentences_into_the_words_that_it_was_trained_on(corpus):
    for split in SPLITS:
        for words in corpus.splits[split].words:
            text = " ".join(words)
            assert [text[start:end] for start, end in split_words(text)] == words


def test_no_sentence_is_in_two_splits_or_twice_in_one(corpus):
    texts = [plain("".join(words)) for name in SPLITS for words in corpus.splits[name].words]
    assert len(set(texts)) == len(texts)


def test_no_held_out_sentence_is_in_the_documents(corpus):
    documents = "\n".join(plain(document) for document in corpus.documents)
    held_out = [plain("".join(words)) for words in held_out_words(corpus)]
    found = [text for text in held_out if text in documents]
    assert len(held_out) > 300
    # "it is an error to call f" is no leak where "it is an error to call f twice" is learnt.
    assert len(found) < 0.02 * len(held_out), found


def test_two_calls_give_the_same_corpus(corpus):
    again = read_docstring_corpus()
    assert again == corpus
    assert again.fingerprint == corpus.fingerprint


@pytest.mark.slow
def test_the_corpus_is_read_without_importing_torch():
    code = (
        "import sys; from rawtrain.data.docstrings import docstring_files;"
        "docstring_files(); print('torch' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "False\n"


def test_the_split_of_a_sentence_depends_on_nothing_but_its_text(tmp_path):
    texts = [sentence(i) for i in range(0, 4000, 3)]
    all_of_them = read_docstring_corpus([write(tmp_path / "a.py", texts)])
    some = read_docstring_corpus([write(tmp_path / "b.py", texts[::-2])])
    whole, part = split_by_sentence(all_of_them), split_by_sentence(some)
    assert len(whole) == len(texts) and len(part) == len(texts[::-2])
    assert part.items() <= whole.items()
    assert set(part.values()) == set(SPLITS)


def test_of_sentences_that_differ_in_names_case_and_digits_one_is_kept(tmp_path):
    texts = [sentence(i) for i in range(0, 4000, 3)]
    others = [sentence(i, "Module").replace("the ", "The 3 ") for i in range(0, 4000, 3)]
    one_way = read_docstring_corpus([write(tmp_path / "a.py", texts + others)])
    other_way = read_docstring_corpus([write(tmp_path / "b.py", others + texts)])
    kept = split_by_sentence(one_way)
    assert len(kept) == len(texts)
    assert kept == split_by_sentence(other_way)


def test_documents_leave_out_the_twins_of_held_out_sentences_too(tmp_path):
    texts = [sentence(i) for i in range(0, 4000, 3)]
    twins = [sentence(i, "Module") for i in range(0, 4000, 3)]
    corpus = read_docstring_corpus([write(tmp_path / "a.py", [*twins, *texts])])
    held_out = {" ".join(words[:-1]) for words in held_out_words(corpus)}
    in_documents = {document.rpartition(" ")[0] for document in corpus.documents}
    assert len(held_out) > 100 and len(in_documents) > 100
    assert held_out.isdisjoint(in_documents)
    assert len(corpus.documents) == 2 * len(corpus.splits["train"].words)


def test_documents_leave_out_held_out_sentences_that_are_marked_nowhere_else(tmp_path):
    texts = [sentence(i) for i in range(0, 4000, 3)]
    unmarked = texts_without_markup(texts)
    corpus = read_docstring_corpus([write(tmp_path / "a.py", unmarked + texts)])
    held_out = {" ".join(words) for words in held_out_words(corpus)}
    assert len(held_out) > 100
    assert set(corpus.documents) == set(unmarked) - held_out


def test_the_order_of_the_files_does_not_matter(tmp_path):
    texts = [sentence(i) for i in range(0, 4000, 3)]
    some, others = write(tmp_path / "a.py", texts[::2]), write(tmp_path / "b.py", texts[1::2])
    assert read_docstring_corpus([some, others]) == read_docstring_corpus([others, some])


def test_sentences_with_an_unmarked_name_are_documents_only(tmp_path):
    texts = [sentence(i) for i in range(0, 4000, 3)]
    partly = [sentence(i) + " or ``other``" for i in range(1, 4000, 3)]
    corpus = read_docstring_corpus([write(tmp_path / "a.py", texts + partly)])
    assert split_by_sentence(corpus).keys() == set(texts_without_markup(texts))
    assert any(document.endswith("or other") for document in corpus.documents)


def test_sentences_that_are_nearly_the_same_mostly_share_a_split(tmp_path):
    endings = ("", " and more than that", " if it is there")
    texts = [sentence(i) + ending for i in range(0, 4000, 3) for ending in endings]
    split_of = split_by_sentence(read_docstring_corpus([write(tmp_path / "a.py", texts)]))
    base = [text for text in split_of if text.endswith("Tensor")]
    agreed = sum(split_of[text] == split_of[text + endings[1]] for text in base)
    assert agreed > 0.8 * len(base)  # 0.6 if the splits were independent


def test_an_installation_without_docstrings_is_refused_with_what_to_do(tmp_path):
    path = write(tmp_path / "a.py", [sentence(i) for i in range(10)])
    with pytest.raises(
        ValueError, match=r"1 source files .* 10 sentences .* at least 500.*--train_file"
    ):
        read_docstring_corpus([path])


def test_a_file_that_is_not_utf8_stops_nothing(tmp_path):
    (tmp_path / "bad.py").write_bytes(b'"""caf\xe9"""')
    good = write(tmp_path / "good.py", [sentence(i) for i in range(0, 4000, 3)])
    assert read_docstring_corpus([tmp_path / "bad.py", good]).documents
