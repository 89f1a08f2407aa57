"""CoNLL files: what is a word, what is refused, and predictions that read like their source."""

import pytest

from rawtrain.data.conll import read_conll
from rawtrain.results.ner_page import write_predictions

TWO_SENTENCES = [["EU", "rejects"], ["Peter"]]


def write(tmp_path, content, name="data.conll"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    "content",
    [
        "EU B-ORG\nrejects O\n\nPeter B-PER\n",
        "\n\nEU B-ORG\nrejects O\n \t\n\n\nPeter B-PER\n\n\n",
        "-DOCSTART-\n\nEU B-ORG\nrejects O\n-DOCSTART- O\nPeter B-PER\n",
        "# id 1\n#\nEU B-ORG\n# a remark\nrejects O\n\n# text = Peter\nPeter B-PER\n# end\n",
        "# sent_id = 1\nEU NNP I-NP B-ORG\nrejects VBZ I-VP O\n\n# text = 2\nPeter NNP I-NP B-PER",
    ],
)
def test_the_same_sentences_come_out_of_every_way_to_write_them(tmp_path, content):
    read = read_conll(write(tmp_path, content))
    assert read.words == TWO_SENTENCES
    assert read.tags == [["B-ORG", "O"], ["B-PER"]]


def test_every_word_knows_its_line(tmp_path):
    content = "# id 1\nEU B-ORG\n# a remark\nrejects O\n\nPeter B-PER\n"
    path = write(tmp_path, content)
    read = read_conll(path)
    assert read.lines == [[2, 4], [6]]
    assert read.place(1, 0) == f"{path}:6"


@pytest.mark.parametrize(
    "word", ["NA", "007", "1.0", "null", "a\u2028b", "a\u0085b", "a\x0bb", "a\xa0b", "\ufeff", '"']
)
def test_words_are_never_changed_or_cut(tmp_path, word):
    assert read_conll(write(tmp_path, f"x O\n{word}\tO\n")).words == [["x", word]]


@pytest.mark.parametrize(
    ("line", "is_word"),
    [
        ("# O", True),
        ("#MeToo B-MISC", True),
        ("#1 NOUN", True),  # a tag that another line has
        ("# #", True),  # the tag of # in the Penn Treebank
        ("#MeToo", False),
        ("# remark", False),
        ("# three columns O", False),
    ],
)
def test_a_line_that_starts_with_a_hash_is_a_word_where_it_has_a_tag(tmp_path, line, is_word):
    read = read_conll(write(tmp_path, f"a NOUN\n{line}\nb O\n"))
    assert len(read.words[0]) == (3 if is_word else 2)


def test_columns_are_counted_from_either_end(tmp_path):
    path = write(tmp_path, "0 EU B-ORG x\n1 rejects O x\n")
    for token_column, tag_column in [(1, 2), (-3, -2), (1, -2)]:
        read = read_conll(path, token_column, tag_column)
        assert (read.words, read.tags) == ([["EU", "rejects"]], [["B-ORG", "O"]])


@pytest.mark.parametrize("columns", [(0, 2), (0, 3), (-4, -1), (1, -1)])
def test_columns_that_the_lines_do_not_have_are_refused_with_the_flags(tmp_path, columns):
    with pytest.raises(ValueError, match=r"conll:1: .* tabs: 2; expected .* --token_column"):
        read_conll(write(tmp_path, "a O\n"), *columns)


def test_a_wrong_path_is_answered_with_the_nearest_name(tmp_path):
    write(tmp_path, "a O\n", "train.conll")
    with pytest.raises(
        ValueError, match=r"trian\.conll: no such file; did you mean .*train\.conll\?"
    ):
        read_conll(tmp_path / "trian.conll")
    with pytest.raises(ValueError, match=r"no such file$"):
        read_conll(tmp_path / "nowhere" / "train.conll")
    with pytest.raises(ValueError, match="a directory"):
        read_conll(tmp_path)


SENTENCES = [["EU", "rejects"], ["Peter"], ["#tag"]]
GOLD = [["B-ORG", "O"], ["B-PER"], ["O"]]
PREDICTED = [["O", "O"], ["B-PER"], ["O"]]


def test_predictions_are_read_back_as_they_were_written(tmp_path):
    path = tmp_path / "predictions.conll"
    write_predictions(path, SENTENCES, GOLD, PREDICTED)
    rows = ["EU\tB-ORG\tO", "rejects\tO\tO", "", "Peter\tB-PER\tB-PER", "", "#tag\tO\tO", ""]
    assert path.read_text().split("\n") == [*rows, ""]
    assert read_conll(path).words == SENTENCES
    assert read_conll(path).tags == PREDICTED
    assert read_conll(path, tag_column=1).tags == GOLD


def test_a_word_that_the_format_cannot_hold_is_written_with_underscores(tmp_path):
    words = [["New York", "", "a\tb\r\nc", "d\u2028e"]]
    write_predictions(tmp_path / "predictions.conll", words, [["O"] * 4], [["O"] * 4])
    read = read_conll(tmp_path / "predictions.conll")
    assert read.words == [["New_York", "_", "a_b_c", "d\u2028e"]]
