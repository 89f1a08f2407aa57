"""Bad inputs, one by one: what is refused and with which words, what is accepted, what is counted.

The files of a case are read, encoded and described by the functions of its job, up to where
training would begin. `files` may call a function for its content. What is expected is one or more
of these: `refused`, a regular expression for the message; `words` (and `tags`) or `texts`, what was
read; `said`, a regular expression for the log and the printed tables.
"""

import json
import pickle
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from source_files import CSV, ROWS, TAGS, WORDS, class_label_parquet, jsonl, sentence

from rawtrain import mlm, ner
from rawtrain.cli.command import run, settings_from
from rawtrain.config import MlmSettings, NerSettings
from rawtrain.data.files import LONGEST_LINE
from rawtrain.data.sources import read_documents, read_tagged
from rawtrain.job import decide_work

CONLL = "EU B-ORG\nrejects O\n\nPeter B-PER\nNA I-PER\n007 O\n"
GOOD = jsonl(sentence(["a"], ["O"]))
IOB2 = "Ada B-PER\nran O\n"
LONG_LINE = "a b " * (LONGEST_LINE // 4 + 2**18)  # a block more, since blocks are looked at


@dataclass(frozen=True)
class Case:
    name: str  # what it is about, without the format of the file
    job: type  # NerSettings or MlmSettings
    files: dict  # the content of each; the first is the training data unless `flags` says else
    flags: str = ""
    refused: str | None = None
    words: list | None = None
    tags: list | None = None
    texts: list | None = None
    said: str | None = None
    changed: str | None = None  # what the file holds after it has been read

    @property
    def id(self):
        return f"{Path(next(iter(self.files))).suffix[1:]} {self.name}"

    @property
    def arguments(self):
        named = any(flag in self.flags for flag in ("_file", "--dataset_name"))
        data = [] if named else ["--train_file", next(iter(self.files))]
        return [*data, *self.flags.split(), "--use_cpu", "--disable_tqdm", "true"]


def case(name, content, job=NerSettings, file="a.conll", **expected):
    """A case with one file, or the several that `content` names."""
    return Case(name, job, content if type(content) is dict else {file: content}, **expected)


def json_case(name, line, **expected):
    """A wrong line among good ones: the third, since the second is blank."""
    return case(name, f"{GOOD}\n{line}\n{GOOD}", file="a.jsonl", **expected)


def csv_case(name, content, **expected):
    return case(name, content, file="a.csv", **expected)


def parquet_case(name, content, **expected):
    """`content`: the columns of a table, or what makes the file."""
    content = content if callable(content) else table(content)
    return case(name, content, file="a.parquet", **expected)


def text_case(name, content, file="a.txt", **expected):
    return case(name, content, MlmSettings, file, **expected)


def table(columns):
    return lambda path: pq.write_table(pa.table(columns), path)


def damaged(damage):
    """A good Parquet file after `damage` to its bytes."""

    def make(path):
        pq.write_table(pa.table(sentence(WORDS, TAGS)), path, compression="snappy")
        path.write_bytes(damage(path.read_bytes()))

    return make


def no_row_group(path):
    pq.ParquetWriter(path, pa.table(sentence(WORDS, TAGS)).schema).close()


def lzo(data):
    """The same file, said to be compressed with a codec that pyarrow does not have."""
    snappy, unknown = (bytes([0x15, codec, 0x16]) for codec in (2, 6))  # Thrift: the field `codec`
    assert snappy in data
    return data.replace(snappy, unknown)


def text_that_is_no_utf8(path):
    offsets, data = pa.array([0, 1, 2], pa.int32()).buffers()[1], pa.py_buffer(b"a\xff")
    strings = pa.StringArray.from_buffers(2, offsets, data)
    lists = pa.ListArray.from_arrays([0, 1, 2], strings)
    pq.write_table(pa.table({"text": strings, "tokens": lists, "ner_tags": lists}), path)


class Payload:
    def __reduce__(self):
        return Path.touch, (Path("the code was run"),)


def pickled_extension_type(path):
    extension = {"ARROW:extension:name": "arrow.py_extension_type"}
    extension["ARROW:extension:metadata"] = pickle.dumps(Payload())
    types = pa.list_(pa.string())
    schema = pa.schema([pa.field("tokens", types, metadata=extension), ("ner_tags", types)])
    pq.write_table(pa.table(sentence(WORDS, TAGS), schema=schema), path)


def dictionaries(path):
    large = pa.large_list(pa.dictionary(pa.int32(), pa.large_string()))
    columns = sentence(WORDS, TAGS).items()
    pq.write_table(pa.table({name: pa.array(rows, large) for name, rows in columns}), path)


VOID = ["\u200b", "\u00ad", "\ufeff", "\x01", "\0", "\ufffd", "\xa0", ""]  # no sub-word in BERT
CASES = [
    # CoNLL
    case("an empty file", "", refused=r"^a.conll: the file is empty$"),
    case("blank lines alone", "\n \n\t\n", refused="^a.conll: no sentence"),
    case("no sentence", "-DOCSTART- -X- O\n\n# nothing\n", refused="^a.conll: no sentence"),
    case("no file", {"b.conll": ""}, flags="--train_file a.conll",
         refused="--train_file a.conll does not exist"),
    case("a folder", Path.mkdir, refused="--train_file a.conll is a folder"),
    case("one column", "a O\nb\n", refused="^a.conll:2: number of columns: 1, on other"),
    case("only ever one column", "\n# c\na\nb\n", refused="^a.conll: has no tags\nExpected a"
         " tag after each word, behind a space or a tab; .* --tag_column. Only a --test_file may"),
    case("only _ for tags", {"a.conll": IOB2, "b.conll": "a X _\nb X _\n"},
         flags="--train_file a.conll --validation_file b.conll", refused="^b.conll: has no tags"),
    case("no second column where one is asked for", "a\n", flags="--tag_column 1",
         refused="^a.conll:1: number of columns, separated by spaces or tabs: 1; expected"),
    case("columns vary", "a O\nb x y O\nc O\n", refused="^a.conll:2: number of columns: 4, "
         "on other lines 2"),
    case("the first line differs", "a b O\nc O\nd O\n", refused="^a.conll:1: .*: 3, on other"),
    case("a problem 23 times", "a O\n" * 30 + "b\n" * 23,
         refused=r"^a.conll:31: .*: 1, on other lines 2 \(23 times\)\nEvery word has a line"),
    case("tabs and blanks", CONLL.replace("s O", "s\t  O "), words=WORDS, tags=TAGS),
    case("no line end at the end", CONLL.rstrip(), words=WORDS, tags=TAGS),
    case("CRLF", CONLL.replace("\n", "\r\n"), words=WORDS, tags=TAGS),
    case("CR", CONLL.replace("\n", "\r"), words=WORDS, tags=TAGS),
    case("byte order mark", "\ufeff" + CONLL, words=WORDS, tags=TAGS),
    case("UTF-16", CONLL.encode("utf-16"), refused="^a.conll:1: byte 0xff at offset 0 is not "
         "UTF-8 text; the file begins like UTF-16 text: read it with --encoding utf-16"),
    case("UTF-16 that is named", CONLL.encode("utf-16"), flags="--encoding utf-16", words=WORDS),
    case("an unknown encoding", CONLL, flags="--encoding utf-9",
         refused="^--encoding utf-9: not known"),
    case("an encoding that makes no text", CONLL, flags="--encoding hex",
         refused="^--encoding hex: not known"),
    case("Latin-1", "a O\nMüller O\n".encode("latin-1"),
         refused="^a.conll:2: byte 0xfc at offset 5 is not UTF-8 text; --encoding cp1252 reads "
         "'Müller O'$"),
    case("GBK", "北 B-LOC\n京 I-LOC\n很 O\n大 O\n".encode("gbk"),
         refused="^a.conll:1: byte 0xb1 at offset 0 is not UTF-8 text; --encoding gb18030 reads "
         "'北 B-LOC'$"),
    case("GBK that is named", "北 B-LOC\n京 I-LOC\n".encode("gbk"), flags="--encoding gb18030",
         words=[["北", "京"]]),
    case("an end within a character", "北 B-LOC\n京 I-LOC\n大".encode("gbk")[:-1],
         flags="--encoding gb18030", refused="^a.conll:3: byte 0xb4 .* is not GB18030 text; "),
    case("bytes of no encoding", b"a O\n\xff\xff\x81 O\n",
         refused="^a.conll:2: .*; its encoding is not known: name it with --encoding$"),
    case("UTF-16 without a mark", CONLL.encode("utf-16-le"), flags="--encoding utf-16",
         refused="^a.conll: UTF-16 stream does not start with BOM; choose another --encoding"),
    case("UTF-8 under another name", "Zoë O\n", flags="--encoding ascii",
         refused="^a.conll:1: .* is not ASCII text; most lines around it are UTF-8: leave out"),
    case("one line in another encoding", "Zoë O\n".encode() + b"M\xfcller O\n",
         refused="^a.conll:2: .* most lines around it are UTF-8: correct this one$"),
    case("Latin-1 after a mark", b"\xef\xbb\xbfM\xfcller O\n", refused="^a.conll:1: .*offset 4"),
    case("NUL", b"a O\nb\0 O\n", refused="^a.conll:2: byte 0x00 at offset 5 .*binary file"),
    csv_case("Latin-1 in a table", CSV.replace("EU", "Eü").encode("latin-1"),
             refused="^a.csv:2: byte 0xfc at offset"),
    case("Unicode line breaks", "a\u2028b O\nc\x85d O\ne\x0bf O\n",
         words=[["a\u2028b", "c\x85d", "e\x0bf"]]),
    case("I- that continues nothing", IOB2 + "Bo I-PER\n\nin B-LOC\nNY I-PER\n",
         tags=[["B-PER", "O", "B-PER"], ["B-LOC", "B-PER"]],
         said="2 I- that continue no entity, read as B-"),
    case("IOB1", "a I-X\nb B-X\n", tags=[["B-X", "B-X"]], said="tags: IOB1, converted to IOB2"),
    case("IOBES", "a S-X\nb O\n", tags=[["B-X", "O"]], said="tags: IOBES, converted to IOB2"),
    case("BILOU", "a B-X\nb L-X\n", tags=[["B-X", "I-X"]], said="tags: BILOU, converted"),
    case("odd tags", "a b-per\nb B_PER\nc B-\nd 0\ne b-per\n",
         refused=r"(?s)^a.conll:2: the tag 'B_PER' is not an IOB tag\na.conll:3: "
         r".*'B-'.*:4: .*'0'.*\nExpected O and tags that are all written like b-per"),
    case("a blank in a tag", {"a.jsonl": jsonl(sentence(["a"], ["O "]))},
         refused="^a.jsonl:1: the tag 'O ' is not an IOB tag"),
    case("a tag of 1 MB", "a " + "x" * 2**20, refused=r"^a.conll:1: the tag 'x+\.\.\.x+' is"),
    case("a tag that training lacks", {"a.conll": IOB2, "b.conll": "a O\n\nb B-LOC\n"},
         flags="--train_file a.conll --test_file b.conll",
         said=r"b.conll: the model cannot know LOC \(1\), counted as missed; .*--label_list"),
    case("no entity", "a O\nb O\n", said="a.conll: every word has the tag 'O'"),
    case("a sentence of 5000 words", "Ada B-PER\n" * 5000, said="longer than a row +1"),
    case("a sentence that is cut", "Ada B-PER\n" * 5000, flags="--stride 0",
         said=r"(?s)words cut off +4,954\nentities cut off +4,954"),
    case("words without a sub-word", {"a.jsonl": jsonl(sentence(["Ada", *VOID], ["O"] * 9))},
         said="words without a sub-word +8"),
    case("a word of 200 letters", f"{'x' * 200} O\n", words=[["x" * 200]]),
    case("a blank in a word", {"a.jsonl": jsonl(sentence(["New York", "ran"], ["B-LOC", "O"]))},
         words=[["New York", "ran"]], tags=[["B-LOC", "O"]], said="words +2\n"),
    case("a sentence twice", f"{IOB2}\n{IOB2}\nran O\n",
         said="a.conll: 1 of 3 sentences repeat another"),
    case("training data to validate", {"a.conll": IOB2, "b.conll": f"{IOB2}\nBo O\n"},
         flags="--train_file a.conll --validation_file b.conll",
         said="b.conll: 1 of 2 sentences are in the training data too"),
    case("a git-LFS pointer", "version https://git-lfs.github.com/spec/v1\noid sha256:1\n",
         refused="^a.conll: a git-LFS pointer, not the data itself; run `git lfs pull`"),
    parquet_case("a pointer to Parquet", lambda path: path.write_text("version https://git-lfs"),
                 refused="^a.parquet: a git-LFS pointer"),
    case("a web page", "\n<!DOCTYPE html>\n<html></html>\n", refused="^a.conll: an HTML page"),
    # JSON lines
    json_case("a line cut off", '{"tokens": ["a"], "ner_tags": ["O"]',
              refused="^a.jsonl:3: not JSON at column 36"),
    json_case("no object", '["a"]', refused=r"^a.jsonl:3: '\[\"a\"\]' is not a JSON object"),
    json_case("more words than tags", '{"tokens": ["a", "b"], "ner_tags": ["O"]}',
              refused="^a.jsonl:3: 2 words in 'tokens', but 1 tags in 'ner_tags'"),
    json_case("no tags", '{"tokens": ["a"]}',
              refused="^a.jsonl:3: no key 'ner_tags'; found 'tokens'"),
    case("30 lines and another file", {"a.jsonl": GOOD + '{"tokens": 1}\n' * 30, "b.jsonl": ""},
         flags="--train_file a.jsonl --test_file b.jsonl",
         refused=r"^a.jsonl:2: .* not a list \(30 times\)\n.*\nb.jsonl: the file is empty"),
    case("30 problems", {"a.jsonl": jsonl(*(sentence(["a"], ["O"] * n) for n in range(2, 32)))},
         refused=r"(?s)^a.jsonl:1: (.*\n){20}and 10 more\nExpected in each row"),
    case("more keys", {"a.jsonl": jsonl(*({"id": 7, **row} for row in ROWS))}, words=WORDS,
         said="a.jsonl: columns read: 'tokens', 'ner_tags'; not used: 'id'"),
    csv_case("more columns", "sentence_id,word,pos,tag\n1,Ada,NNP,B-PER\n", words=[["Ada"]],
             said="a.csv: columns read: 'sentence_id', 'word', 'tag'; not used: 'pos'"),
    json_case("a key twice", '{"tokens": ["a"], "tokens": ["b"], "ner_tags": ["O"]}',
              refused="^a.jsonl:3: the key 'tokens' occurs twice"),
    json_case("words in a string", '{"tokens": "a b", "ner_tags": ["O"]}',
              refused="^a.jsonl:3: 'tokens' is text, not a list; split it into words"),
    json_case("null for words", '{"tokens": null, "ner_tags": []}',
              refused="^a.jsonl:3: 'tokens' is null, not a list"),
    json_case("null as a word", '{"tokens": ["a", null], "ner_tags": ["O", "O"]}',
              refused="^a.jsonl:3: 'tokens' has null among the words"),
    json_case("a number as a word", '{"tokens": [1], "ner_tags": ["O"]}',
              refused="^a.jsonl:3: 'tokens' has a number among the words: 1"),
    json_case("a list as a word", '{"tokens": [["a"]], "ner_tags": ["O"]}',
              refused=r"^a.jsonl:3: 'tokens' has a list among the words: \['a'\]"),
    json_case("null as a tag", '{"tokens": ["a"], "ner_tags": [null]}',
              refused="^a.jsonl:3: 'ner_tags' has null among the tags"),
    json_case("true as a tag", '{"tokens": ["a"], "ner_tags": [true]}',
              refused="^a.jsonl:3: 'ner_tags' has true or false among the tags"),
    json_case("numbers and names", '{"tokens": ["a", "b"], "ner_tags": [1, "O"]}',
              refused="^a.jsonl:3: 'ner_tags' has a number and text among the tags"),
    json_case("numbers without names", '{"tokens": ["a"], "ner_tags": [1]}',
              refused="^a.jsonl:3: 'ner_tags' has numbers, and nothing says which names"),
    parquet_case("numbers in Parquet", sentence([["a"]], [[0]]),
                 refused="^a.parquet, row 1: 'ner_tags' has numbers, and nothing says which names"),
    *(
        parquet_case(f"number {number}", lambda path, number=number: class_label_parquet(
                     path, [["a"], ["b"]], [["O"], [number]]),
                     refused=f"^a.parquet, row 2: .* number {number}; the names have 0 to 4")
        for number in (-1, 5)
    ),
    json_case("half a surrogate pair", r'{"tokens": ["\ud800"], "ner_tags": ["O"]}',
              refused="^a.jsonl:3: half of a surrogate pair"),
    text_case("half a surrogate pair in a text", '{"text": "\\udc00"}\n', "a.jsonl",
              refused="^a.jsonl:1: half of a surrogate pair"),
    json_case("no words", '{"tokens": [], "ner_tags": []}', words=[["a"], ["a"]],
              said="sentences without words +1"),
    *(
        case(f"{name}", content, file="a.json", words=WORDS, tags=TAGS)
        for name, content in [
            ("an array", "\n" + json.dumps(ROWS)),
            ("an array over lines", json.dumps(ROWS, indent=2)),
            ("an array in an object", json.dumps({"version": "1.0", "data": ROWS}, indent=1)),
            ("an array under any name", json.dumps({"train": ROWS})),
        ]
    ),
    case("an array", json.dumps(ROWS), file="a.jsonl",
         refused=r"^a.jsonl: not one JSON object a line.* `jq -c '.\[\]' a.jsonl > "),
    text_case("a row with a list", '{"text": ["a"]}', "a.json",
              refused="^a.json:1: 'text' is a list"),
    text_case("an array of texts", '["a b", "c d"]', "a.json", texts=["a b", "c d"]),
    case("objects over lines", json.dumps(ROWS[0], indent=2) * 2, file="a.jsonl",
         refused=r"^a.jsonl: not one JSON object a line.* `jq -c . a.jsonl > "),
    case("mark, blank lines", "\ufeff\n" + jsonl(*ROWS) + "\n \n", file="a.jsonl", words=WORDS),
    case("an empty file", "", file="a.jsonl", refused="^a.jsonl: the file is empty"),
    case("blank lines alone", "\n\n", file="a.jsonl", refused="^a.jsonl: no JSON object"),
    json_case("NaN", '{"tokens": ["a"], "ner_tags": [NaN]}',
              refused="^a.jsonl:3: 'ner_tags' has NaN among the tags"),
    json_case("Infinity", '{"tokens": [-Infinity], "ner_tags": ["O"]}',
              refused="^a.jsonl:3: 'tokens' has a number among the words: -inf"),
    json_case("an endless line", f'{{"tokens": ["{LONG_LINE}"]}}',
              refused="^a.jsonl:3: a line of more than 16,777,216 bytes"),
    json_case("nested 100 deep", f'{{"tokens": [{"[" * 100}{"]" * 100}], "ner_tags": ["O"]}}',
              refused=r"^a.jsonl:3: 'tokens' has a list among the words: \[{7}\.\.\.\]{7}"),
    json_case("nested endlessly", "[" * 100_000, refused="^a.jsonl:3: maximum recursion depth"),
    *(
        Case(f"JSON lines {job.task}", job, {file: "\n" + jsonl(*ROWS, *ROWS) + "Text.\n"},
             refused=f"^{file}: 4 of the first 5 lines are JSON, .*: .jsonl for an object a line")
        for job in (NerSettings, MlmSettings) for file in ("a.txt", "a.conll")
    ),
    text_case("JSON over lines", json.dumps(ROWS, indent=1), refused="^a.txt: .* lines are JSON"),
    text_case("text in braces", '{a}\n"b": c\n[]\n"d"\n', texts=["{a}", '"b": c', "[]", '"d"']),
    # CSV
    csv_case("words that look like values",
             "sentence_id,word,tag\n" + "".join(
                 f"1,{word},O\n" for word in ("NA", "null", "None", "True", "1.0", "007")),
             words=[["NA", "null", "None", "True", "1.0", "007"]]),
    csv_case("a quote without end", CSV.replace("2,NA,I-PER", '2,"NA,I-PER'),
             refused="^a.csv:5: the row that begins here is not CSV"),
    csv_case("quotes within", CSV.replace("rejects", 're"j"ects').replace("EU", '"E"U'),
             refused="^a.csv:2: the row that begins here is not CSV"),
    csv_case("a cell is missing", CSV.replace("1,rejects,O", "1,rejects"),
             refused="^a.csv:3: number of cells: 2, in the header 3"),
    text_case("a text is missing", "text,x\na\n", "a.csv",
              refused="^a.csv:2: number of cells: 1, in the header 2"),
    csv_case("semicolons", CSV.replace(",", ";"), refused="^a.csv:1: one column, "
             "'sentence_id;word;tag'; cells must be separated by commas"),
    csv_case("no header", CSV.partition("\n")[2],
             refused="^a.csv: no column is named 'sentence_id', .*; the columns are '1' .text"),
    text_case("no header above texts", "a b\nc d\n", "a.csv", texts=["c d"],
              said="a.csv: columns read: 'a b'"),
    csv_case("a header alone", "sentence_id,word,tag\n",
             refused="^a.csv: expected a header and rows below it, found 1 rows"),
    csv_case("a name twice", CSV.replace("word", "tag"),
             refused="^a.csv:1: the header has 'tag' twice"),
    csv_case("a line end in a cell", 'sentence_id,word,tag\n1,"a\nb",O\n', words=[["a\nb"]]),
    csv_case("lines are counted as they stand", 'sentence_id,word,tag\n1,"a\r\nb",O\n\n1,c,x\n',
             refused="^a.csv:5: the tag 'x' is not an IOB tag"),
    csv_case("another name", CSV.replace("word", "w"), refused="^a.csv: no column is named "
             "'word', .*; the columns are 'sentence_id' .text., 'w' .text., .*; choose with --t"),
    csv_case("a sentence comes back", CSV.replace("2,007", "1,007"),
             refused="^a.csv:6: the sentence '1' comes back"),
    csv_case("no sentence id", CSV.replace("1,EU", ",EU"),
             refused="^a.csv:2: the first row has no sentence id in 'sentence_id'"),
    # Parquet
    parquet_case("not Parquet", lambda path: path.write_text(CONLL),
                 refused="^a.parquet: cannot be read as parquet: .*magic bytes"),
    *(
        parquet_case(f"{name}", damaged(damage), refused=f"^a.parquet: cannot be read as .*{found}")
        for name, damage, found in [
            ("no footer", lambda data: data[:-20], "magic bytes not found in footer"),
            ("a damaged page", lambda data: data[:20] + b"\xff" * 9 + data[29:], ""),
            ("unknown codec", lzo, "LZO"),
        ]
    ),
    *(
        parquet_case(f"{name}", sentence(words, tags), refused=f"^a.parquet{found}")
        for name, words, tags, found in [
            ("no lists", ["a"], [["O"]], ", row 1: 'tokens' is text, not a list; split it"),
            ("numbers", [[1]], [["O"]], ", row 1: 'tokens' has a number among the words: 1"),
            ("half tags", [["a"]], [[0.5]], ", row 1: 'ner_tags' has a number among the tags"),
            ("null in place of a list", [["a"], None], [["O"], []], ", row 2: 'tokens' is null"),
            ("null as a word", [["a", None]], [["O", "O"]], ", row 1: 'tokens' has null among"),
            ("lists in lists", [[["a"]]], [["O"]], ", row 1: 'tokens' has a list among"),
            ("more tags", [["a"]], [["O", "O"]], ", row 1: 1 words in 'tokens', but 2 tags"),
            ("no type", [[]], [[]], r": no sentence \(1 rows without words\)"),
        ]
    ),
    parquet_case("one column", {"tokens": [["a"]]}, refused="^a.parquet: no column is named "
                 "'ner_tags', .*; the columns are 'tokens' .a list of text.; choose with --label"),
    parquet_case("no text", {"text": [1]}, job=MlmSettings,
                 refused=r"^a.parquet, row 1: 'text' is a number\n.* --text_column_name"),
    *(
        parquet_case(f"no UTF-8, {job.command}", text_that_is_no_utf8, job=job,
                     refused="^a.parquet: .*Invalid UTF8 sequence at string index 1")
        for job in (NerSettings, MlmSettings)
    ),
    parquet_case("no row group", no_row_group, refused=r"^a.parquet: no sentence \(0 rows"),
    parquet_case("large lists of dictionaries", dictionaries, words=WORDS, tags=TAGS),
    parquet_case("a pickled type", pickled_extension_type, words=WORDS),  # and never unpickled
    # Files that change
    text_case("other documents", "a\nb\n", changed="a\nc\n",
              refused="^a.txt: has changed since it was first read; start again$"),
    text_case("fewer documents", "a\nb\n", changed="a\n", refused="^a.txt: has changed"),
    text_case("more documents", "a\nb\n", changed="a\nb\nc\n", refused="^a.txt: has changed"),
    # Documents
    text_case("an empty file", "", refused="^a.txt: the file is empty"),
    text_case("blank lines", " \n\n", refused=r"^a.txt: no document \(2 empty ones\)"),
    text_case("some blank lines", "a\n\n \nb\n", texts=["a", "b"], said="empty documents +2"),
    text_case("a document on one long line", "we met " * 40_000, said=r"documents +1\n"),
    text_case("an endless line", f"a\n{LONG_LINE}",
              refused="^a.txt:2: a line of more than 16,777,216 bytes.*`fold -s"),
    parquet_case("an endless document", {"text": ["a", LONG_LINE]}, job=MlmSettings,
                 refused="^a.parquet: document 2 has 17,825,792 characters"),
    *(
        text_case(f"{name}", content, file, refused=f"^{file}: {found}")
        for name, file, content, found in [
            ("zip", "a.txt", b"PK\x03\x04\x14\0", "a zip file, as .xlsx .*: unpack it"),
            ("Excel", "a.csv", b"PK\x03\x04\x14\0", "a zip file, as .xlsx"),
            ("old Word", "a.doc", b"\xd0\xcf\x11\xe0\xa1", "a file of an old Office"),
            ("RTF", "a.rtf", b"{\\rtf1\\ansi text}", "an RTF file: save it as .txt"),
            ("Parquet", "a.txt", b"PAR1\x15\0", "a Parquet file: its name must end in .parquet"),
            ("Arrow", "a.bin", b"ARROW1\0\0", "an Arrow file: its name must end in .arrow"),
            ("PDF", "a.txt", b"%PDF-1.7\nall of it ASCII", "a PDF file: extract its text first"),
            ("a page", "a.html", b"\xef\xbb\xbf<!-- saved -->\n<HTML lang=en>", "an HTML page"),
            ("a part of a page", "a.txt", b"<head><title>a</title>", "an HTML page"),
        ]
    ),
    text_case("a word of pages", "<header> is a tag\n", texts=["<header> is a tag"]),
    text_case("something binary", b"\x7fELF\2\1\0", refused="^a.txt:1: .* looks like a binary"),
    text_case("cp1252", b"It\x92s a \x93quoted\x94 line.\n",
              refused="^a.txt:1: .* --encoding cp1252 reads 'It’s a “quoted” line.'$"),
    text_case("cp1252 that is named", b"It\x92s\n", flags="--encoding cp1252", texts=["It’s"]),
    text_case("CESU-8", b"a\n\xed\xa0\xbd\xed\xb8\x80\n",
              refused="^a.txt:2: .*; half of a surrogate pair, as CESU-8 has"),
    text_case("joined files", "\ufeffwe\n\ufeffmet\n", texts=["we", "met"],
              said="byte order marks +1"),
    text_case("invalid UTF-8", b"one\ntwo \xff\n", refused="^a.txt:2: byte 0xff at offset 8"),
    text_case("a number for text", '{"text": "a"}\n{"text": 0}\n{"txt": ""}\n', "a.jsonl",
              refused="^a.jsonl:2: 'text' is a number\na.jsonl:3: no key 'text'; found 'txt'"),
    text_case("less than a block", "we met Ada\n", said=r"rows +1\ntokens +5\n"),
    text_case("nothing to mask", "\u200b\n\ufeff\u200b\n",
              refused="^a.txt: the tokenizer makes no token of this text.*nothing to mask"),
    text_case("special tokens in the text", "we met [MASK]\n[SEP] [MASK] today [PAD]\n",
              said=r"a.txt: .* as text: \[PAD\] \(1\), \[SEP\] \(1\), \[MASK\] \(2\)"),
    case("nothing to validate on", {"a.conll": IOB2, "b.conll": "\n\n"},
         flags="--train_file a.conll --validation_file b.conll --do_eval",
         refused="^b.conll: no sentence"),
    case("no validation data", IOB2, flags="--do_eval",
         refused="^--do_eval is given without --validation_file"),
    *(
        text_case(f"mlm_probability {value}", "a\n", flags=f"--mlm_probability {value}",
                  refused="^--mlm_probability is .*above 0 and up to 1")
        for value in ("0", "-0.1", "1.1", "nan")
    ),
    text_case("mlm_probability 1", "we met\n", flags="--mlm_probability 1", texts=["we met"]),
    text_case("a foreign script", "日本語 漢字\n", said=r"5 of 5 .* \(100.0%\) are unknown"),
    case("words of a foreign script", "日本 O\n語 O\n",
         said=r"3 of 3 tokens .* \(100.0%\) are unknown"),
]  # fmt: skip


GOOD_DATA = [
    case("ner", "we O\nmet O\nAda B-PER\n\nwe O\nmet O\nGrace B-PER\n"),
    text_case("mlm", "we met Ada today\nwe met Grace today\n"),
    text_case("mlm, an unknown character", "we met Ada 日\n"),
]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The working directory, so that messages have short paths."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(files):
    for name, content in files.items():
        if callable(content):
            content(Path(name))
        else:
            Path(name).write_bytes(content if type(content) is bytes else content.encode())


def read_and_encode(case, model_dir):
    """What a job does before it trains: the splits that it read."""
    settings = settings_from(case.job, [*case.arguments, "--model_name_or_path", model_dir])
    if case.job is NerSettings:
        corpus = read_tagged(settings)
        settings = decide_work(settings, corpus.splits)
        tokenizer = ner.make_tokenizer(settings, None)
        model, names = ner.make_model(settings, corpus, tokenizer)
        encoded = ner.encode(settings, corpus.splits, tokenizer, model, names)
        ner.show_data(corpus, corpus.splits, encoded, tokenizer, names)
        return corpus.splits
    splits = read_documents(settings)
    if case.changed:
        write({settings.train_file: case.changed})
    settings = decide_work(settings, splits)
    tokenizer = mlm.make_tokenizer(settings, splits)
    model = mlm.make_model(settings, tokenizer)
    encoded = mlm.encode(settings, splits, tokenizer, model)
    mlm.show_data(splits, encoded, tokenizer, settings)
    return splits


@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
def test_a_bad_input_is_refused_or_read_and_reported(case, model_dir, caplog, capsys):
    write(case.files)
    caplog.set_level("INFO", "rawtrain")
    if case.refused:
        with pytest.raises(ValueError) as error:
            read_and_encode(case, model_dir)
        assert re.search(case.refused, str(error.value))
        assert len(str(error.value)) < 3000
    else:
        split = next(iter(read_and_encode(case, model_dir).values()))
        if case.words:
            assert split.words == case.words
        if case.tags:
            assert split.tags == case.tags
        if case.texts:
            assert list(split.texts) == case.texts
        assert re.search(case.said or "", caplog.text + capsys.readouterr().out)
    assert not Path("the code was run").exists()


def test_a_file_that_may_not_be_read_is_refused(monkeypatch):
    def refuse(*_):  # not chmod: root reads everything
        raise PermissionError(13, "Permission denied")

    write({"a.conll": CONLL})
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ValueError, match=r"^a\.conll: cannot be read: Permission denied$"):
        read_tagged(NerSettings(train_file="a.conll"))


@pytest.mark.parametrize("case", GOOD_DATA, ids=[case.id for case in GOOD_DATA])
def test_good_data_is_read_without_a_warning(case, model_dir, caplog):
    write(case.files)
    read_and_encode(case, model_dir)
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == []


BY_ID = {case.id: case for case in CASES}
EACH_KIND = """conll one column; jsonl a line cut off; csv a quote without end
    parquet unknown codec; txt zip; txt nothing to mask"""


def check_mistake(case, code, err):
    told = [line.removeprefix("error: ") for line in err.splitlines() if line.startswith("error: ")]
    assert code == 2
    assert re.search(case.refused, "\n".join(told))
    assert "Traceback" not in err
    assert not list(Path().glob("*_output"))


@pytest.mark.parametrize("kind", re.split("; |\n +", EACH_KIND))
def test_the_command_answers_with_exit_code_2_and_no_traceback(kind, model_dir, capsys):
    case = BY_ID[kind]
    write(case.files)
    settings = settings_from(case.job, [*case.arguments, "--model_name_or_path", model_dir])
    with pytest.raises(SystemExit) as exit_:
        run(ner.main if case.job is NerSettings else mlm.main, settings)
    check_mistake(case, exit_.value.code, capsys.readouterr().err)


@pytest.mark.slow
def test_the_shell_sees_the_same(model_dir):
    case = BY_ID["jsonl numbers without names"]
    write(case.files)
    command = [sys.executable, "-m", "rawtrain.ner", *case.arguments]
    done = subprocess.run(
        [*command, "--model_name_or_path", model_dir], capture_output=True, text=True
    )
    check_mistake(case, done.returncode, done.stderr)
    assert done.stdout == ""
