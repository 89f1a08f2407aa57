"""What a person reads on standard output: tables of the data, and examples."""

from collections import Counter
from collections.abc import Iterable, Sequence, Sized

from rawtrain.config import TrainingSettings
from rawtrain.data.columns import IGNORED
from rawtrain.errors import visible

LONGEST_NAME = 30  # of a type, so that the table of scores fits 80 columns
LONGEST_EXAMPLE = 20  # lines
MOST_TYPES = 40  # rows of a table on the terminal


def show(lines: Iterable[str]) -> None:
    """Print lines that may hold words and names of the data."""
    print(visible("\n".join(lines)))


def table(figures: dict[str, dict[str, int]]) -> list[str]:
    """Lines of a table of numbers, from {column: {row: number}}.

    >>> print("\\n".join(table({"train": {"words": 1200}, "test": {"words": 80, "cut": 2}})))
           train  test
    words  1,200    80
    cut        -     2
    """
    names = dict.fromkeys(name for split in figures.values() for name in split)
    total = {name: sum(split.get(name, 0) for split in figures.values()) for name in names}
    types = [name for name in names if name.startswith("  ")]
    hidden = sorted(types, key=total.__getitem__, reverse=True)[MOST_TYPES:]
    rows = [
        [cut(name), *(f"{split[name]:,}" if name in split else "-" for split in figures.values())]
        for name in names
        if name not in hidden
    ]
    return text_table(["", *figures], rows) + others(hidden)


def stored_results(metrics: dict[str, float]) -> list[str]:
    """The results of a finished run, a line each; its times and rates say nothing of the model.

    >>> print("\\n".join(stored_results({"eval_f1": 0.7234, "eval_runtime": 3.0, "epoch": 3.0})))
    epoch    3
    eval_f1  0.7234
    """
    names = sorted(name for name in metrics if not name.endswith(("_runtime", "_per_second")))
    width = max(map(len, names), default=0) + 2
    return [f"{name:<{width}}{metrics[name]:.4g}" for name in names]


def recipe(settings: TrainingSettings) -> str:
    """The settings of the run on embedded text, as flags."""
    return " ".join(f"--{name} {getattr(settings, name)}" for name in settings.embedded_recipe)


def describe_tagged(sentences, encoded, is_pos: bool = False) -> dict[str, int]:
    """The figures of a split: what is there, by type, and what its encoding had to do.

    is_pos: the tags are of single words, and have no types.
    """
    tags = [tag for tags in sentences.gold_tags for tag in tags]
    types = Counter(tags if is_pos else (tag[2:] for tag in tags if tag[:2] == "B-"))
    figures = {
        "sentences": len(sentences.words),
        "words": len(encoded.gold),
        **({} if is_pos else {"entities": types.total()}),
        **{f"  {name}": types[name] for name in sorted(types)},
        "longest row, in sub-words": int(encoded.columns.lengths.max()),
    }
    noteworthy = {
        "sentences longer than a row": encoded.num_long,
        "words cut off": encoded.num_cut,
        "entities cut off": encoded.num_cut_entities,
        "words without a sub-word": encoded.num_unseen,
        "entities without a sub-word, not scored": encoded.num_unseen_entities,
    }
    noted = {name: number for name, number in noteworthy.items() if number}
    return figures | noted | sentences.left_out


def accounting(encoded) -> str:
    """The sum that shows that every word of a split is scored once."""
    line = f"{len(encoded.gold):,} words read = {encoded.num_scored:,} words scored"
    if encoded.num_cut:
        line += f" + {encoded.num_cut:,} cut off, counted as O"
    if encoded.num_unseen:
        line += f" + {encoded.num_unseen:,} without a sub-word, which begin and end no entity"
    return line


def aligned_example(tokenizer, columns, label_names: list[str]) -> list[str]:
    """Lines that show the first short row with an entity as the model sees it.

    Without one they show how the first row begins.
    """
    outside = label_names.index("O") if "O" in label_names else None
    rows = map(columns.row, range(len(columns)))
    fits = (row for row in rows if len(row["labels"]) <= LONGEST_EXAMPLE)
    named = (row for row in fits if not {IGNORED, outside}.issuperset(row["labels"].tolist()))
    row = next(named, columns.row(0))
    labels = [str(IGNORED) if n == IGNORED else label_names[n] for n in row["labels"].tolist()]
    pieces = tokenizer.convert_ids_to_tokens(row["input_ids"].tolist())
    return example("sub-word", pieces, "label", labels)


def example(title: str, left: Sequence[str], other_title: str, right: Sequence[str]) -> list[str]:
    """Lines that show what stands beside each token of a row, or of its beginning."""
    pairs = [(title, other_title), *zip(left, right, strict=True)][: LONGEST_EXAMPLE + 1]
    lines = [f"{cut(one, 18):<20}{cut(other)}" for one, other in pairs]
    num_more = len(left) - LONGEST_EXAMPLE
    return lines + ([f"... and {num_more:,} more"] if num_more > 0 else [])


def others(types: Sized) -> list[str]:
    return [f"not shown: {len(types):,} more types, which report.html has"] if types else []


def cut(text: str, longest: int = LONGEST_NAME) -> str:
    """The text, without its middle if it is too long.

    >>> cut("a type", 6), cut("person-living", 8)
    ('a type', 'pers…ing')
    """
    half = longest // 2
    return text if len(text) <= longest else f"{text[:half]}…{text[half + 1 - longest :]}"


def text_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table, its first column aligned to the left and the others to the right."""
    return ["  ".join(cells) for cells in aligned(header, rows)]


def aligned(header, rows) -> list[list[str]]:
    """The cells, those of a column of one width."""
    table = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        [f"{row[0]:<{widths[0]}}"]
        + [f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True)]
        for row in table
    ]
