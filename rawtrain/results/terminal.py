"""What a person reads on standard output: tables of the data, an example, what to do next."""

from collections import Counter

from rawtrain.data.columns import IGNORED

NOT_OF_THE_MODEL = ("_runtime", "_per_second")


def table(columns):
    """Lines of a table with the row names on the left, from {column: {row: value}}.

    >>> print("\\n".join(table({"train": {"words": 1200}, "test": {"words": 80, "cut": 2}})))
             train  test
    words    1,200    80
    cut          -     2
    """
    names = list(dict.fromkeys(name for values in columns.values() for name in values))
    cells = {
        title: [f"{values[name]:,}" if name in values else "-" for name in names]
        for title, values in columns.items()
    }
    left = max(map(len, names)) + 2
    widths = {title: max(len(title), *map(len, column)) for title, column in cells.items()}
    lines = [" " * left + "".join(f"  {title:>{widths[title]}}" for title in cells)]
    for row, name in enumerate(names):
        values = "".join(f"  {cells[title][row]:>{widths[title]}}" for title in cells)
        lines.append(f"{name:<{left}}{values}")
    return lines


def stored_results(metrics):
    """The results of a finished run, a line each; its times and rates say nothing of the model.

    >>> print("\\n".join(stored_results({"eval_f1": 0.7234, "eval_runtime": 3.0, "epoch": 3.0})))
    epoch    3
    eval_f1  0.7234
    """
    shown = {name: value for name, value in metrics.items() if not name.endswith(NOT_OF_THE_MODEL)}
    width = max(map(len, shown), default=0) + 2
    return [f"{name:<{width}}{value:.4g}" for name, value in sorted(shown.items())]


def recipe(settings):
    """The settings of the run on embedded text, as flags."""
    return " ".join(f"--{name} {getattr(settings, name)}" for name in settings.embedded_recipe)


def describe_corpus(corpus):
    """Lines on where the tags come from and how they were read."""
    lines = [f"data: {', '.join(split.source for split in corpus.splits.values())}"]
    if corpus.scheme not in ("IOB2", "none"):
        lines.append(f"tags: {corpus.scheme}, converted to IOB2")
    if corpus.num_repaired:
        lines.append(f"tags: {corpus.num_repaired:,} I- that continue no entity, read as B-")
    return lines


def describe_tagged(sentences, encoded):
    """The figures of a split: what is there, by type, and what its encoding had to do."""
    types = Counter(tag[2:] for tags in sentences.tags for tag in tags if tag[:2] == "B-")
    figures = {
        "sentences": len(sentences.words),
        "words": len(encoded.gold),
        "entities": sum(types.values()),
        **{f"  {name}": types[name] for name in sorted(types)},
        "longest row, in sub-words": int(encoded.columns.lengths.max()),
    }
    noteworthy = {
        "sentences longer than a row": encoded.num_long,
        "words cut off": encoded.num_cut,
        "entities cut off": encoded.num_cut_entities,
        "words without a sub-word": encoded.num_without_pieces,
        "sentences without words": sentences.num_empty,
    }
    return figures | {name: number for name, number in noteworthy.items() if number}


def accounting(encoded):
    """Every word of a split is scored once: the sum that shows it."""
    line = f"{len(encoded.gold):,} words read = {encoded.num_scored:,} words scored"
    if encoded.num_cut:
        line += f" + {encoded.num_cut:,} cut off, counted as O"
    if encoded.num_without_pieces:
        line += f" + {encoded.num_without_pieces:,} without a sub-word, counted as O"
    return line


def aligned_example(tokenizer, columns, label_names, longest=20):
    """Lines that show the first short row with an entity as the model sees it."""
    outside = label_names.index("O") if "O" in label_names else None
    for number in range(len(columns)):
        row = columns.row(number)
        named = (row["labels"] != IGNORED) & (row["labels"] != outside)
        if named.any() and len(row["labels"]) <= longest:
            break
    pieces = tokenizer.convert_ids_to_tokens(row["input_ids"].tolist())
    lines = [f"{'sub-word':<20}label"]
    for piece, label in zip(pieces, row["labels"].tolist(), strict=True):
        lines.append(f"{piece:<20}{'-100' if label == IGNORED else label_names[label]}")
    return lines


def tagged_example(sentences, tags, longest=40):
    """The first sentence in which something was found, marked; a short one if there is one."""
    pairs = list(zip(sentences.words, tags, strict=True))
    with_names = [pair for pair in pairs if set(pair[1]) != {"O"}] or pairs
    return mark_entities(*next((p for p in with_names if len(p[0]) <= longest), with_names[0]))


def mark_entities(words, tags):
    """A sentence with its entities marked.

    >>> mark_entities(["Jeff", "Dean", "works", "here"], ["B-PER", "I-PER", "O", "O"])
    '[Jeff Dean | PER] works here'
    """
    marked, before = [], "O"
    for word, tag, after in zip(words, tags, [*tags[1:], "O"], strict=True):
        continues = tag.startswith("I-") and before[2:] == tag[2:]
        ends = tag != "O" and after != f"I-{tag[2:]}"
        opening = "[" if tag != "O" and not continues else ""
        marked.append(f"{opening}{word}" + (f" | {tag[2:]}]" if ends else ""))
        before = tag
    return " ".join(marked)


def describe_text(documents, encoded):
    """The figures of a split of documents, and what its reading and encoding left out."""
    lengths = encoded.columns.lengths
    figures = {
        "documents": encoded.num_documents,
        "rows": len(lengths),
        "tokens": int(lengths.sum()),
        "longest row, in tokens": int(lengths.max()),
    }
    noteworthy = {
        "empty documents": documents.num_empty,
        "documents cut": encoded.num_cut_documents,
        "tokens cut off": encoded.num_cut_tokens,
    }
    return figures | {name: number for name, number in noteworthy.items() if number}


def masked_example(tokenizer, input_ids, labels, longest=20):
    """Lines that show the beginning of a row as the model sees it, and what it has to predict."""
    seen = tokenizer.convert_ids_to_tokens(input_ids[:longest].tolist())
    lines = [f"{'token':<20}to predict"]
    for piece, label in zip(seen, labels[:longest].tolist(), strict=True):
        hidden = "-" if label == IGNORED else tokenizer.convert_ids_to_tokens(label)
        lines.append(f"{piece:<20}{hidden}")
    return lines
