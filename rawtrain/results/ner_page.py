"""What a run says of tagged data: on standard output, in report.html and in predictions.conll."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from rawtrain.config import NerSettings
from rawtrain.errors import dispensable
from rawtrain.evaluation import Evaluation
from rawtrain.results import terminal
from rawtrain.results.bootstrap import FEWEST_SENTENCES, NUM_DRAWS, f1_intervals
from rawtrain.results.entities import Entities
from rawtrain.results.errors_by_kind import confusion_of
from rawtrain.results.files import note
from rawtrain.results.html import render, write_report
from rawtrain.results.metrics import Texts, format_scores, majority_baseline, table_rows
from rawtrain.results.terminal import cut
from rawtrain.results.word_scorer import WordScorer
from rawtrain.run.durable import write_text

NUM_SENTENCES = 50
LONGEST_SHOWN = 300  # words of a sentence
LONGEST_WORD = 300  # letters
MOST_TYPES = 40  # of the confusion


def show_data(corpus, splits, encoded, tokenizer, label_names: list[str]) -> dict[str, dict]:
    """Print what the data is, how its tags were read, and one row as the model sees it.

    Returns the figures by split.
    """
    lines = [f"data: {', '.join(split.source for split in corpus.splits.values())}"]
    if corpus.scheme not in ("IOB2", "none"):
        lines.append(f"tags: {corpus.scheme}, converted to IOB2")
    if corpus.num_repaired:
        what = "I- that continue no entity, read as B-"
        if corpus.scheme != "IOB2":
            what = f"places that break {corpus.scheme}, repaired"
        lines.append(f"tags: {corpus.num_repaired:,} {what}")
    figures = {
        name: terminal.describe_tagged(split, encoded[name], corpus.scheme == "none")
        for name, split in splits.items()
    }
    name, rows = next(iter(encoded.items()))
    lines += ["", *terminal.table(figures), f"\na row of {name}:\n"]
    terminal.show(lines + terminal.aligned_example(tokenizer, rows.columns, label_names))
    return figures


@dispensable("what shows the scores")
def show_scores(
    name: str, settings: NerSettings, splits, encoded, scorer: WordScorer, evaluation: Evaluation
) -> None:
    """Print the scores by type, and write them with all the rest to report.html.

    If there is training data, the scores of a look-up stand beside them.
    """
    words, baseline = splits[name].words, None
    if "train" in splits:
        tagged = majority_baseline(splits["train"].words, splits["train"].tags, words)
        baseline = scorer.scores_of([tag for tags in tagged for tag in tags])
    scores = scorer.scores(evaluation)
    rows = table_rows(scores, baseline)
    note(settings.output_dir, scores={name: rows})  # for the model card
    gold, found = scorer.entities(evaluation)
    offsets, accounting = scorer.rows.sentence_offsets, terminal.accounting(encoded[name])
    intervals = f1_intervals(gold, found, offsets)
    print(f"\n{name}: {accounting}\n")
    terminal.show([format_scores(scores, baseline, intervals.get(None))])
    if baseline:
        print("baseline: every word tagged as it mostly is in the training data")
    confusion = confusion_of(gold, found)
    sides = ((gold, confusion.gold_kinds), (found, confusion.found_kinds))
    section = render(
        "ner.html.jinja",
        split=name,
        source=splits[name].source,
        num_sentences=len(words),
        accounting=accounting,
        loss=evaluation.loss,
        scores=scores,
        rows=rows,
        intervals=intervals,
        fewest_sentences=FEWEST_SENTENCES,
        num_draws=NUM_DRAWS,
        baseline=baseline,
        confusion=confusion,
        shown_types=confusion.most_frequent(MOST_TYPES),
        sentences=list(worst_sentences(words, offsets, sides, scorer.sentence_losses(evaluation))),
        longest=LONGEST_SHOWN,
        hides_correct=settings.task_name == "pos",  # where each word would be marked
    )
    write_report(settings, name, section)


def write_predictions(path: str | Path, sentences: Texts, gold: Texts, predicted: Texts) -> None:
    """Write a line "word TAB gold TAB predicted" for each word, a blank line after each sentence.

    CoNLL cannot hold a blank in a word or an empty word: both are written as _.
    """
    lines = []
    for sentence in zip(sentences, gold, predicted, strict=True):
        for word, *tags in zip(*sentence, strict=True):
            lines.append("\t".join([re.sub(r"[ \t\r\n]+", "_", word) or "_", *tags]) + "\n")
        lines.append("\n")
    write_text(Path(path), "".join(lines))


def worst_sentences(words, offsets, sides, losses) -> Iterator[tuple]:
    """Number, loss, words and the parts of both sides of the sentences with the highest loss."""
    for number in np.argsort(-losses, kind="stable")[:NUM_SENTENCES].tolist():
        sentence = words[number]
        parts = [parts_of_sentence(sentence, offsets[number], *side) for side in sides]
        yield number + 1, losses[number], sentence, parts


def parts_of_sentence(words, offset: int, entities: Entities, kinds: list[str]) -> list[tuple]:
    """A sentence in parts, cut after `LONGEST_SHOWN` words: words, and of an entity type and kind.

    offset: the place of its first word in the split. kinds: of the entities.
    """
    shown = [cut(word, LONGEST_WORD) for word in words[:LONGEST_SHOWN]]
    parts: list[tuple] = []
    place = 0
    begin, end = np.searchsorted(entities.first, [offset, offset + len(shown)])
    for number in range(begin, end):
        first, after = entities.first[number] - offset, entities.last[number] - offset + 1
        type_name = entities.types[entities.type[number]]
        parts.append((" ".join(shown[place:first]), None, None))
        parts.append((" ".join(shown[first:after]), type_name, kinds[number]))
        place = after
    parts.append((" ".join(shown[place:]), None, None))
    return [part for part in parts if any(part)]
