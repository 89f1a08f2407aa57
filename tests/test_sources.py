"""Every source gives the same sentences, keeps every word, and refuses what it cannot read."""

import json
from types import SimpleNamespace

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from rawtrain.data.sources import read_documents, read_tagged

WORDS = [["EU", "rejects"], ["Peter", "NA", "007"]]
TAGS = [["B-ORG", "O"], ["B-PER", "I-PER", "O"]]
NAMES = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG"]
FEATURES = Features({"tokens": List(Value("string")), "ner_tags": List(ClassLabel(names=NAMES))})
CSV = "sentence_id,word,tag\n1,EU,B-ORG\n1,rejects,O\n2,Peter,B-PER\n2,NA,I-PER\n2,007,O\n"


@pytest.fixture(autouse=True)
def quiet_and_private_datasets(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def settings(**given):
    names = """dataset_name dataset_config_name train_file validation_file test_file
        text_column_name label_column_name sentence_column_name"""
    defaults = dict.fromkeys(names.split()) | {"task_name": "ner", "token_column": 0}
    return SimpleNamespace(**{**defaults, "tag_column": -1, **given})


def write(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def jsonl(*objects):
    return "".join(json.dumps(o) + "\n" for o in objects)


def sentence(words, tags, **more):
    return {"tokens": words, "ner_tags": tags, **more}


def parquet(tmp_path, columns, name="data.parquet"):
    path = tmp_path / name
    pq.write_table(pa.table(columns), path)
    return str(path)


def class_label_parquet(path):
    path.parent.mkdir(exist_ok=True)
    numbers = [[NAMES.index(tag) for tag in tags] for tags in TAGS]
    Dataset.from_dict(sentence(WORDS, numbers), features=FEATURES).to_parquet(path)
    return str(path)


def message(read, **given):
    with pytest.raises(ValueError) as error:
        read(settings(**given))
    return str(error.value)


def refusal(tmp_path, name, content, read=read_tagged, **given):
    """What is said of a bad training file, after its name."""
    path = write(tmp_path, name, content)
    text = message(read, train_file=path, **given)
    assert text.startswith(path)
    return text.removeprefix(path)


# ---- the same sentences from everywhere

ROWS = [sentence(*pair) for pair in zip(WORDS, TAGS, strict=True)]
COLUMNS = "EU B-ORG\nrejects O\n\nPeter B-PER\nNA I-PER\n007 O\n"
KAGGLE = """Sentence #,Word,POS,Tag
Sentence: 1,EU,NNP,B-ORG
,rejects,VBZ,O
Sentence: 2,Peter,NNP,B-PER
,NA,NNP,I-PER
,007,CD,O
"""
LARGE = pa.large_list(pa.dictionary(pa.int32(), pa.large_string()))
SOURCES = {
    "columns.conll": lambda path: path.write_text(COLUMNS),
    "columns.txt": lambda path: path.write_text(COLUMNS),
    "columns.iob2": lambda path: path.write_text(COLUMNS),
    "plain.jsonl": lambda path: path.write_text(jsonl(*ROWS)),
    "dos.jsonl": lambda path: path.write_text("\ufeff" + jsonl(*ROWS), newline="\r\n"),
    "no_end.json": lambda path: path.write_text(jsonl(*ROWS).replace("\n", "\n\n").rstrip()),
    "more.jsonl": lambda path: path.write_text(jsonl(*({"id": [1], **row} for row in ROWS))),
    "plain.csv": lambda path: path.write_text(CSV),
    "mac.csv": lambda path: path.write_text(CSV, newline="\r"),
    "gaps.CSV": lambda path: path.write_text(CSV.replace("1,rej", ",rej").replace("2,NA", ",NA")),
    "kaggle.csv": lambda path: path.write_text(KAGGLE),
    "plain.parquet": lambda path: pq.write_table(pa.table(sentence(WORDS, TAGS)), path),
    "large.parquet": lambda path: pq.write_table(
        pa.table({k: pa.array(v, LARGE) for k, v in sentence(WORDS, TAGS).items()}), path
    ),
    "labels.parquet": class_label_parquet,
}


@pytest.mark.parametrize("name", SOURCES)
def test_every_format_gives_the_same_sentences(tmp_path, name):
    SOURCES[name](tmp_path / name)
    corpus = read_tagged(settings(train_file=str(tmp_path / name)))
    assert corpus.splits["train"].words == WORDS
    assert corpus.splits["train"].tags == TAGS
    assert (corpus.scheme, corpus.num_repaired) == ("IOB2", 0)


@pytest.mark.parametrize(
    ("name", "place"),
    [("columns.conll", ":6"), ("plain.csv", ":6"), ("plain.jsonl", ":2"), ("a.parquet", ", row 2")],
)
def test_every_format_knows_where_a_word_stands(tmp_path, name, place):
    SOURCES.get(name, SOURCES["plain.parquet"])(tmp_path / name)
    train = read_tagged(settings(train_file=str(tmp_path / name))).splits["train"]
    number = {":6": "007", ":2": "Peter", ", row 2": "Peter"}[place]
    words = train.words[1]
    assert train.place(1, words.index(number)) == f"{tmp_path / name}{place}"


def test_a_folder_is_read_like_a_data_set_of_the_hub(tmp_path):
    for split in ("train", "dev"):
        class_label_parquet(tmp_path / "corpus" / f"{split}.parquet")
    corpus = read_tagged(settings(dataset_name=str(tmp_path / "corpus")))
    assert list(corpus.splits) == ["train", "validation"]
    assert corpus.splits["validation"].words == WORDS
    assert corpus.label_names == NAMES


def named_split(tmp_path, split):
    """A folder whose card gives its only split a name of its own."""
    folder = tmp_path / f"corpus_{split}"
    class_label_parquet(folder / "some.parquet")
    data_files = f"data_files:\n  - {{split: {split}, path: some.parquet}}"
    write(folder, "README.md", f"---\nconfigs:\n- config_name: default\n  {data_files}\n---\n")
    return str(folder)


@pytest.mark.parametrize("split", ["validation", "dev", "val"])
def test_a_split_named_dev_or_val_is_the_validation_split(tmp_path, split):
    corpus = read_tagged(settings(dataset_name=named_split(tmp_path, split)))
    assert list(corpus.splits) == ["validation"]


def test_a_data_set_without_a_known_split_is_refused_with_those_it_has(tmp_path):
    text = message(read_tagged, dataset_name=named_split(tmp_path, "extra"))
    assert "has the splits 'extra'; expected train, validation (or dev, val) or test" in text


def test_a_data_set_that_is_not_there_is_told_by_its_name(tmp_path):
    assert "'/nowhere/corpus'" in message(read_tagged, dataset_name="/nowhere/corpus")
    class_label_parquet(tmp_path / "corpus" / "train.parquet")
    text = message(read_tagged, dataset_name=str(tmp_path / "corpus"), dataset_config_name="xx")
    assert "'xx'" in text and "default" in text


# ---- labels


def test_labels_are_declared_names_in_their_order_or_the_sorted_tags_of_train(tmp_path):
    declared = read_tagged(settings(train_file=class_label_parquet(tmp_path / "a.parquet")))
    assert declared.label_names == NAMES
    plain = read_tagged(settings(train_file=write(tmp_path, "a.jsonl", jsonl(*ROWS))))
    assert plain.label_names == ["B-ORG", "B-PER", "I-PER", "O"]


def test_declared_names_of_another_scheme_give_way_to_iob2(tmp_path):
    names = ClassLabel(names=["S-PER", "O"])
    features = Features({"tokens": List(Value("string")), "ner_tags": List(names)})
    path = tmp_path / "a.parquet"
    Dataset.from_dict(sentence([["a", "b"]], [[0, 1]]), features=features).to_parquet(path)
    corpus = read_tagged(settings(train_file=str(path)))
    assert (corpus.scheme, corpus.label_names) == ("IOBES", ["B-PER", "O"])
    assert corpus.splits["train"].tags == [["B-PER", "O"]]


def test_a_tag_only_the_test_file_has_is_refused_by_name(tmp_path):
    test = write(tmp_path, "test.conll", "a O\n\nb O\nc B-LOC\n")
    given = {"train_file": write(tmp_path, "train.conll", COLUMNS), "test_file": test}
    assert f"{test}:4: the tag 'B-LOC' of the test split" in message(read_tagged, **given)


def test_without_training_data_the_labels_come_from_all_splits(tmp_path):
    corpus = read_tagged(
        settings(
            validation_file=write(tmp_path, "a.conll", "a B-X\n"),
            test_file=write(tmp_path, "b.conll", "a B-Y\nb O\n"),
        )
    )
    assert list(corpus.splits) == ["validation", "test"]
    assert corpus.label_names == ["B-X", "B-Y", "O"]


def test_part_of_speech_tags_are_taken_as_they_are(tmp_path):
    path = write(tmp_path, "a.jsonl", jsonl({"tokens": ["a", "b"], "pos_tags": ["E-1", "x"]}))
    corpus = read_tagged(settings(train_file=path, task_name="pos"))
    assert (corpus.splits["train"].tags, corpus.scheme) == ([["E-1", "x"]], "none")


def test_iob1_is_converted_and_a_stray_i_is_counted(tmp_path):
    path = write(tmp_path, "iob1.conll", "a I-X\nb B-X\n")
    corpus = read_tagged(settings(train_file=path))
    assert (corpus.splits["train"].tags, corpus.scheme) == ([["B-X", "B-X"]], "IOB1")
    path = write(tmp_path, "iob2.conll", "a B-X\nb O\nc I-X\n")
    corpus = read_tagged(settings(train_file=path))
    assert (corpus.splits["train"].tags, corpus.num_repaired) == ([["B-X", "O", "B-X"]], 1)


# ---- columns


def test_columns_are_chosen_as_in_run_ner_or_by_name(tmp_path):
    rows = {"words": ["a"], "upos": ["B-X"], "tokens": ["b"], "chunk_tags": ["B-Y"]}
    rows |= {"Tokens": ["c"]}
    path = write(tmp_path, "a.jsonl", jsonl(rows))

    def read(**given):
        train = read_tagged(settings(train_file=path, **given)).splits["train"]
        return train.words[0][0], train.tags[0][0]

    assert read() == ("b", "B-X")
    assert read(task_name="chunk") == ("b", "B-Y")
    assert read(text_column_name="words", label_column_name="chunk_tags") == ("a", "B-Y")
    text = message(read_tagged, train_file=path, text_column_name="Words")
    assert (
        "no column 'Words'" in text and "'words', 'upos', 'tokens', 'chunk_tags', 'Tokens'" in text
    )
    assert "--text_column_name" in text
    assert "both come from" in message(read_tagged, train_file=path, label_column_name="tokens")


def test_a_csv_file_without_a_known_sentence_column_tells_the_flag(tmp_path):
    content = CSV.replace("sentence_id", "nr")
    found = refusal(tmp_path, "a.csv", content)
    assert "'nr', 'word', 'tag'" in found and "--sentence_column_name" in found
    path = write(tmp_path, "a.csv", content)
    corpus = read_tagged(settings(train_file=path, sentence_column_name="nr"))
    assert corpus.splits["train"].words == WORDS


# ---- words stay as they are


@pytest.mark.parametrize(
    "word", ["NA", "null", "None", "True", "1.0", "007", '"', "a,b", "a\nb", "x\u2028y", " ", ""]
)
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_words_are_never_changed(tmp_path, word, kind):
    cell = '"' + word.replace('"', '""') + '"'
    if kind == "csv":
        path = write(tmp_path, "a.csv", f"sentence_id,word,tag\n1,{cell},O\n")
    elif kind == "jsonl":
        path = write(tmp_path, "a.jsonl", jsonl(sentence([word], ["O"])))
    else:
        path = parquet(tmp_path, sentence([[word]], [["O"]]))
    assert read_tagged(settings(train_file=path)).splits["train"].words == [[word]]


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_sentences_without_words_are_skipped_and_counted(tmp_path, kind):
    rows = [sentence([], []), sentence(["a"], ["O"]), sentence([], [])]
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    path = (
        write(tmp_path, "a.jsonl", jsonl(*rows)) if kind == "jsonl" else parquet(tmp_path, columns)
    )
    train = read_tagged(settings(train_file=path)).splits["train"]
    assert (train.words, train.num_empty) == ([["a"]], 2)
    assert train.lines == [[2]]


# ---- what is refused

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
        table = pa.table(sentence([["a"], ["b"]], [[0], [number]]))
        metadata = {"huggingface": json.dumps({"info": {"features": FEATURES.to_dict()}})}
        path = tmp_path / "a.parquet"
        pq.write_table(table.replace_schema_metadata(metadata), path)
        text = message(read_tagged, train_file=str(path))
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


# ---- documents

TEXTS = ["one  line ", "NA", "x\u2028y\u0085z", '"quoted", and more']


def document_rows(texts):
    return jsonl(*({"text": text} for text in texts))


@pytest.mark.parametrize("kind", ["txt", "dos.txt", "jsonl", "csv", "parquet", "large.parquet"])
def test_documents_are_the_same_from_every_format_and_empty_ones_are_counted(tmp_path, kind):
    texts = [TEXTS[0], "", *TEXTS[1:], " \t"]
    path = tmp_path / f"a.{kind}"
    if kind.endswith("txt"):
        end = "\r\n" if kind == "dos.txt" else "\n"
        path.write_bytes(end.join(texts).encode())
    elif kind == "jsonl":
        path.write_text(document_rows(texts).replace('""', "null"))
    elif kind == "csv":
        cells = ['"' + text.replace('"', '""') + '"' for text in texts]
        path.write_text("text\n" + "\n".join(cells), encoding="utf-8")
    else:
        strings = pa.string() if kind == "parquet" else pa.large_string()
        pq.write_table(pa.table({"text": pa.array([t or None for t in texts], strings)}), path)
    read = read_documents(settings(train_file=str(path)))["train"]
    assert (read.texts, read.num_empty) == (TEXTS, 2)


def test_the_text_column_is_named_or_text_or_the_first(tmp_path):
    both = write(tmp_path, "a.jsonl", jsonl({"body": "b", "text": "t"}))
    first = write(tmp_path, "b.jsonl", jsonl({"body": "b", "title": "t"}))

    def read(path, **given):
        return read_documents(settings(train_file=path, **given))["train"].texts

    assert (read(both), read(first)) == (["t"], ["b"])
    assert read(both, text_column_name="body") == ["b"]
    assert "'body', 'text'" in message(read_documents, train_file=both, text_column_name="x")


def test_a_long_csv_document_is_read_whole(tmp_path):
    path = write(tmp_path, "a.csv", f"text\n{'word ' * 40_000}\n")
    assert len(read_documents(settings(train_file=path))["train"].texts[0]) == 200_000


def test_documents_come_from_a_folder_too(tmp_path):
    (tmp_path / "corpus").mkdir()
    write(tmp_path, "corpus/train.jsonl", document_rows(["a", " ", "b"]))
    write(tmp_path, "corpus/validation.jsonl", document_rows(["c"]))
    read = read_documents(settings(dataset_name=str(tmp_path / "corpus")))
    assert {name: split.texts for name, split in read.items()} == {
        "train": ["a", "b"],
        "validation": ["c"],
    }
    assert read["train"].num_empty == 1


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("a.txt", b"\x1f\x8b\x08\x00\x00", ":1: byte 0x00 at offset 3"),
        ("a.txt", b"one\ntwo \xff\n", ":2: byte 0xff at offset 8"),
        ("a.txt", "", ": the file is empty"),
        ("a.txt", " \n\n", ": no document (2 empty ones)"),
        ("a.jsonl", '{"text": "a"}\n{"text": 1}\n', ":2: 'text' is a number"),
        ("a.jsonl", '{"text": "a"}\n{"txt": "b"}\n', ":2: no key 'text'; found 'txt'"),
        ("a.jsonl", '{"text": "\\udc00"}\n', ":1: half of a surrogate pair"),
        ("a.csv", "text,x\na\n", ":2: number of cells: 1, in the header 2"),
    ],
)
def test_a_wrong_document_is_refused_with_its_line(tmp_path, name, content, found):
    assert refusal(tmp_path, name, content, read_documents).startswith(found)


def test_a_parquet_column_without_text_is_refused_with_its_type(tmp_path):
    text = message(read_documents, train_file=parquet(tmp_path, {"text": [1]}))
    assert "'text' is int64, not text" in text
