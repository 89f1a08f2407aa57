"""CoNLL files: what is a word, what is refused, and predictions that read like their source."""

import subprocess

import pytest

from rawtrain.data.conll import read_conll
from rawtrain.data.tags import unify
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


HIPE = (
    "TOKEN\tNE-COARSE-LIT\tNE-FINE-LIT\tMISC\n"
    "# hipe2022:document_id = d1\n"
    "Aus\tO\tO\t_\nBern\tB-loc\tB-loc.adm.town\tEndOfLine|NoSpaceAfter\n.\tO\tO\t_\n\n"
    "# hipe2022:document_id = d2\n"
    "Genf\tB-loc\tO\t_\n"
)
CONLLU = (
    "# text = Du bist Ada.\n"
    "1-2\tDubist\t_\t_\t_\t_\t_\t_\t_\t_\n"
    "1\tDu\tdu\tPRON\t_\t_\t3\tnsubj\t_\tname=O\n"
    "2\tbist\tsein\tAUX\t_\t_\t3\tcop\t_\t_\n"
    "2.1\tdie\tdie\tDET\t_\t_\t_\t_\t_\t_\n"
    "3\tAda 2\tAda\tPROPN\t_\t_\t0\troot\t_\tSpaceAfter=No|name=B-PER\n"
    "4\t.\t.\tPUNCT\t_\t_\t3\tpunct\t_\tname=O\n"
)


@pytest.mark.parametrize(
    "content",
    [
        "a NN\n#now HT\nb NN\n\n#yes HT\n",
        "a\tNN\n#now\tHT\n#yes\tHT\n",
        "#now\tHT\n# x\ty\na\tNN\n\n#yes\tHT\n",
    ],
)
def test_a_hashtag_after_a_word_or_before_a_tab_is_a_word_whatever_its_tag(tmp_path, content):
    read = read_conll(write(tmp_path, content))
    assert [tag for tags in read.tags for tag in tags].count("HT") == 2
    assert read.left_out == ({"comment lines": 1} if "# x" in content else {})


def test_a_hashtag_with_a_wrong_tag_is_refused_at_its_line(tmp_path):
    path = write(tmp_path, "Love O\n#a b c\nso O\n#MeToo MISC\nBonn B-LOC\n")
    assert read_conll(path).words == [["Love", "so", "#MeToo", "Bonn"]]
    with pytest.raises(ValueError, match=r"conll:4: the tag 'MISC' is not"):
        unify({"train": read_conll(path)})


def test_comments_are_counted(tmp_path):
    content = "# sent_id = 1\na NNP I-NP B-ORG\n# text\n\n#begin document (x) 0\nb NNP I-NP O\n"
    assert read_conll(write(tmp_path, content)).left_out == {"comment lines": 3}


@pytest.mark.parametrize("word", [" ", "New York", "10 000", "\xa0"])
def test_where_every_line_has_a_tab_a_word_may_hold_a_blank(tmp_path, word):
    path = write(tmp_path, f"a\tO\n{word}\tB-LOC\n \t \nb \t O \n")
    assert read_conll(path).words == [["a", word], ["b"]]
    assert read_conll(path).tags == [["O", "B-LOC"], ["O"]]


def test_an_empty_cell_between_tabs_keeps_its_place(tmp_path):
    path = write(tmp_path, "Aus\tO\t\t_\n\t\t\t\nBern\tB-loc\tx\t\nin\tO\t\t\n")
    assert read_conll(path, 0, 1).tags == [["O"], ["B-loc", "O"]]
    assert read_conll(write(tmp_path, "Aus\tO\t\nBern\tB-loc\t\n")).tags == [["O", "B-loc"]]
    assert read_conll(write(tmp_path, "Aus\t\tO\nBern\tB-loc\n")).tags == [["O", "B-loc"]]
    with pytest.raises(ValueError, match="conll:2: the cell of the word is empty"):
        read_conll(write(tmp_path, "Aus\tO\n\tO\n"))


@pytest.mark.parametrize("columns", [("TOKEN", "NE-COARSE-LIT"), (0, 1), (0, "NE-COARSE-LIT")])
def test_a_header_is_no_word_and_names_the_columns(tmp_path, caplog, columns):
    caplog.set_level("INFO", "rawtrain")
    read = read_conll(write(tmp_path, HIPE), *columns)
    assert read.words == [["Aus", "Bern", "."], ["Genf"]]
    assert read.tags == [["O", "B-loc", "O"], ["B-loc"]]
    assert read.lines == [[3, 4, 5], [8]]
    assert read.left_out == {"comment lines": 2}
    assert read.joined == [[False, True, False], [False]]
    assert "the first line is a header: TOKEN, NE-COARSE-LIT, NE-FINE-LIT, MISC" in caplog.text


@pytest.mark.parametrize(
    ("content", "columns", "header"),
    [
        ("Wort NE\nAda B-PER\n", ("Wort", "NE"), True),  # since it is asked for
        ("Sentence #\tWord\tTag\n1\tAda\tB-PER\n1\tran\tO\n", (1, 2), True),
        ("# global.columns = ID FORM X:NE\n1\tAda\tB-PER\n", ("FORM", "X:NE"), False),
        ("Word NN\nof IN\nmouth NN\n", (0, 1), False),
        ("word tag\n", (0, 1), False),
    ],
)
def test_a_first_line_is_a_header_only_if_it_names_columns(tmp_path, content, columns, header):
    read = read_conll(write(tmp_path, content), *columns)
    assert read.words[0][0] == ("Ada" if header else read.words[0][0]) != "FORM"
    assert len(read.words[0]) == len([x for x in content.split("\n") if x and x[0] != "#"]) - header


def test_a_column_that_no_header_names_is_refused_with_the_names_that_there_are(tmp_path):
    with pytest.raises(ValueError, match=r"named TOKEN, NE-COARSE-LIT, .* in column NE-X "):
        read_conll(write(tmp_path, HIPE), "TOKEN", "NE-X")
    with pytest.raises(ValueError, match=r"tabs: 2; expected .* in column NE "):
        read_conll(write(tmp_path, "a O\nb O\n"), 0, "NE")


@pytest.mark.parametrize("token_column", [0, 1, "FORM"])
@pytest.mark.parametrize("name", ["a.conllu", "a.txt"])
def test_conllu_is_read_from_form_and_a_name_in_misc(tmp_path, name, token_column):
    read = read_conll(write(tmp_path, CONLLU, name), token_column, "MISC:name")
    assert read.words == [["Du", "bist", "Ada 2", "."]]
    assert read.tags == [["O", "O", "B-PER", "O"]]
    assert read.left_out == {"comment lines": 1, "ranges and empty nodes": 2}
    assert read.joined == [[False, False, True, False]]
    with pytest.raises(ValueError, match=r"column MISC has no nam= anywhere"):
        read_conll(write(tmp_path, CONLLU, name), token_column, "MISC:nam")


def test_the_text_above_a_sentence_is_a_comment_and_no_hashtag(tmp_path):
    path = write(tmp_path, "## klue-ner-v1_000000_wikitree\tdie <Bonn:LC>\ndie\tO\nBonn\tB-LC\n")
    read = read_conll(path)
    assert read.words == [["die", "Bonn"]] and read.left_out == {"comment lines": 1}


def test_a_first_word_that_is_a_name_of_columns_is_no_header_of_a_single_column(tmp_path):
    assert read_conll(write(tmp_path, "Words\nmatter\n")).words == [["Words", "matter"]]


def test_joined_words_and_tags_and_a_tag_with_a_blank_are_called_by_their_name(tmp_path):
    for content in ("In|IN|O 1948|CD|O Bonn|NNP|I-LOC\n\nHe|PRP|O\n", "In|O 1948|O\n"):
        path = write(tmp_path, content)
        with pytest.raises(ValueError, match=r":1: words are joined to their tags by \|") as error:
            read_conll(path)
        command = str(error.value).partition("a line a word: ")[2]
        mended = subprocess.run(command, shell=True, capture_output=True, check=True).stdout
        assert read_conll(write(tmp_path, mended)).words[0][:2] == ["In", "1948"]
        assert read_conll(write(tmp_path, mended)).tags[0][:2] == ["O", "O"]
    path = write(tmp_path, "Invoice -X- _ O\nA-17 -X- _ B-Invoice Number\nof -X- _ O\n")
    with pytest.raises(ValueError, match=r":2: the tag 'B-Invoice Number' holds a space; write _"):
        read_conll(path)


def test_a_file_without_blank_lines_is_noticed(tmp_path, caplog):
    read_conll(write(tmp_path, "a O\nb O\n" * 700))
    assert "a sentence has 1,400 words: are blank lines missing?" in caplog.text


@pytest.mark.parametrize("joint", ["\n", ""])
def test_byte_order_marks_of_joined_files_are_no_part_of_words_and_counted(tmp_path, joint):
    read = read_conll(write(tmp_path, f"\ufeffAda B-PER\nran O\n{joint}\ufeffBo B-PER\n"))
    assert [word for words in read.words for word in words] == ["Ada", "ran", "Bo"]
    assert read.left_out == {"byte order marks": 1}
