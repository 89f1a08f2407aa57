"""What the tests of data sources share: small files, and the message of a refusal."""

import json
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Features, List, Value

from rawtrain.data.sources import read_tagged

WORDS = [["EU", "rejects"], ["Peter", "NA", "007"]]
TAGS = [["B-ORG", "O"], ["B-PER", "I-PER", "O"]]
NAMES = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG"]
CSV = "sentence_id,word,tag\n1,EU,B-ORG\n1,rejects,O\n2,Peter,B-PER\n2,NA,I-PER\n2,007,O\n"


def settings(**given):
    names = """dataset_name dataset_config_name train_file validation_file test_file
        text_column_name label_column_name sentence_column_name label_list repair_tags"""
    defaults = dict.fromkeys(names.split()) | {"task_name": "ner", "token_column": 0}
    return SimpleNamespace(**{**defaults, "tag_column": -1, "encoding": "utf-8", **given})


def write(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def jsonl(*objects):
    return "".join(json.dumps(o) + "\n" for o in objects)


def document_rows(texts):
    return jsonl(*({"text": text} for text in texts))


def sentence(words, tags):
    return {"tokens": words, "ner_tags": tags}


ROWS = [sentence(*pair) for pair in zip(WORDS, TAGS, strict=True)]


def parquet(tmp_path, columns, name="data.parquet"):
    path = tmp_path / name
    pq.write_table(pa.table(columns), path)
    return str(path)


def class_label_parquet(path, words=WORDS, tags=TAGS, names=NAMES):
    """Tags as numbers, their names in the metadata as `datasets` writes it."""
    numbers = [[names.index(tag) if tag in names else tag for tag in s] for s in tags]
    features = {"tokens": List(Value("string")), "ner_tags": List(ClassLabel(names=names))}
    schema = Features(features).arrow_schema
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table(sentence(words, numbers), schema=schema), path)
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
