"""The tag command: for people and for programs, from arguments, a file and standard input."""

import io
import json
import re
import subprocess
import sys

import pytest
import torch
from conftest import tagged_sentences
from transformers import BertConfig, BertForTokenClassification

from rawtrain import Tagger
from rawtrain.data.raw_text import split_words
from rawtrain.data.small_bert import train_small_tokenizer
from rawtrain.tag import main

TEXT = "we met Ada Nova today"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model that finds the entities of `TEXT` by its weights: a direction for each label."""
    words, _ = tagged_sentences(40)
    tokenizer = train_small_tokenizer([" ".join(sentence) for sentence in words], vocab_size=400)
    labels = ["O", "B-PER", "I-PER"]
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
        intermediate_size=8, max_position_embeddings=40, id2label=dict(enumerate(labels)),
    )  # fmt: skip
    torch.manual_seed(0)
    model = BertForTokenClassification(config)
    with torch.no_grad():
        embeddings = model.bert.embeddings.word_embeddings.weight
        embeddings[:] = torch.eye(8)[0]
        for word, label in (("Ada", 1), ("Nova", 2)):
            embeddings[tokenizer.convert_tokens_to_ids(word)] = torch.eye(8)[label]
        model.classifier.weight[:] = 5 * torch.eye(8)[:3]
    folder = tmp_path_factory.mktemp("tagger")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_entities_are_marked_and_listed_with_offsets_for_people(folder, capsys):
    main([folder, TEXT, "nobody", "--use_cpu"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "we met [Ada Nova | PER] today"
    assert lines[1].split()[0] == "7-15" and lines[1].split()[2:] == ["PER", "Ada", "Nova"]
    assert lines[2:] == ["nobody"]


def test_json_has_one_object_a_line_with_the_entities_of_the_tagger(folder, capsys):
    main(["--json", folder, TEXT, "été 👩 Ada"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    expected = Tagger.from_pretrained(folder)([TEXT, "été 👩 Ada"])
    assert [line["entities"] for line in lines] == expected
    assert [line["text"] for line in lines] == [TEXT, "été 👩 Ada"]
    assert lines[1]["entities"][0]["start"] == 6  # an emoji is one code point
    assert set(expected[0][0]) == {"entity_group", "score", "word", "start", "end"}


@pytest.mark.parametrize("way", ["file", "standard input"])
def test_a_line_is_a_text_and_an_empty_line_one_without_entities(
    way, folder, tmp_path, capsys, monkeypatch
):
    content = f"{TEXT}\n\nAda é\n".encode()
    arguments = ["--json", folder]
    if way == "file":
        (tmp_path / "texts.txt").write_bytes(content)
        arguments += ["--file", str(tmp_path / "texts.txt")]
    else:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), "ascii"))
    main(arguments)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["text"] for line in lines] == [TEXT, "", "Ada é"]
    assert [len(line["entities"]) for line in lines] == [1, 0, 1]


def test_control_characters_of_a_text_do_not_reach_the_terminal(folder, capsys):
    main([folder, "\x1b[2J Ada\x07"])
    out = capsys.readouterr().out
    assert "\\x1b[2J [Ada | PER]\\x07" in out and "\x1b" not in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["no-such-folder/x/", TEXT], "no such directory"),
        (["FOLDER", "--file", "missing.txt"], "no such file"),
        (["FOLDER", TEXT, "--file", "texts.txt"], "leave one of them out"),
        (["FOLDER", TEXT, "--batch_size", "0"], "batch size is 0"),
        (["FOLDER", "a \udcff"], "half of a surrogate pair"),
        (["FOLDER", TEXT, "--nonsense"], "unrecognized arguments: --nonsense"),
    ],
)
def test_a_mistake_is_answered_with_a_message_and_code_2(arguments, said, folder, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([folder if argument == "FOLDER" else argument for argument in arguments])
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


def test_standard_input_that_is_no_utf8_is_refused(folder, capsys, monkeypatch):
    for wrong, advice in ((b"ab\xffc\n", "not known"), (b"B\xf6rse\n", "cp1252 reads 'Börse'")):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\n" + wrong), "utf-8"))
        with pytest.raises(SystemExit) as stopped:
            main([folder])
        assert stopped.value.code == 2
        told = capsys.readouterr().err
        assert re.search(f"standard input:2: byte .* is not UTF-8 text; .*{advice}", told)


def test_text_in_another_encoding_is_tagged(folder, capsys, monkeypatch, tmp_path):
    (tmp_path / "a.txt").write_bytes("Börse\n".encode("cp1252"))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"B\xf6rse\n"), "utf-8"))
    for given in ([], ["--file", str(tmp_path / "a.txt")]):
        main([folder, "--encoding", "cp1252", "--json", *given])
        assert json.loads(capsys.readouterr().out)["text"] == "Börse"


def test_the_text_at_fault_is_named_if_a_tokenizer_panics(folder, tmp_path, capsys, monkeypatch):
    class PanicException(BaseException):  # as pyo3 names it, and as little an Exception
        pass

    def panicking(text, *learnt):
        if text == "bad":
            raise PanicException("retry-limit-in-match over")
        return split_words(text, *learnt)

    monkeypatch.setattr("rawtrain.use.tagger.split_words", panicking)
    (tmp_path / "texts.txt").write_text(f"{TEXT}\n" * 6 + "bad\n" + TEXT)
    with pytest.raises(SystemExit) as stopped:
        main([folder, "--file", str(tmp_path / "texts.txt"), "--use_cpu"])
    assert stopped.value.code == 2
    assert "text 7 cannot be tagged: retry-limit-in-match over" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("command", ["tag", "fill"])
def test_help_is_answered_without_torch(command):
    code = f"import sys; sys.argv = ['x', '--help']; import rawtrain.{command} as c\n"
    code += "try: c.main()\nexcept SystemExit as end: assert end.code == 0\n"
    code += "assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "model_dir" in done.stdout
