"""What a tagger scores, and what its users get: `python -m rawtrain.study.gap RUN`.

RUN is the output directory of a finished run of rawtrain.ner. Training and evaluation have words;
users have raw text. transformers' pipeline("ner") makes words of sub-words by a rule of its own,
one for each aggregation strategy, and so finds other entities than those that were scored. Here
the same sentences take each of these ways: as they were written where the data says which words
have no blank after them (SpaceAfter=No), else with blanks between all words. An entity counts if
its first and last character and its type are right. RUN/deployment_gap.json keeps the numbers, the
model card names the best strategy.
"""

import copy
import json
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
from transformers import pipeline

from rawtrain.cli.command import reported_mistakes, run
from rawtrain.config import NerSettings, uses_own_data
from rawtrain.data.docstrings import read_docstring_corpus
from rawtrain.data.sources import read_tagged
from rawtrain.data.tags import TaggedSentences, label_list
from rawtrain.data.words import default_stride
from rawtrain.models.loading import without_warnings
from rawtrain.results.card import note, write_card
from rawtrain.results.entities import continue_over_unseen, find_entities
from rawtrain.results.metrics import type_scores
from rawtrain.results.terminal import text_table
from rawtrain.run import signals
from rawtrain.run.durable import write_json
from rawtrain.run.log import configure_logging
from rawtrain.study.finished import parser_of, settings_of
from rawtrain.use.tagger import Tagger

NUM_SENTENCES = 1000
# Of equal ones the first is recommended: labels are trained on the first sub-word of a word.
STRATEGIES = ("first", "average", "max", "simple")

Spans = set[tuple[int, int, int, str]]  # entities: number of the text, first character, end, type


def main(arguments: Sequence[str]) -> None:
    """Measure the gap of a run, print it and keep it beside the model."""
    options = parser_of("gap", __doc__).parse_args(arguments)
    with reported_mistakes():
        settings = settings_of(options.run, NerSettings)
        configure_logging(settings)
        sentences = validation_sentences(settings)
        tagger = Tagger.from_pretrained(options.run, use_cpu=settings.use_cpu)
    gap = measure_gap(tagger, sentences, settings)
    write_json(options.run / "deployment_gap.json", gap)
    how = "words joined by blanks" if sentences.joined is None else "the text as written"
    print(f"deployment gap on {sentences.source}, {how}:")
    print("\n".join(gap_table(gap, options.run)))
    note(options.run, aggregation_strategy=gap["best_strategy"])
    if settings.push_to_hub:  # only an upload knows the name that its card has
        print(f"to upload this: {settings.command} {options.run}/settings.json")
    else:
        write_card(settings)


def validation_sentences(settings: NerSettings) -> TaggedSentences:
    """The first 1,000 sentences of a run's validation data."""
    if settings.task_name == "pos":
        raise ValueError(f"{settings.output_dir} tags single words (--task_name pos), no entities")
    if uses_own_data(settings):
        splits = read_tagged(settings).splits
    else:
        splits = {"validation": read_docstring_corpus().splits["validation"]}
    if "validation" not in splits:
        raise ValueError(f"{settings.output_dir} has no validation data")
    split = splits["validation"]
    joined = split.joined and split.joined[:NUM_SENTENCES]
    words, tags = split.words[:NUM_SENTENCES], split.tags[:NUM_SENTENCES]
    return replace(split, words=words, tags=tags, joined=joined)


def measure_gap(tagger: Tagger, sentences: TaggedSentences, settings: NerSettings) -> dict:
    """The scores of each way to use the model, in the form of deployment_gap.json."""
    words, after = sentences.words, _after_each_word(sentences)
    texts = [
        "".join(word + blank for word, blank in zip(*pair, strict=True))
        for pair in zip(words, after, strict=True)
    ]
    tags, is_unseen = _tags_as_evaluated(tagger, words, settings)
    gold = _spans_of_tags(words, after, list(chain(*sentences.tags)), is_unseen)

    def scores(found: Spans) -> dict[str, float]:
        return type_scores(len(gold & found), len(found), len(gold))._asdict()

    piped = {name: _piped(tagger, texts, settings.output_dir, name) for name in STRATEGIES}
    pipeline_scores = {name: scores(_spans(found)) for name, found in piped.items()}
    return {
        "num_sentences": len(texts),
        "as_evaluated": scores(_spans_of_tags(words, after, tags, is_unseen)),
        "tagger": scores(_spans(tagger(texts))),
        "pipeline": pipeline_scores,
        "best_strategy": max(STRATEGIES, key=lambda name: pipeline_scores[name]["f1"]),
    }


def gap_table(gap: dict, model: Path) -> list[str]:
    """Lines that show what each way to use the model finds, and the best call of the pipeline."""
    ways = {"the words, as evaluated": gap["as_evaluated"], "rawtrain.Tagger": gap["tagger"]}
    ways |= {f'pipeline, "{strategy}"': scores for strategy, scores in gap["pipeline"].items()}
    evaluated_f1 = gap["as_evaluated"]["f1"]
    rows = []
    for way, scores in ways.items():
        numbers = [f"{scores[name]:.3f}" for name in ("precision", "recall", "f1")]
        rows.append([way, *numbers, f"{scores['f1'] - evaluated_f1:+.3f}"])
    call = f'model={json.dumps(str(model))}, aggregation_strategy="{gap["best_strategy"]}"'
    return [
        f"{gap['num_sentences']:,} sentences with {gap['tagger']['number']:,} entities\n",
        *text_table(["", "precision", "recall", "F1", "gap"], rows),
        'pipeline, "none": not scored, it tags sub-words and finds no entities',
        f'with transformers alone: pipeline("ner", {call})',
    ]


def _after_each_word(sentences) -> list[list[str]]:
    """A blank, or nothing where the text as written has none, after each word."""
    joined = sentences.joined or [[False] * len(words) for words in sentences.words]
    return [[*("" if is_joined else " " for is_joined in one[:-1]), ""] for one in joined]


def _tags_as_evaluated(tagger, words, settings) -> tuple[list[str], np.ndarray]:
    """The tag of each word, and whether the model does not see it.

    Long sentences go through windows as in the run's evaluations.
    """
    tagger = copy.copy(tagger)
    tagger.max_seq_length = settings.max_seq_length or tagger.max_seq_length
    stride = 0 if settings.match_trainer else settings.stride
    if stride is None:
        stride = default_stride(tagger.tokenizer, tagger.max_seq_length)
    tagger.stride = stride
    labels, probabilities, _ = tagger.tag_words(words)
    return [tagger.label_names[label] for label in labels], np.isnan(probabilities)


def _piped(tagger, texts, folder, strategy) -> list[list[dict]]:
    """The entities of each text as a user's pipeline finds them."""
    options = {"device": tagger.model.device, "aggregation_strategy": strategy}
    with without_warnings(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one for each token where a vocabulary marks no words
        user = pipeline("token-classification", tagger.model, tokenizer=folder, **options)
        return [user(text) for text in texts]


def _spans(found) -> Spans:
    return {
        (number, entity["start"], entity["end"], entity["entity_group"])
        for number, entities in enumerate(found)
        for entity in entities
    }


def _spans_of_tags(words, after, tags, is_unseen) -> Spans:
    """The entities of tagged words, in texts that are these words and what stands after each."""
    places = []  # of each word: its text, first character and end
    for number, pair in enumerate(zip(words, after, strict=True)):
        start = 0
        for word, blank in zip(*pair, strict=True):
            places.append((number, start, start + len(word)))
            start += len(word + blank)
    names = label_list([tags, ["O"]])
    labels = np.array([names.index(tag) for tag in tags], dtype=np.int64)
    offsets = np.cumsum([0, *map(len, words)])
    labels = continue_over_unseen(labels, is_unseen, names, offsets)
    entities = find_entities(labels, names, offsets)
    return {(*places[first][:2], places[last][2], kind) for first, last, kind in entities.spans()}


if __name__ == "__main__":
    signals.listen()
    run(main, sys.argv[1:])
