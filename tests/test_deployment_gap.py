"""What a tagger scores on words, beside what its users get on text."""

import json

import pytest
import torch
from conftest import tagged_sentences, write_conll
from transformers import BertConfig, BertForTokenClassification, pipeline

from rawtrain import NerSettings, Tagger, ner
from rawtrain.cli.command import settings_from
from rawtrain.data.small_bert import train_small_tokenizer
from rawtrain.study import gap
from rawtrain.study.gap import measure_gap, recommended_call

LABELS = ["B-LOC", "B-ORG", "B-PER", "I-LOC", "I-ORG", "I-PER", "O"]
CALL = 'pipeline("ner", model="{}", aggregation_strategy="{}")'


def saved_model(folder, vocab_size, seed=0):
    """A model with large random weights; in a small vocabulary, words have several sub-words."""
    words, tags = tagged_sentences(40)
    tokenizer = train_small_tokenizer([" ".join(sentence) for sentence in words], vocab_size)
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=128,
        initializer_range=1.0,
        id2label=dict(enumerate(LABELS)),
        label2id={label: number for number, label in enumerate(LABELS)},
    )
    BertForTokenClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return words, tags


def tags_of(folder, words):
    tagger = Tagger.from_pretrained(folder, use_cpu=True)
    labels, _, offsets = tagger.tag_words(words)
    names = [tagger.label_names[label] for label in labels]
    return [names[offsets[i] : offsets[i + 1]] for i in range(len(words))]


def gap_of(folder, words, tags, **settings):
    settings = NerSettings(output_dir=str(folder), use_cpu=True, **settings)
    measure_gap(folder, words, tags, tags_of(folder, words), settings)
    return json.loads((folder / "deployment_gap.json").read_text())


def test_where_a_word_is_one_token_every_way_finds_the_same(tmp_path):
    words, tags = saved_model(tmp_path, vocab_size=400)
    gap = gap_of(tmp_path, words, tags, label_all_tokens=True)
    assert (gap["num_sentences"], gap["num_entities"]) == (
        40,
        sum(t[0] == "B" for s in tags for t in s),
    )
    assert 0 < gap["as_evaluated"]["f1"] < 1
    assert gap["tagger"] == gap["as_evaluated"]
    assert set(gap["pipeline"]) == {"none", "first", "average", "max", "simple"}
    assert all(row == gap["as_evaluated"] for row in gap["pipeline"].values())


def test_the_entities_of_a_strategy_are_those_of_a_pipeline_called_with_it(tmp_path):
    words, _ = saved_model(tmp_path, vocab_size=50)
    texts = [" ".join(sentence) for sentence in words]
    settings = NerSettings(output_dir=str(tmp_path), use_cpu=True)
    tagger = Tagger.from_pretrained(tmp_path, use_cpu=True)
    found = gap._pipelines(tagger, tmp_path, texts, settings)
    assert list(found) == ["first", "average", "max", "simple"]
    for strategy, entities in found.items():
        user = pipeline("ner", model=str(tmp_path), aggregation_strategy=strategy)
        expected = [
            {(e["start"], e["end"], e["entity_group"]) for e in user(text)} for text in texts
        ]
        assert entities == expected and any(expected)
    assert found["first"] != found["simple"]  # or the vocabulary would be too large to show it


def test_the_gap_shows_where_words_have_several_sub_words(tmp_path, capsys):
    words, _ = saved_model(tmp_path, vocab_size=50)
    tags = tags_of(tmp_path, words)  # as if the model were never wrong
    gap = gap_of(tmp_path, words, tags)
    assert gap["as_evaluated"]["f1"] == gap["tagger"]["f1"] == gap["pipeline"]["first"]["f1"] == 1
    assert gap["pipeline"]["simple"]["f1"] < 0.9
    printed = capsys.readouterr()
    assert 'pipeline, "none": not scored' in printed.out
    assert recommended_call(gap, tmp_path) == CALL.format(tmp_path, "first")
    assert printed.out.rstrip().endswith(recommended_call(gap, tmp_path))
    assert printed.err == ""


@pytest.mark.parametrize("best", ["first", "average", "max", "simple"])
def test_the_recommended_call_is_the_one_that_loses_least_and_is_python(best):
    pipelines = {name: {"f1": 0.5} for name in ("none", "simple", "max", "average", "first")}
    pipelines["none"] = {"f1": 1.0}  # no entities: nothing to recommend to a user of entities
    assert "first" in recommended_call({"pipeline": pipelines}, "m")  # of equal ones
    pipelines[best] = {"f1": 0.6}
    call = recommended_call({"pipeline": pipelines}, 'my "model"')
    given = eval(call, {"pipeline": lambda *_, **options: options})
    assert given == {"model": 'my "model"', "aggregation_strategy": best}


def test_a_run_measures_the_gap_of_the_sentences_that_it_evaluates(model_dir, tmp_path, capsys):
    files = {
        f"{name}_file": write_conll(tmp_path / f"{name}.conll", *tagged_sentences(number, seed))
        for seed, (name, number) in enumerate([("train", 60), ("validation", 30)])
    }
    flags = [text for name, file in files.items() for text in (f"--{name}", file)]
    output = tmp_path / "out"
    command = ["--model_name_or_path", model_dir, "--output_dir", str(output), "--use_cpu", *flags]
    ner.main(settings_from(NerSettings, [*command, "--learning_rate", "5e-3"]))
    gap = json.loads((output / "deployment_gap.json").read_text())
    results = json.loads((output / "eval_results.json").read_text())
    assert gap["num_sentences"] == 30
    for name in ("precision", "recall", "f1"):
        # the same counts, divided in another order
        assert gap["as_evaluated"][name] == pytest.approx(results[f"eval_{name}"], rel=1e-12)
    assert "deployment gap: 30 validation sentences" in capsys.readouterr().out


def test_what_has_no_entities_and_what_was_not_saved_is_said_to_be_left_out(tmp_path, capsys):
    words, tags = tagged_sentences(3)
    measure_gap(tmp_path, words, tags, tags, NerSettings(task_name="pos"))
    measure_gap(tmp_path, words, tags, tags, NerSettings())
    assert capsys.readouterr().out.count("deployment gap: not measured") == 2
    assert not list(tmp_path.iterdir())
