"""Every source gives the same sentences with the same labels, and keeps every word."""

import csv
import io
import json
import zipfile
from types import SimpleNamespace

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value
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


def arrow(path, open_writer):
    table = pa.table(sentence(WORDS, TAGS))
    with open_writer(path, table.schema) as writer:
        writer.write_table(table)


def saved():
    features = {"tokens": List(Value("string")), "ner_tags": List(ClassLabel(names=NAMES))}
    return Dataset.from_dict(sentence(WORDS, TAGS), Features(features))


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
    "plain.ndjson": lambda path: path.write_text(jsonl(*ROWS)),
    "array.json": lambda path: path.write_text(json.dumps(ROWS)),
    "stream.arrow": lambda path: arrow(path, pa.ipc.new_stream),
    "file.arrow": lambda path: arrow(path, pa.ipc.new_file),
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


def test_a_saved_data_set_is_read_with_its_splits(tmp_path):
    parts = DatasetDict(train=saved(), validation=saved())
    parts.save_to_disk(tmp_path / "both")
    corpus = read_tagged(settings(dataset_name=str(tmp_path / "both")))
    assert list(corpus.splits) == ["train", "validation"]
    assert (corpus.splits["validation"].words, corpus.label_names) == (WORDS, NAMES)
    saved().save_to_disk(tmp_path / "one")
    corpus = read_tagged(settings(dataset_name=str(tmp_path / "one")))
    assert (list(corpus.splits), corpus.splits["train"].tags) == (["train"], TAGS)


def test_only_the_files_that_a_saved_data_set_lists_are_read(tmp_path):
    saved().save_to_disk(tmp_path / "one", num_shards=2)
    saved().save_to_disk(tmp_path / "one")  # leaves the two files of before
    corpus = read_tagged(settings(dataset_name=str(tmp_path / "one")))
    assert corpus.splits["train"].words == WORDS


OUTSIDE = {  # what names a file outside the folder, which lies beside it
    "absolute": lambda folder: card(folder, folder.parent / "secret.jsonl"),
    "above": lambda folder: card(folder, "../secret.jsonl"),
    "glob": lambda folder: card(folder, "../*.jsonl"),
    "URL": lambda folder: card(folder, f"file://{folder.parent}/secret.jsonl"),
    "zip": lambda folder: card(folder, f"zip://secret.jsonl::{folder.parent}/secret.zip"),
    "link": lambda folder: (folder / "train.jsonl").symlink_to(folder.parent / "secret.jsonl"),
    "folder": lambda folder: linked_folder(folder),
    "saved": lambda folder: saved_elsewhere(folder),
}


def card(folder, path):
    write(folder, "README.md", f"---\nconfigs:\n- config_name: a\n  data_files: {path}\n---\n")


def linked_folder(folder):
    (folder / "data").symlink_to(folder.parent / "more")
    card(folder, "data/train.jsonl")


def saved_elsewhere(folder):
    saved().save_to_disk(folder)
    (folder / "data-00000-of-00001.arrow").rename(folder.parent / "secret.arrow")
    state = (folder / "state.json").read_text()
    write(folder, "state.json", state.replace("data-00000-of-00001.arrow", "../secret.arrow"))


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_folder_that_names_data_outside_itself_is_refused(tmp_path, name):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "more").mkdir()
    for file in ("secret.jsonl", "more/train.jsonl"):
        write(tmp_path, file, jsonl(*ROWS))
    with zipfile.ZipFile(tmp_path / "secret.zip", "w") as packed:
        packed.write(tmp_path / "secret.jsonl", "secret.jsonl")
    OUTSIDE[name](tmp_path / "corpus")
    text = message(read_tagged, dataset_name=str(tmp_path / "corpus"))
    assert "it names data outside itself, " in text and "\n" not in text


def test_links_within_a_folder_and_of_the_hubs_cache_are_followed(tmp_path):
    snapshot = tmp_path / "datasets--a--b" / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    write(tmp_path / "datasets--a--b", "blob", jsonl(*ROWS))
    (snapshot / "train.jsonl").symlink_to("../../blob")
    corpus = read_tagged(settings(dataset_name=str(snapshot)))
    assert corpus.splits["train"].words == WORDS


def test_a_remote_file_does_not_lie_in_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = SimpleNamespace(data_files={"train": ["https://example.org/train.parquet"]})
    builder = SimpleNamespace(config=config)
    monkeypatch.setattr("datasets.load_dataset_builder", lambda *_: builder)
    assert "names data outside itself, https:" in message(read_tagged, dataset_name=".")


def test_a_data_set_of_the_hub_names_files_of_the_hub_alone(tmp_path, monkeypatch):
    class_label_parquet(tmp_path / "corpus" / "train.parquet")
    builder = datasets.load_dataset_builder(str(tmp_path / "corpus"))
    monkeypatch.setattr("datasets.load_dataset_builder", lambda *_: builder)
    assert "names data outside itself" in message(read_tagged, dataset_name="some/corpus")


def named_split(tmp_path, split):
    """A folder whose card gives its only split a name of its own."""
    folder = tmp_path / f"corpus_{split}"
    class_label_parquet(folder / "some.parquet")
    data_files = f"data_files:\n  - {{split: {split}, path: some.parquet}}"
    write(folder, "README.md", f"---\nconfigs:\n- config_name: default\n  {data_files}\n---\n")
    return str(folder)


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["1", "2", "12"], "'1', are numbers; choose other words with --token_column"),
        (["1-1", "1-2"], "'1-1', are numbers"),
        (["s1_t1", "s1_t2"], "'s1_t1', are numbers"),
        (["bc/cctv/00/cctv_0000"], "'bc/cctv/00/cctv_0000', are paths"),
        (["EU NNP", "Bonn NNP"], "'EU NNP', hold a space; separate all columns by tabs"),
        (["en:Paris", "en:is"], "'en:Paris', begin with a language, as in raw WikiANN: remove it"),
    ],
)
def test_words_of_a_wrong_column_are_refused(tmp_path, words, what):
    rows = "".join(f"{words[n % len(words)]}\tO\n" for n in range(12))
    assert f":1: all words, such as {what}" in refusal(tmp_path, "a.conll", f"{rows}\n")
    wrong = jsonl({"tokens": words * 10, "ner_tags": ["O"] * 10 * len(words)})
    assert f", such as {what}" in refusal(tmp_path, "a.jsonl", wrong)


def test_sentence_ids_that_begin_anew_in_each_document_are_other_sentences(tmp_path):
    rows = "d1,0,EU,B-ORG\nd1,0,rejects,O\nd2,0,Ada,B-PER\nd2,1,ran,O\nd3,1,No,O\n"
    path = write(tmp_path, "a.csv", f"doc_id,sentence_id,word,tag\n{rows}")
    words = read_tagged(settings(train_file=path)).splits["train"].words
    assert words == [["EU", "rejects"], ["Ada"], ["ran"], ["No"]]


@pytest.mark.parametrize("split", ["validation", "dev", "val", "valid"])
def test_a_split_named_dev_or_val_is_the_validation_split(tmp_path, split):
    corpus = read_tagged(settings(dataset_name=named_split(tmp_path, split)))
    assert list(corpus.splits) == ["validation"]


def test_a_data_set_without_a_known_split_is_refused_with_those_it_has(tmp_path):
    text = message(read_tagged, dataset_name=named_split(tmp_path, "extra"))
    assert "has the splits 'extra'; expected train, validation (or dev, val, valid) or test" in text


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
    assert "there is no column 'Words'; the columns are 'words' (a list of text), 'upos'" in text
    assert "choose with --text_column_name" in text
    text = message(read_tagged, train_file=path, label_column_name="tokens")
    assert "there is no second column 'tokens'" in text


@pytest.mark.parametrize(
    "names",
    [
        "tokens ner_tags",
        "words ner",
        "Text labels",
        "tokens tags",
        "word ner_labels",
        "words marken",
    ],
)
@pytest.mark.parametrize("others", [{}, {"id": "7", "pos_tags": ["NN"] * 3, "n": 1}])
def test_words_and_tags_are_found_by_name_or_by_what_they_hold(tmp_path, names, others):
    text, label = names.split()
    rows = [{**others, label: row["ner_tags"], text: row["tokens"]} for row in ROWS]
    train = read_tagged(settings(train_file=write(tmp_path, "a.jsonl", jsonl(*rows)))).splits
    assert (train["train"].words, train["train"].tags) == (WORDS, TAGS)


def test_parts_of_speech_are_not_taken_for_the_words_of_a_text_that_is_one_string(tmp_path):
    row = {"Sentence": "Many of them left", "POS": ["NNS", "IN"] * 2, "Tag": ["O"] * 4}
    found = refusal(tmp_path, "a.jsonl", jsonl(row, row))
    assert "'Sentence' (text), 'POS' (a list of text)" in found and "--text_column_name" in found


def test_a_list_of_tags_is_not_taken_for_words(tmp_path):
    rows = [{"marken": row["ner_tags"], "satz": row["tokens"], "n": 1} for row in ROWS]
    train = read_tagged(settings(train_file=write(tmp_path, "a.jsonl", jsonl(*rows)))).splits
    assert (train["train"].words, train["train"].tags) == (WORDS, TAGS)


def test_words_and_tags_that_cannot_be_found_are_refused_once_with_what_there_is(tmp_path):
    row = {"id": "0", "sentence": "Anna lives", "x": ["c", "d"], "y": ["a", "b"], "n": None}
    assert refusal(tmp_path, "a.jsonl", jsonl(*[row] * 30)) == (
        ": no column is named 'tokens', 'words', 'text', 'token', 'word'; no column is named "
        "'ner_tags', 'ner', 'ner_labels', 'tags', 'labels', 'label', 'upos'; the columns are "
        "'id' (text), 'sentence' (text), 'x' (a list of text), 'y' (a list of text), 'n' (null); "
        "choose with --text_column_name and --label_column_name"
    )


TEXT = {"id": 1, "text": "Anna lives in Bonn."}
SPANS = {
    "doccano": TEXT | {"label": [[0, 4, "PER"]]},
    "doccano entities": TEXT | {"entities": [{"id": 7, "label": "PER", "start_offset": 0}]},
    "prodigy": {
        "text": "Anna lives",
        "tokens": [{"text": "Anna", "start": 0, "end": 4, "id": 0}],
        "spans": [{"start": 0, "end": 4, "token_start": 0, "token_end": 0, "label": "PER"}],
    },
    "tokens beside spans": {"tokens": ["Anna", "lives"], "spans": [{"start": 0, "end": 4}]},
    "label studio": {
        "annotations": [{"result": [{"value": {"start": 0, "end": 4, "labels": ["PER"]}}]}],
        "data": {"text": "Anna lives in Bonn."},
    },
    "label studio, short": TEXT | {"label": [{"start": 0, "end": 4, "labels": ["PER"]}]},
    "spacy": ["Anna lives", {"entities": [[0, 4, "PER"]]}],
}


@pytest.mark.parametrize("name", SPANS)
@pytest.mark.parametrize("file", ["a.jsonl", "a.json"])
def test_character_spans_are_refused_by_name_and_once(tmp_path, name, file):
    content = jsonl(SPANS[name]) * 3 if file == "a.jsonl" else json.dumps([SPANS[name]] * 3)
    found = refusal(tmp_path, file, content)
    assert found.startswith(": character spans; expected in each row a list of words and a list of")
    assert "\n" not in found


@pytest.mark.parametrize("file", ["a.csv", "a.tsv"])
def test_lists_written_as_text_are_read(tmp_path, file):
    separator = {"a.csv": ",", "a.tsv": "\t"}[file]
    content = io.StringIO()
    writer = csv.writer(content, delimiter=separator)
    writer.writerow(["tokens", "ner_tags"])
    writer.writerow([str(WORDS[0]), str(TAGS[0])])  # as Python shows it
    writer.writerow([json.dumps(WORDS[1]), json.dumps(TAGS[1])])
    train = read_tagged(settings(train_file=write(tmp_path, file, content.getvalue()))).splits
    assert (train["train"].words, train["train"].tags) == (WORDS, TAGS)


@pytest.mark.parametrize(
    "cell", ["['Anna' 'lives']", "['Anna', x]", "['Anna', ['lives']]", "[" * 1000, "['\\x']"]
)
def test_a_list_without_commas_or_of_anything_else_is_refused(tmp_path, cell):
    content = f'tokens,ner_tags\n"[\'Bo\']","[\'O\']"\n"{cell}","[\'O\']"\n'
    found = refusal(tmp_path, "a.csv", content)
    assert found.startswith(":3: 'tokens' is text, not a list; split it into words\nExpected in")


def test_a_file_of_tabs_is_a_table_if_it_names_sentences_and_conll_otherwise(tmp_path):
    for content in (CSV.replace(",", "\t"), COLUMNS.replace(" ", "\t")):
        train = read_tagged(settings(train_file=write(tmp_path, "a.tsv", content))).splits["train"]
        assert (train.words, train.tags) == (WORDS, TAGS)
    path = write(tmp_path, "a.tab", CSV.replace(",", "\t").replace("sentence_id", "nr"))
    train = read_tagged(settings(train_file=path, sentence_column_name="nr")).splits["train"]
    assert (train.words, train.tags) == (WORDS, TAGS)


def test_a_csv_file_without_a_known_sentence_column_is_refused_with_the_flag(tmp_path):
    content = CSV.replace("sentence_id", "nr")
    found = refusal(tmp_path, "a.csv", content)
    assert "'nr' (text), 'word' (text), 'tag' (text); choose with --sentence_column_name" in found
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
