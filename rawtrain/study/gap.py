"""The deployment gap: what a trained tagger scores, and what its users get from a pipeline.

Training and evaluation have words. transformers' pipeline("ner") has raw text, and makes words of
sub-words by a rule of its own, one for each aggregation strategy. So its entities are others than
those that were scored. Here the same sentences go both ways, and the loss shows.

An entity counts as found if its first and last character and its type are right.
"""

import json
import warnings
from pathlib import Path

import numpy as np

from rawtrain.data.tags import label_list
from rawtrain.models.loading import without_warnings
from rawtrain.results.card import note
from rawtrain.results.entities import find_entities
from rawtrain.run.durable import write_json
from rawtrain.use.tagger import Tagger

GAP_FILE = "deployment_gap.json"
NUM_SENTENCES = 1000
# Of equal ones the first is recommended: labels are trained on the first sub-word of a word.
STRATEGIES = ("first", "average", "max", "simple")


def measure_gap(output_dir, words, gold, predicted, settings):
    """Score the saved model on text, print the table and write deployment_gap.json.

    words, gold, predicted: of the evaluation's sentences; the first 1,000 are looked at. Says what
    is left out where there is nothing to compare.
    """
    if settings.task_name == "pos":
        print("\ndeployment gap: not measured, since tags of single words are no entities")
        return
    if not (Path(output_dir) / "config.json").is_file():
        print("\ndeployment gap: not measured, since this run has saved no model")
        return
    words = words[:NUM_SENTENCES]
    texts = [" ".join(sentence) for sentence in words]
    expected, as_evaluated = (_entities_of_tags(words, tags) for tags in (gold, predicted))
    tagger = Tagger.from_pretrained(output_dir, use_cpu=settings.use_cpu)
    pipelines = _pipelines(tagger, output_dir, texts, settings)
    gap = {
        "num_sentences": len(texts),
        "num_entities": sum(map(len, expected)),
        "as_evaluated": _scores(expected, as_evaluated),
        "tagger": _scores(expected, [_spans(found) for found in tagger(texts)]),
        "pipeline": {name: _scores(expected, found) for name, found in pipelines.items()},
    }
    write_json(Path(output_dir) / GAP_FILE, gap)
    print("\n" + "\n".join(gap_table(gap, output_dir)))
    note(output_dir, aggregation_strategy=best_strategy(gap))  # for the model card


def best_strategy(gap):
    """The aggregation strategy of the pipeline that loses least; of equals the first."""
    measured = [strategy for strategy in STRATEGIES if strategy in gap["pipeline"]]
    return max(measured, key=lambda strategy: gap["pipeline"][strategy]["f1"])


def recommended_call(gap, model):
    """The line of Python with which a user of the pipeline loses least.

    gap: what deployment_gap.json holds. model: the name that the line is to load.

    >>> gap = {"pipeline": {"first": {"f1": 0.7}, "max": {"f1": 0.8}}}
    >>> recommended_call(gap, "my-tagger")
    'pipeline("ner", model="my-tagger", aggregation_strategy="max")'
    """
    best = best_strategy(gap)
    return f'pipeline("ner", model={json.dumps(str(model))}, aggregation_strategy="{best}")'


def gap_table(gap, model):
    """Lines that show what every way to use the model finds, and the best one of the pipeline."""
    rows = {"the words, as evaluated": gap["as_evaluated"], "rawtrain.Tagger": gap["tagger"]}
    rows |= {f'pipeline, "{strategy}"': row for strategy, row in gap["pipeline"].items()}
    lines = [
        f"deployment gap: {gap['num_sentences']:,} validation sentences, joined by blanks, with "
        f"{gap['num_entities']:,} entities",
        "",
        f"{'':<25}{'precision':>9}{'recall':>8}{'F1':>7}{'gap':>8}",
    ]
    for name, row in rows.items():
        numbers = f"{row['precision']:>9.3f}{row['recall']:>8.3f}{row['f1']:>7.3f}"
        lines.append(f"{name:<25}{numbers}{row['f1'] - gap['as_evaluated']['f1']:>+8.3f}")
    if "none" not in gap["pipeline"]:
        lines.append('pipeline, "none": not scored, it tags sub-words and finds no entities')
    return [*lines, f"with transformers alone: {recommended_call(gap, model)}"]


def _pipelines(tagger, model, texts, settings):
    """For each aggregation strategy the entities of every text, as a user's pipeline finds them.

    The model runs once on each text, alone as in a loop over texts; the strategies differ in what
    comes after it. "none" has entities only where every sub-word is trained to have a tag.
    """
    from transformers import AutoTokenizer, pipeline
    from transformers.pipelines.token_classification import AggregationStrategy

    strategies = ("none", *STRATEGIES) if settings.label_all_tokens else STRATEGIES
    found = {strategy: [] for strategy in strategies}
    with without_warnings(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one for each token where a vocabulary marks no words
        tokenizer = AutoTokenizer.from_pretrained(model)
        user = pipeline("ner", model=tagger.model, tokenizer=tokenizer, device=tagger.model.device)
        for text in texts:
            parts = user.preprocess(text, is_split_into_words=False)
            outputs = [user.forward(part) for part in parts]
            for strategy in strategies:
                kind = AggregationStrategy(strategy)
                ignored = [] if strategy == "none" else ["O"]
                entities = user.postprocess(outputs, kind, ignore_labels=ignored)
                if strategy == "none":
                    entities = _grouped(entities)
                found[strategy].append(_spans(entities))
    return found


def _grouped(tokens):
    """The entities of tagged sub-words, read as the tags of words are."""
    tags = [token["entity"] for token in tokens]
    return [
        {"start": tokens[first]["start"], "end": tokens[last]["end"], "entity_group": kind}
        for first, last, kind in _read_tags([tags])
    ]


def _entities_of_tags(words, tags):
    """For each sentence its entities (first character, end, type) in the words joined by blanks."""
    found = []
    for sentence, of_sentence in zip(words, tags, strict=False):
        starts = np.cumsum([0, *(len(word) + 1 for word in sentence)]).tolist()
        found.append(
            {
                (starts[first], starts[last] + len(sentence[last]), kind)
                for first, last, kind in _read_tags([of_sentence])
            }
        )
    return found


def _read_tags(tags):
    names = label_list([*tags, ["O"]])
    labels = np.array([names.index(tag) for sentence in tags for tag in sentence], dtype=np.int64)
    return find_entities(labels, names, np.array([0, len(labels)])).spans()


def _spans(entities):
    return {(entity["start"], entity["end"], entity["entity_group"]) for entity in entities}


def _scores(expected, found):
    num_right = sum(len(one & other) for one, other in zip(expected, found, strict=True))
    num_expected, num_found = sum(map(len, expected)), sum(map(len, found))
    return {
        "precision": num_right / num_found if num_found else 0.0,
        "recall": num_right / num_expected if num_expected else 0.0,
        "f1": 2 * num_right / (num_found + num_expected) if num_found + num_expected else 0.0,
    }
