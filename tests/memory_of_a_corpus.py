"""Prints the highest anonymous memory for a corpus and for one four times as large, in MB.

The third number is by how much the file of the second is larger. It is a program, not a test: the
memory of a process that has done other things before says nothing.
"""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from source_files import settings
from tokenizers import Tokenizer, models, pre_tokenizers

from rawtrain.data import cache, text
from rawtrain.data.sources import read_documents

MB = 2**20
# many tokens and, in words that become one token each, many letters
LINE = "a b c d " * 10 + "x" * 1000 + " y" * 20
tokenizer = SimpleNamespace(
    backend_tokenizer=Tokenizer(models.WordLevel({"?": 0, "a": 1, "b": 2}, unk_token="?")),
    truncation_side="right",
    split_special_tokens=False,
)
tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()


def anonymous_mb():
    [line] = [n for n in Path("/proc/self/status").read_text().split("\n") if "RssAnon" in n]
    return int(line.split()[1]) / 1024


def write_corpus(path, num_lines):
    with path.open("w") as file:
        for number in range(num_lines):
            line = f"{number} {LINE}"
            file.write((line if path.suffix == ".txt" else json.dumps({"text": line})) + "\n")
    return path.stat().st_size / MB


def highest_memory(path, folder, line_by_line):
    highest = 0
    encode_chunk = text._encode_chunk

    def measured(backend, texts):
        nonlocal highest
        highest = max(highest, anonymous_mb())
        return encode_chunk(backend, texts)

    text._encode_chunk = measured
    documents = read_documents(settings(train_file=str(path)))["train"]
    for part in text.split_documents(documents.texts, 5):
        encoded = text.encode_documents(
            tokenizer, part, 32, line_by_line, num_workers=2, cache=cache.Cache(folder)
        )
        text.count_tokens(encoded.columns)
        for row in np.arange(0, len(encoded.columns), 1000):
            encoded.columns.row(row)["input_ids"].copy()
        highest = max(highest, anonymous_mb())
    text._encode_chunk = encode_chunk
    return highest


if __name__ == "__main__":
    # so little is held at once that growth shows
    text.CHUNK, text.COUNTED = 100, 2**14
    folder, kind, way = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    path = folder / f"corpus.{kind}"
    size = write_corpus(path, 8_000)
    small = highest_memory(path, folder / "cache", way == "lines")
    growth = write_corpus(path, 32_000) - size
    print(small, highest_memory(path, folder / "cache", way == "lines"), growth)
