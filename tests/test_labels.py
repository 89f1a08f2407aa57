"""Which labels a model has: its own if it knows those of the data, else new ones."""

import pytest
import torch
from conftest import save_model, write_conll
from safetensors.torch import load_file
from transformers import AutoConfig

from rawtrain import ner
from rawtrain.cli.command import settings_from
from rawtrain.config import NerSettings


def sentences(*types):
    """A sentence of an entity of two words for each type."""
    words = [["we", "saw", "Ada", "Nova"] for _ in types]
    return words, [["O", "O", f"B-{name}", f"I-{name}"] for name in types]


def run(folder, model, **more):
    """Run the command and return its output directory."""
    flags = {"model_name_or_path": model, "output_dir": folder, "use_cpu": "true"} | more
    flags |= {"max_steps": 1, "learning_rate": 1e-30, "disable_tqdm": "true"}  # as good as none
    ner.main(settings_from(NerSettings, [f"--{k}={v}" for k, v in flags.items()]))
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model of the types LOC and PER."""
    folder = tmp_path_factory.mktemp("trained") / "model"
    save_model(folder, "ner", ["we saw Ada Nova"], 40, num_labels=5)
    config = AutoConfig.from_pretrained(folder)
    names = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
    config.id2label, config.label2id = dict(enumerate(names)), {n: i for i, n in enumerate(names)}
    config.save_pretrained(folder)
    return folder


def head_and_labels(folder):
    weights, config = load_file(folder / "model.safetensors"), AutoConfig.from_pretrained(folder)
    return weights["classifier.weight"], [config.id2label[n] for n in range(config.num_labels)]


@pytest.mark.parametrize("types", [("DOSE", "DRUG"), ("DRUG",), ("LOC", "PER", "TIME")])
def test_a_head_for_other_labels_is_drawn_anew_whatever_their_number(
    types, trained, tmp_path, capsys
):
    data = write_conll(tmp_path / "data.conll", *sentences(*types))
    found, labels = head_and_labels(run(tmp_path / "out", trained, train_file=data))
    assert labels == [f"{letter}-{name}" for letter in "BI" for name in types] + ["O"]
    printed = capsys.readouterr()
    said = [line for line in printed.out.splitlines() if "a new one is drawn" in line]
    assert len(said) == 1 and "B-PER, I-PER, B-LOC" in said[0] and ", ".join(labels) in said[0]
    assert "trained from random weights: classifier.bias, classifier.weight" in printed.err
    kept, _ = head_and_labels(trained)
    assert found.shape[0] == len(labels) and found.std() == pytest.approx(0.02, rel=0.3)
    assert not torch.isin(found, kept).any()
    again, _ = head_and_labels(run(tmp_path / "again", trained, train_file=data))
    assert torch.equal(found, again)


@pytest.mark.parametrize("types", [("LOC", "PER"), ("PER",)])
def test_a_head_that_knows_all_labels_of_the_data_is_kept(types, trained, tmp_path, capsys):
    data = write_conll(tmp_path / "data.conll", *sentences(*types))
    found, labels = head_and_labels(run(tmp_path / "out", trained, train_file=data))
    kept, names = head_and_labels(trained)
    assert labels == names and torch.allclose(found, kept, rtol=0, atol=1e-20)
    assert capsys.readouterr().out.count("it keeps its head, for O, B-PER, I-PER, B-LOC") == 1
