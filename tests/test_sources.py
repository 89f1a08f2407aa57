"""Every source gives the same sentences with the same labels, and keeps every word."""

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from source_files import (
    CSV,
    NAMES,
    ROWS,
    TAGS,
    WORDS,
    class_label_parquet,
    document_rows,
    jsonl,
    message,
    parquet,
    refusal,
    sentence,
    settings,
    write,
)

from rawtrain.data.sources import read_documents, read_tagged

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
    "dos.jsonl": lambda path: path.write_text(
        "\ufeff" + jsonl(*ROWS), encoding="utf-8", newline="\r\n"
    ),
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


@pytest.fixture(autouse=True)
def quiet_and_private_datasets(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


@pytest.mark.parametrize("name", SOURCES)
def test_every_format_gives_the_same_sentences(tmp_path, name):
    SOURCES[name](tmp_path / name)
    corpus = read_tagged(settings(train_file=str(tmp_path / name)))
    assert corpus.splits["train"].words == WORDS
    assert corpus.splits["train"].tags == TAGS
    assert (corpus.scheme, corpus.num_repaired) == ("IOB2", 0)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("columns.conll", ":6"),
        ("plain.csv", ":6"),
        ("plain.jsonl", ":2"),
        ("plain.parquet", ", row 2"),
    ],
)
def test_every_format_knows_where_a_word_stands(tmp_path, name, place):
    SOURCES[name](tmp_path / name)
    train = read_tagged(settings(train_file=str(tmp_path / name))).splits["train"]
    assert train.words[1][2] == "007"
    assert train.place(1, 2) == f"{tmp_path / name}{place}"


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


def test_settings_without_data_are_refused():
    assert "--train_file" in message(read_tagged)


def test_a_missing_data_set_is_refused_by_its_name(tmp_path):
    assert "'/nowhere/corpus'" in message(read_tagged, dataset_name="/nowhere/corpus")
    class_label_parquet(tmp_path / "corpus" / "train.parquet")
    text = message(read_tagged, dataset_name=str(tmp_path / "corpus"), dataset_config_name="xx")
    assert "'xx'" in text and "default" in text


def test_documents_come_from_a_folder_too(tmp_path):
    (tmp_path / "corpus").mkdir()
    write(tmp_path, "corpus/train.jsonl", document_rows(["a", " ", "b"]))
    write(tmp_path, "corpus/validation.jsonl", document_rows(["c"]))
    read = read_documents(settings(dataset_name=str(tmp_path / "corpus")))
    assert {name: list(split.texts) for name, split in read.items()} == {
        "train": ["a", "b"],
        "validation": ["c"],
    }
    assert read["train"].left_out == {"empty documents": 1}


def test_labels_are_declared_names_in_their_order_or_the_sorted_tags_of_train(tmp_path):
    declared = read_tagged(settings(train_file=class_label_parquet(tmp_path / "a.parquet")))
    assert declared.label_names == NAMES
    plain = read_tagged(settings(train_file=write(tmp_path, "a.jsonl", jsonl(*ROWS))))
    assert plain.label_names == ["B-ORG", "B-PER", "I-PER", "O"]


def test_declared_names_of_another_scheme_give_way_to_iob2(tmp_path):
    iobes = ["S-PER", "O"]
    path = class_label_parquet(tmp_path / "a.parquet", [["a", "b"]], [iobes], iobes)
    corpus = read_tagged(settings(train_file=path))
    assert (corpus.scheme, corpus.label_names) == ("IOBES", ["B-PER", "O"])
    assert corpus.splits["train"].tags == [["B-PER", "O"]]


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


def test_a_csv_file_without_a_known_sentence_column_is_refused_with_the_flag(tmp_path):
    content = CSV.replace("sentence_id", "nr")
    found = refusal(tmp_path, "a.csv", content)
    assert "'nr', 'word', 'tag'" in found and "--sentence_column_name" in found
    path = write(tmp_path, "a.csv", content)
    corpus = read_tagged(settings(train_file=path, sentence_column_name="nr"))
    assert corpus.splits["train"].words == WORDS


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
    assert (train.words, train.left_out) == ([["a"]], {"sentences without words": 2})
    assert train.lines == [[2]]
