"""Which labels a model has: its own if it knows those of the data, else new ones."""

import json

import numpy as np
import pytest
import torch
from conftest import save_model, write_conll
from safetensors.torch import load_file
from transformers import AutoConfig

from rawtrain import Tagger, ner
from rawtrain.cli.command import settings_from
from rawtrain.config import NerSettings
from rawtrain.data.conll import read_conll
from rawtrain.data.labels import label_ids
from rawtrain.data.schemes import iob2_labels
from rawtrain.data.sources import read_tagged
from rawtrain.data.words import encode_words
from rawtrain.evaluation import Evaluation
from rawtrain.results.card import command_of
from rawtrain.results.word_scorer import WordScorer


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


def model_of(folder, labels):
    """A model of random weights with these labels."""
    names = labels.split()
    save_model(folder, "ner", ["we saw Ada Nova"], 40, num_labels=len(names))
    config = AutoConfig.from_pretrained(folder)
    config.id2label, config.label2id = dict(enumerate(names)), {n: i for i, n in enumerate(names)}
    config.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model of the types LOC and PER."""
    return model_of(tmp_path_factory.mktemp("trained"), "O B-PER I-PER B-LOC I-LOC")


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


@pytest.mark.parametrize("more", ["L-PER U-PER", "X [CLS] [SEP]"])
def test_labels_that_no_data_has_are_not_trained_further(more, tmp_path, capsys):
    model = model_of(tmp_path / "model", f"O B-PER I-PER {more}")
    data = write_conll(tmp_path / "data.conll", *sentences("PER"))
    flags = {"train_file": data, "validation_file": data}
    assert head_and_labels(run(tmp_path / "out", model, **flags))[1] == ["B-PER", "I-PER", "O"]
    assert "a new one is drawn" in capsys.readouterr().out


@pytest.mark.parametrize("types", [("LOC", "PER"), ("PER",)])
def test_a_head_that_knows_all_labels_of_the_data_is_kept(types, trained, tmp_path, capsys):
    data = write_conll(tmp_path / "data.conll", *sentences(*types))
    found, labels = head_and_labels(run(tmp_path / "out", trained, train_file=data))
    kept, names = head_and_labels(trained)
    assert labels == names and torch.allclose(found, kept, rtol=0, atol=1e-20)
    assert capsys.readouterr().out.count("it keeps its head, for O, B-PER, I-PER, B-LOC") == 1


def labels(tmp_path, train, validation, **more):
    """The labels of two files of tags, a sentence in each."""
    files = {
        f"{name}_file": write_conll(tmp_path / name, [["w"] * len(tags.split())], [tags.split()])
        for name, tags in [("train", train), ("validation", validation)]
    }
    return " ".join(read_tagged(NerSettings(**files, **more)).label_names)


@pytest.mark.parametrize(
    ("train", "validation", "found"),
    [
        ("B-PER O B-LOC", "B-PER O", "B-LOC B-PER O"),  # as ever where training has all tags
        ("B-PER O B-LOC", "B-PER I-PER O", "B-LOC B-PER I-PER O"),
        ("B-PER I-PER", "B-PER O", "B-PER I-PER O"),
        ("B-PER O", "B-MISC I-MISC O", "B-PER O"),  # a type of validation alone
    ],
)
def test_a_type_of_the_training_data_has_the_tags_that_any_split_needs(
    train, validation, found, tmp_path
):
    assert labels(tmp_path, train, validation) == found


def test_labels_may_be_declared_as_types_or_tags(tmp_path):
    def declared(*names, **more):
        return labels(tmp_path, "B-PER O", "B-PER I-MISC O", label_list=[*names], **more)

    assert declared("MISC") == "B-MISC B-PER I-MISC O"
    assert declared("B-MISC", "PER", "O") == "B-MISC B-PER I-PER O"
    assert declared("MISC", ",", task_name="pos") == ", B-PER MISC O"
    settings = settings_from(NerSettings, ["--label_list", "A", "', B"])
    assert settings.label_list == ["A", "', B"]
    assert "--label_list A ''\"'\"', B'" in command_of(settings)


def test_a_type_that_only_validation_or_test_has_is_scored_as_missed(trained, tmp_path, capsys):
    words, tags = sentences("PER", "MISC")
    files = {
        "train_file": write_conll(tmp_path / "a.conll", words[:1], tags[:1]),
        "test_file": write_conll(tmp_path / "b.conll", words, tags),
    }
    output = run(tmp_path / "out", trained, **files, return_entity_level_metrics="true")
    said = [line for line in capsys.readouterr().err.splitlines() if "cannot know" in line]
    assert said == [
        f"{files['test_file']}: the model cannot know MISC (1), counted as missed; "
        "--label_list declares labels beforehand"
    ]
    found = json.loads((output / "predict_results.json").read_text())
    assert (found["predict_MISC_number"], found["predict_MISC_recall"]) == (1, 0.0)
    gold = read_conll(output / "predictions.conll", tag_column=1)
    assert gold.tags == tags


def test_of_many_labels_twenty_are_named_and_the_others_counted(trained, tmp_path, capsys):
    file = write_conll(tmp_path / "a.conll", *sentences(*(f"T{n:03}" for n in range(500))))
    run(tmp_path / "out", trained, train_file=file)
    said = capsys.readouterr().out
    assert "for B-T000, B-T001" in said and "B-T019, and 981 more.\n" in said


def test_part_of_speech_tags_that_training_lacks_are_refused_with_the_flag(
    trained, tmp_path, capsys
):
    files = {
        "train_file": write_conll(tmp_path / "a.conll", [["we", "saw"]], [["X", "VERB"]]),
        "test_file": write_conll(tmp_path / "b.conll", [["Ada"]], [["NOUN"]]),
    }
    with pytest.raises(SystemExit) as ended:
        run(tmp_path / "out", trained, **files, task_name="pos")
    said = capsys.readouterr().err
    assert ended.value.code == 2 and "cannot know NOUN (1); --label_list" in said
    run(tmp_path / "out", trained, **files, task_name="pos", label_list="NOUN")


def test_part_of_speech_tags_are_counted_and_shown_whole(trained, tmp_path, capsys):
    data = write_conll(tmp_path / "a.conll", [["we", "saw", "Ada"]], [["B-X", "HT", "O"]])
    output = run(tmp_path / "out", trained, train_file=data, task_name="pos")
    printed = " ".join(capsys.readouterr().out.split())
    assert "words 3 B-X 1 HT 1 O 1 longest row" in printed and "entities" not in printed
    assert "we B-X saw HT Ada O" in printed
    assert "| B-X | 1 |" in (output / "README.md").read_text()


# A model that knows the types, and not the same tags


@pytest.mark.parametrize(
    ("names", "predicted", "tags"),
    [
        ("O I-PER I-LOC", "I-PER I-PER O I-LOC I-LOC", "B-PER I-PER O B-LOC I-LOC"),
        ("O PER LOC", "PER PER O LOC LOC", "B-PER I-PER O B-LOC I-LOC"),
        ("O B-PER I-PER I-LOC", "B-PER I-PER O I-LOC I-LOC", "B-PER I-PER O B-LOC I-LOC"),
        ("O B-PER L-PER U-PER B-LOC I-LOC L-LOC", "B-PER L-PER O B-LOC L-LOC", None),
        ("O b-PER i-PER b-LOC i-LOC X", "b-PER i-PER X b-LOC i-LOC", None),
        ("[CLS] O B-PER I-PER B-LOC I-LOC X", "B-PER I-PER [CLS] B-LOC I-LOC", None),
    ],
)
def test_a_model_with_the_types_in_other_tags_is_scored_by_entities(
    names, predicted, tags, small_tokenizer
):
    names, gold = names.split(), ["B-PER", "I-PER", "O", "B-LOC", "I-LOC"]
    label_names = iob2_labels(names, "model")
    ids, words = label_ids(label_names, [gold]), [["the"] * 5]
    rows = encode_words(small_tokenizer, words, [gold], ids, 20, 5)
    found = np.array([names.index(label) for label in predicted.split()])
    evaluation = Evaluation(0.0, found, found, 1, 1, 1.0)
    scorer = WordScorer(rows, label_names, NerSettings(), [gold])
    scores = scorer.scores(evaluation)
    assert (scores.overall.f1, scores.overall.number, scores.accuracy) == (1.0, 2, 1.0)
    assert scorer.tags(evaluation) == [gold]


def test_adjacent_entities_stay_two_for_a_model_without_b(small_tokenizer):
    gold, label_names = ["B-PER", "B-PER", "B-MISC"], ["O", "I-PER"]
    ids = label_ids(label_names, [gold])
    assert ids == {"O": 0, "I-PER": 1, "B-PER": 1, "B-MISC": 0}
    rows = encode_words(small_tokenizer, [["the"] * 3], [gold], ids, 20, 5)
    evaluation = Evaluation(0.0, np.array([]), np.array([1, 1, 0]), 1, 1, 1.0)
    gold_entities, found = WordScorer(rows, label_names, NerSettings(), [gold]).entities(evaluation)
    assert gold_entities.spans() == [(0, 0, "PER"), (1, 1, "PER"), (2, 2, "MISC")]
    assert found.spans() == [(0, 1, "PER")]


@pytest.mark.parametrize("names", ["O I-LOC I-PER I-MISC", "O B-PER L-PER U-PER X [CLS]"])
def test_such_a_model_is_evaluated_and_finds_names_in_text(names, tmp_path, capsys):
    model = model_of(tmp_path / "model", names)
    words, tags = sentences("PER", "LOC")
    for number, scheme in enumerate((tags, [["O", "O", "I-PER", "I-PER"], ["O", "O", "O", "O"]])):
        data = write_conll(tmp_path / f"{number}.conll", words, scheme)
        output = run(tmp_path / f"out{number}", model, test_file=data)
        predicted = read_conll(output / "predictions.conll", tag_column=2).tags
        assert {tag[:2] for sentence in predicted for tag in sentence} <= {"O", "B-", "I-"}
    assert ("L-PER" in names) == ("are read as IOB2" in capsys.readouterr().err)
    found = Tagger.from_pretrained(model, use_cpu=True)("we saw Ada Nova")
    assert {entity["entity_group"] for entity in found} <= {"LOC", "PER", "MISC"}


@pytest.mark.parametrize(
    ("names", "said"),
    [("O B-DRUG", "cannot know LOC"), ("NOUN VERB", "'NOUN', mark no"), ("O B-LOC 7", "'7', mark")],
)
def test_a_model_that_knows_no_type_is_refused_before_it_evaluates(names, said, tmp_path, capsys):
    data = write_conll(tmp_path / "data.conll", *sentences("LOC"))
    with pytest.raises(SystemExit) as ended:
        run(tmp_path / "out", model_of(tmp_path / "model", names), test_file=data)
    assert ended.value.code == 2 and said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
