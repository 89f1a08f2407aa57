"""study/zoo.py on a few architectures, and what it says of a program that hides a difference."""

import subprocess
import sys

import pytest
from transformers import AutoConfig

from rawtrain.study.tiny import tiny_tokenizer
from rawtrain.study.zoo import HEADS, NAMES, look_at, write_models

TELLS_NOTHING = """
from rawtrain.models import loading
loading.OTHER_BITS = {}
"""


def study(names, broken=""):
    """The exit code, the rows of the table by architecture and job, and the verdict."""
    program = f"{broken}\nfrom rawtrain.study import zoo\nzoo.main({names})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    rows = {tuple(line.split()[:2]): " ".join(line.split()[2:]) for line in lines[1:-1]}
    return done.returncode, rows, lines[-1]


def test_the_zoo_has_forty_architectures_and_more_each_with_a_head_for_a_job():
    assert len(set(NAMES)) == len(NAMES) >= 40
    assert all(any(name in heads for heads in HEADS.values()) for name in NAMES)


def test_a_model_is_made_for_each_job_with_dropout_and_without_or_it_is_told_why_not(tmp_path):
    tiny_tokenizer().save_pretrained(tmp_path / "data" / "model")
    failures = write_models(tmp_path, ["albert", "gpt2", "canine"])
    made = {(file.parts[-2], file.parts[-3]) for file in tmp_path.glob("*/*/config.json")}
    assert made == {("albert", "ner"), ("albert", "mlm"), ("gpt2", "ner"), ("canine", "ner")}
    for folder, dropout in (("albert", 0.1), ("albert/still", 0)):
        config = AutoConfig.from_pretrained(tmp_path / "ner" / folder)
        assert config.hidden_dropout_prob == dropout
    assert failures == {}
    cells, is_well = look_at("bert", "ner", "not made: KeyError: 'x'", tmp_path)
    assert cells == ["bert", "ner", "", "", "", "", "not made: KeyError: 'x'"] and not is_well


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="it forks")
def test_a_few_architectures_train_resume_and_load_as_the_table_says():
    code, rows, verdict = study(["bert", "big_bird", "longformer", "reformer", "bros"])
    assert (code, verdict) == (0, "5 architectures, 8 models: all is well"), rows
    assert rows["bert", "ner"].startswith("packed same bits")
    assert rows["big_bird", "mlm"].startswith("padded same bits 0e+00 same the model raises")
    assert rows["longformer", "ner"].startswith("padded same bits 0e+00 same the model raises")
    assert rows["reformer", "mlm"].endswith("it draws its hashes from a seed of its own")
    refused = "refused: its BrosForTokenClassification does not run on token ids: ValueError: You"
    assert rows["bros", "ner"].startswith(refused)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="it forks")
def test_a_difference_that_was_not_announced_is_no_good_end():
    code, rows, verdict = study(["bert", "reformer"], TELLS_NOTHING)
    assert (code, verdict) == (1, "2 architectures, 3 models: NOT all is well: reformer mlm"), rows
    assert "other bits" in rows["reformer", "mlm"]
