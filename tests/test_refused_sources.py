"""What cannot be read is refused: by file and line, with what was found, all problems at once."""

import json

import pytest
from source_files import (
    CSV,
    ROWS,
    class_label_parquet,
    jsonl,
    message,
    parquet,
    refusal,
    sentence,
    write,
)

from rawtrain.data.sources import read_tagged

GOOD = jsonl(sentence(["a"], ["O"]))


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ('{"tokens": ["a"], "ner_tags": ["O"]', "not JSON at column 36"),
        ('["a"]', "is not a JSON object"),
        ('{"tokens": ["a"]}', "no key 'ner_tags'; found 'tokens'"),
        ('{"tokens": "a b", "ner_tags": ["O"]}', "'tokens' is text, not a list; split it"),
        ('{"tokens": null, "ner_tags": []}', "'tokens' is null, not a list"),
        ('{"tokens": ["a", null], "ner_tags": ["O", "O"]}', "'tokens' has null among the words"),
        ('{"tokens": [1], "ner_tags": ["O"]}', "a number among the words: 1"),
        ('{"tokens": [["a"]], "ner_tags": ["O"]}', "a list among the words"),
        ('{"tokens": ["a", "b"], "ner_tags": ["O"]}', "2 words in 'tokens', but 1 tags in"),
        ('{"tokens": ["a"], "ner_tags": [NaN]}', "NaN is not JSON"),
        ('{"tokens": ["a"], "ner_tags": [null]}', "null among the tags"),
        ('{"tokens": ["a"], "ner_tags": [true]}', "true or false among the tags"),
        ('{"tokens": ["a"], "ner_tags": [1]}', "numbers, and nothing says which names"),
        ('{"tokens": ["a", "b"], "ner_tags": [1, "O"]}', "a number and text among the tags"),
        ('{"tokens": ["a"], "tokens": ["b"], "ner_tags": ["O"]}', "the key 'tokens' occurs twice"),
        (r'{"tokens": ["\ud800"], "ner_tags": ["O"]}', "surrogate"),
        ('{"tokens": ["a"], "ner_tags": ["b-x"]}', "the tag 'b-x' is no IOB tag"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_a_wrong_json_line_is_refused_with_its_number(tmp_path, line, found):
    text = refusal(tmp_path, "a.jsonl", GOOD + "\n" + line + "\n" + GOOD)
    assert text.startswith(":3: ") and found in text


def test_several_wrong_lines_and_files_are_told_at_once(tmp_path):
    train = write(tmp_path, "a.jsonl", GOOD + '{"tokens": 1}\n' * 30)
    text = message(read_tagged, train_file=train, test_file="/nowhere/test.jsonl")
    assert text.count("no key 'ner_tags'") + text.count("'tokens' is a number") == 20
    assert "and 10 more" in text
    assert "/nowhere/test.jsonl: no such file" in text


def test_a_json_array_is_refused_with_the_command_that_converts_it(tmp_path):
    assert "jq -c" in refusal(tmp_path, "a.json", "\n" + json.dumps(ROWS))


def test_numbers_out_of_the_range_of_their_names_are_refused(tmp_path):
    for number in (-1, 5):
        path = class_label_parquet(tmp_path / "a.parquet", [["a"], ["b"]], [["O"], [number]])
        text = message(read_tagged, train_file=path)
        assert f"{path}, row 2: 'ner_tags' has the number {number}; the names have 0 to 4" in text


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (CSV.replace("1,rejects,O", "1,rejects"), ":3: number of cells: 2, in the header 3"),
        (CSV.replace("2,NA,I-PER", '2,"NA,I-PER'), ":5: the row that begins here is not CSV"),
        (CSV.replace("rejects", 're"j"ects').replace("EU", '"E"U'), ":2: the row that begins"),
        (CSV.replace("2,007", "1,007"), ":6: the sentence '1' comes back"),
        (CSV.replace("1,EU", ",EU"), ":2: the first row has no sentence id"),
        (CSV.replace("word", "tag"), ":1: the header has 'tag' twice"),
        (CSV.replace(",", ";"), ":1: one column, 'sentence_id;word;tag'"),
        (CSV.replace("word", "w"), "no column is named 'word'"),
        ("sentence_id,word,tag\n", ": expected a header and rows"),
        (CSV.replace("EU", "Eü").encode("latin-1"), ":2: byte 0xfc"),
        (CSV.replace("rejects,O", "rejects,x"), ":3: the tag 'x' is no IOB tag"),
        ("", ": the file is empty"),
    ],
)
def test_a_wrong_csv_row_is_refused_with_its_line(tmp_path, content, found):
    text = refusal(tmp_path, "a.csv", content)
    assert found in text if found.startswith("no") else text.startswith(found)


def test_csv_lines_are_counted_by_the_line_a_row_begins_at(tmp_path):
    content = 'sentence_id,word,tag\n1,"a\r\nb",O\n\n1,c,x\n'
    assert refusal(tmp_path, "a.csv", content).startswith(":5: the tag 'x'")


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        ({"tokens": [["a"]], "ner_tags": [[0]]}, ", row 1: 'ner_tags' has numbers, and nothing"),
        ({"tokens": ["a"], "ner_tags": [["O"]]}, ": 'tokens' is string, not lists of text"),
        ({"tokens": [[1]], "ner_tags": [["O"]]}, ": 'tokens' is list<element: int64>"),
        ({"tokens": [["a"]], "ner_tags": [[0.5]]}, ": 'ner_tags' is list<element: double>"),
        ({"tokens": [["a"], None], "ner_tags": [["O"], []]}, ", row 2: 'tokens' is null"),
        ({"tokens": [["a", None]], "ner_tags": [["O", "O"]]}, ", row 1: 'tokens' has null"),
        ({"tokens": [["a"]], "ner_tags": [["O", "O"]]}, ", row 1: 1 words in 'tokens', but 2"),
        ({"tokens": [["a"]]}, ": a column of words and one of tags expected"),
        ({"tokens": [[]], "ner_tags": [[]]}, ": 'tokens' is list<element: null>"),
    ],
)
def test_a_wrong_parquet_column_is_refused_with_its_type(tmp_path, columns, found):
    path = parquet(tmp_path, columns)
    assert message(read_tagged, train_file=path).startswith(path + found)


def test_a_file_that_is_not_parquet_is_refused(tmp_path):
    whole = tmp_path / "whole.parquet"
    class_label_parquet(whole)
    cut = whole.read_bytes()[:-20]
    assert "not a Parquet file" in refusal(tmp_path, "cut.parquet", cut)
    assert "not a Parquet file" in refusal(tmp_path, "text.parquet", "EU B-ORG\n")
    assert "git lfs pull" in refusal(tmp_path, "a.parquet", "version https://git-lfs.github.com")


def test_settings_without_data_are_refused():
    assert "--train_file" in message(read_tagged)
