"""What a run says of tagged data: on standard output, in report.html and in predictions.conll."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rawtrain.config import NerSettings
from rawtrain.errors import dispensable
from rawtrain.evaluation import Evaluation
from rawtrain.results import terminal
from rawtrain.results.bootstrap import NUM_DRAWS, f1_intervals
from rawtrain.results.card import note_scores
from rawtrain.results.entities import Entities
from rawtrain.results.errors_by_kind import confusion_of, kinds_of
from rawtrain.results.html import percent, render, write_report
from rawtrain.results.metrics import format_scores, majority_baseline, table_rows
from rawtrain.results.word_scorer import WordScorer
from rawtrain.run.durable import write_text

NUM_SENTENCES = 50
LONGEST_SHOWN = 300  # words of a sentence


def show_data(corpus, splits, encoded, tokenizer, label_names: list[str]) -> dict[str, dict]:
    """Print what the data is, and one row as the model sees it; returns the figures by split."""
    figures = {
        name: terminal.describe_tagged(split, encoded[name]) for name, split in splits.items()
    }
    name, rows = next(iter(encoded.items()))
    terminal.show(terminal.describe_corpus(corpus))
    terminal.show(["", *terminal.table(figures), f"\na row of {name}:\n"])
    terminal.show(terminal.aligned_example(tokenizer, rows.columns, label_names))
    return figures


@dispensable("what shows the scores")
def show_scores(
    name: str, settings: NerSettings, splits, encoded, scorer: WordScorer, evaluation: Evaluation
) -> None:
    """Print the scores by type, and write them with all the rest to report.html.

    If there is training data, the scores of a look-up stand beside them.
    """
    baseline = None
    if "train" in splits:
        train_split = splits["train"]
        tagged = majority_baseline(train_split.words, train_split.tags, splits[name].words)
        baseline = scorer.scores_of([tag for tags in tagged for tag in tags])
    print(f"\n{name}: {terminal.accounting(encoded[name])}\n")
    intervals = f1_intervals(*scorer.entities(evaluation), scorer.rows.sentence_offsets)
    scores = scorer.scores(evaluation)
    terminal.show([format_scores(scores, baseline, intervals[None])])
    if baseline:
        print("baseline: every word tagged as it mostly is in the training data")
    note_scores(settings.output_dir, name, scores, baseline)
    write_ner_report(name, settings, splits, encoded, scorer, evaluation, baseline, intervals)


def write_predictions(
    path: str | Path,
    sentences: Sequence[Sequence[str]],
    gold: Sequence[Sequence[str]],
    predicted: Sequence[Sequence[str]],
) -> None:
    """Write a line "word TAB gold TAB predicted" for each word, a blank line after each sentence.

    CoNLL cannot hold a blank in a word or an empty word: both are written as _.
    """
    lines = []
    for sentence in zip(sentences, gold, predicted, strict=True):
        for word, *tags in zip(*sentence, strict=True):
            lines.append("\t".join([re.sub(r"[ \t\r\n]+", "_", word) or "_", *tags]) + "\n")
        lines.append("\n")
    write_text(Path(path), "".join(lines))


def write_ner_report(name, settings, splits, encoded, scorer, evaluation, baseline, intervals):
    """Write report.html with a section for the evaluation of the split `name`.

    baseline: the `EntityScores` to set beside those of the evaluation, or None.
    intervals: of F1, from `f1_intervals`.
    """
    gold, found = scorer.entities(evaluation)
    confusion = confusion_of(gold, found)
    scores = scorer.scores(evaluation)
    row_intervals = [*(intervals[title] for title in scores.per_type), intervals[None], None]
    section = render(
        "ner.html.jinja",
        split=name,
        source=splits[name].source,
        num_sentences=len(splits[name].words),
        accounting=terminal.accounting(encoded[name]),
        loss=evaluation.loss,
        scores=scores,
        rows=[(*row, one) for row, one in zip(table_rows(scores), row_intervals, strict=True)],
        baseline_f1=baseline and {title: row.f1 for title, row in table_rows(baseline)},
        num_draws=NUM_DRAWS,
        kinds=confusion.kinds,
        confusion=confusion,
        shares=confusion.row_shares,
        percent=percent,
        sentences=worst_sentences(splits[name].words, gold, found, scorer, evaluation),
        hides_correct=settings.task_name == "pos",  # where each word would be marked
    )
    figures = {key: terminal.describe_tagged(split, encoded[key]) for key, split in splits.items()}
    write_report(settings, splits, figures, name, section)


class Part(NamedTuple):
    """Adjacent words of a sentence: an entity, or what is between two."""

    text: str
    type: str | None = None
    kind: str | None = None


def worst_sentences(words, gold, found, scorer, evaluation) -> list[dict]:
    """The sentences with the highest loss, as the template shows them."""
    losses = scorer.sentence_losses(evaluation)
    gold_kinds, found_kinds = kinds_of(gold, found)
    sentences = []
    for number in np.argsort(-losses, kind="stable")[:NUM_SENTENCES].tolist():
        sentence = words[number], scorer.rows.sentence_offsets[number]
        sentences.append(
            {
                "number": number + 1,
                "loss": losses[number],
                "num_words": len(words[number]),
                "num_hidden": max(0, len(words[number]) - LONGEST_SHOWN),
                "gold": parts_of_sentence(*sentence, gold, gold_kinds),
                "predicted": parts_of_sentence(*sentence, found, found_kinds),
            }
        )
    return sentences


def parts_of_sentence(words, offset: int, entities: Entities, kinds: list[str]) -> list[Part]:
    """A sentence in parts, cut after `LONGEST_SHOWN` words.

    offset: the place of its first word in the split. kinds: of the entities, from `kinds_of`.
    """
    parts, place = [], 0
    begin, end = np.searchsorted(entities.first, [offset, offset + len(words)])
    for number in range(begin, end):
        first, last = entities.first[number] - offset, entities.last[number] - offset
        if first >= LONGEST_SHOWN:
            break
        parts += [Part(" ".join(words[place:first]))] if first > place else []
        type_name = entities.types[entities.type[number]]
        parts.append(Part(" ".join(words[first : last + 1]), type_name, kinds[number]))
        place = last + 1
    rest = words[place:LONGEST_SHOWN]
    return parts + ([Part(" ".join(rest))] if rest else [])
