"""rawtrain.study.gap: what a tagger scores on words, beside what its users get on text."""

import json
import shutil

import pytest
from conftest import save_model, tagged_sentences, write_conll
from transformers import pipeline

from rawtrain import NerSettings, Tagger, ner
from rawtrain.cli.command import settings_from
from rawtrain.data.tags import TaggedSentences
from rawtrain.study import gap
from rawtrain.study.gap import gap_table, measure_gap

LABELS = ["B-LOC", "B-ORG", "B-PER", "I-LOC", "I-ORG", "I-PER", "O"]


def saved_model(folder, vocab_size, seed=0):
    """A model with large random weights; in a small vocabulary, words have several sub-words."""
    words, tags = tagged_sentences(40)
    names = {"num_labels": len(LABELS), "id2label": dict(enumerate(LABELS))}
    sizes = {"num_hidden_layers": 1, "max_position_embeddings": 128, "initializer_range": 1.0}
    save_model(folder, "ner", map(" ".join, words), vocab_size, seed, **sizes, **names)
    return words, tags


def gap_of(folder, words, tags, joined=None):
    settings = NerSettings(output_dir=str(folder), use_cpu=True)
    tagger = Tagger.from_pretrained(folder, use_cpu=True)
    sentences = TaggedSentences(words, tags, lines=[], source="", joined=joined)
    return measure_gap(tagger, sentences, settings)


def own_tags(folder, words):
    """The tags that the model itself gives the words."""
    tagger = Tagger.from_pretrained(folder, use_cpu=True)
    labels, _, offsets = tagger.tag_words(words)
    names = [tagger.label_names[label] for label in labels]
    return [names[offsets[i] : offsets[i + 1]] for i in range(len(words))]


def test_where_a_word_is_one_token_every_way_finds_the_same(tmp_path):
    words, tags = saved_model(tmp_path, vocab_size=400)
    gap = gap_of(tmp_path, words, tags)
    assert gap["num_sentences"] == 40
    assert gap["tagger"]["number"] == sum(tag[0] == "B" for sentence in tags for tag in sentence)
    assert 0 < gap["as_evaluated"]["f1"] < 1
    assert gap["tagger"] == gap["as_evaluated"]
    assert list(gap["pipeline"]) == ["first", "average", "max", "simple"]
    assert all(row == gap["as_evaluated"] for row in gap["pipeline"].values())


def test_the_gap_shows_where_words_have_several_sub_words(tmp_path):
    words, _ = saved_model(tmp_path, vocab_size=50)
    tags = own_tags(tmp_path, words)  # as if the model were never wrong
    gap = gap_of(tmp_path, words, tags)
    assert gap["as_evaluated"]["f1"] == gap["tagger"]["f1"] == gap["pipeline"]["first"]["f1"] == 1
    for strategy in ("max", "simple"):
        user = pipeline("ner", model=str(tmp_path), aggregation_strategy=strategy)
        found = [entity for sentence in words for entity in user(" ".join(sentence))]
        num_right = gap["pipeline"][strategy]["precision"] * len(found)
        assert num_right == pytest.approx(
            gap["pipeline"][strategy]["recall"] * gap["tagger"]["number"]
        )
    assert gap["pipeline"]["simple"]["f1"] < 0.9


def test_words_that_the_model_does_not_see_are_no_gap(tmp_path):
    words, _ = saved_model(tmp_path, vocab_size=400)
    words = [[part for word in sentence for part in (word, "\u200b")] for sentence in words]
    own = own_tags(tmp_path, words)
    # as annotators mark them: with the entity before
    marked = [
        [tags[i - i % 2].replace("B-", "I-") if i % 2 else tags[i] for i in range(len(tags))]
        for tags in own
    ]
    assert marked != own
    assert gap_of(tmp_path, words, marked)["as_evaluated"]["f1"] == 1


def test_the_text_is_as_written_where_the_data_says_so(tmp_path):
    words, _ = saved_model(tmp_path, vocab_size=400)
    words = [["(", *sentence, ")", "."] for sentence in words]
    tags = own_tags(tmp_path, words)
    joined = [[True, *[False] * (len(s) - 4), True, True, False] for s in words]
    texts, tag = [], Tagger.__call__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tagger, "__call__", lambda self, text: texts.extend(text) or tag(self, text))
        found = gap_of(tmp_path, words, tags, joined)
    assert texts[0] == f"({' '.join(words[0][1:-2])})."
    assert found["tagger"]["f1"] == found["as_evaluated"]["f1"] == 1


@pytest.mark.parametrize("best", ["first", "average", "max", "simple"])
def test_the_recommended_call_loses_least_and_is_valid_python(best, tmp_path, monkeypatch):
    saved_model(tmp_path, vocab_size=400)
    words, tags = [["we", "met", "Ada"]], [["O", "O", "B-PER"]]
    assert gap_of(tmp_path, words, tags)["best_strategy"] == "first"  # of equal ones
    right = [[{"start": 7, "end": 10, "entity_group": "PER"}]]
    monkeypatch.setattr(gap, "_piped", lambda *given: right if given[-1] == best else [[]])
    found = gap_of(tmp_path, words, tags)
    assert found["pipeline"][best]["precision"] == 1
    call = gap_table(found, 'my "model"')[-1].removeprefix("with transformers alone: ")
    given = eval(call, {"pipeline": lambda *_, **options: options})
    assert given == {"model": 'my "model"', "aggregation_strategy": best}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for seed, (name, number) in enumerate([("train", 60), ("validation", 30), ("other", 7)]):
        write_conll(folder / f"{name}.conll", *tagged_sentences(number, seed))
    return folder


@pytest.fixture(scope="module")
def train(files, model_dir, tmp_path_factory):
    """Does a run of rawtrain.ner on the files; returns its output directory."""

    def train(*flags):
        output_dir = tmp_path_factory.mktemp("runs") / "tagger"
        command = ["--model_name_or_path", model_dir, "--output_dir", str(output_dir), "--use_cpu"]
        command += [f"--{name}_file={files / name}.conll" for name in ("train", "validation")]
        command += ["--learning_rate", "5e-3", "--num_train_epochs", "2", *flags]
        ner.main(settings_from(NerSettings, command))
        return output_dir

    return train


@pytest.fixture(scope="module")
def finished(train):
    return train()


def measured(output_dir, *arguments):
    gap.main([str(output_dir), *arguments])
    return json.loads((output_dir / "deployment_gap.json").read_text())


@pytest.mark.parametrize(
    "flags",
    [(), ("--max_seq_length", "6"), ("--max_seq_length", "7", "--stride", "0")],
    ids=["whole", "windows", "cut off"],
)
def test_as_evaluated_means_with_the_scores_of_the_runs_own_evaluation(train, flags):
    output_dir = train(*flags)
    results = json.loads((output_dir / "eval_results.json").read_text())
    found = measured(output_dir)
    assert found["num_sentences"] == results["eval_samples"] == 30
    for name in ("precision", "recall", "f1"):
        assert found["as_evaluated"][name] == results[f"eval_{name}"]
    assert found["as_evaluated"]["f1"] > 0


def test_the_call_is_printed_and_the_model_card_names_its_strategy(finished, capsys, monkeypatch):
    monkeypatch.setattr(gap, "STRATEGIES", ("max",))
    assert 'aggregation_strategy="first"' in (finished / "README.md").read_text()
    measured(finished)
    call = f'pipeline("ner", model="{finished}", aggregation_strategy="max")'
    assert capsys.readouterr().out.rstrip().endswith(call)
    assert 'aggregation_strategy="max"' in (finished / "README.md").read_text()


def test_the_card_of_a_run_on_the_hub_is_left_to_the_next_upload(finished, tmp_path, capsys):
    output_dir = shutil.copytree(finished, tmp_path / "tagger")
    settings = json.loads((output_dir / "settings.json").read_text()) | {"push_to_hub": True}
    (output_dir / "settings.json").write_text(json.dumps(settings))
    card = (output_dir / "README.md").read_text()
    measured(output_dir)
    assert (output_dir / "README.md").read_text() == card
    again = f"python -m rawtrain.ner {output_dir}/settings.json"
    assert capsys.readouterr().out.endswith(f"to upload this: {again}\n")


def test_a_folder_without_a_finished_run_of_ner_is_refused(finished, tmp_path, capsys):
    def refusal(folder):
        with pytest.raises(SystemExit) as end:
            gap.main([str(folder)])
        assert end.value.code == 2
        return capsys.readouterr().err

    assert refusal(tmp_path).startswith(f"error: {tmp_path} holds no finished run; expected the ")
    for name in ("manifest.json", "identity.json", "settings.json"):
        (tmp_path / name).write_text((finished / name).read_text())
    identity = json.loads((finished / "identity.json").read_text())
    (tmp_path / "identity.json").write_text(json.dumps(identity | {"task": "mlm"}))
    assert refusal(tmp_path) == (
        f"error: {tmp_path} holds a run of mlm; expected one of python -m rawtrain.ner\n"
    )


def test_a_run_on_tags_of_single_words_has_no_gap(train, capsys):
    output_dir = train("--task_name", "pos", "--eval_strategy", "no", "--max_steps", "1")
    with pytest.raises(SystemExit):
        gap.main([str(output_dir)])
    assert "tags single words (--task_name pos), no entities" in capsys.readouterr().err
