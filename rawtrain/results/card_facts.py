"""What the model card tells and no result file holds: kept in card.json as soon as it is known.

A run may be killed and started again, and a finished one evaluated later: the process that writes
the card need not be the one that knew the data or the scores of each type.
"""

import json
import platform
from importlib.metadata import version
from pathlib import Path

from huggingface_hub.utils import validate_repo_id

from rawtrain.config import public_values
from rawtrain.results.metrics import table_rows
from rawtrain.results.terminal import mark_entities
from rawtrain.run.durable import write_text

FACTS_FILE = "card.json"
NUM_EXAMPLES, LONGEST_EXAMPLE = 3, 60  # words


def note(output_dir, **facts):
    """Keep facts for the card: a dictionary joins one of the same name, all else replaces it."""
    file = Path(output_dir) / FACTS_FILE
    kept = read_facts(output_dir)
    for name, value in facts.items():
        kept[name] = kept.get(name, {}) | value if isinstance(value, dict) else value
    write_text(file, json.dumps(kept, indent=2, allow_nan=False) + "\n")  # in this order


def note_run(asked, splits, tables):
    """Keep what a run is: its settings as they were asked for, its data, the versions.

    tables: for each split the figures that describe it, as `terminal.table` takes them.
    """
    note_data(asked.output_dir, splits, tables)
    named = {"model": asked.model_name_or_path, "dataset": asked.dataset_name}
    on_hub = {what: name for what, name in named.items() if _is_on_hub(name)}
    versions = {name: version(name) for name in ("torch", "transformers", "datasets", "tokenizers")}
    versions["Python"] = platform.python_version()
    note(
        asked.output_dir,
        settings=public_values(asked),
        on_hub=on_hub,
        versions=versions,
    )


def note_data(output_dir, splits, tables):
    """Keep what the data are; those of a later evaluation take the place of those before."""
    data = {
        name: {"source": splits[name].source, "sha256": splits[name].fingerprint, "figures": table}
        for name, table in tables.items()
    }
    note(output_dir, data=data)


def note_scores(split, sentences, scorer, evaluation, baseline):
    """Keep the scores of each type of an evaluation, and its first sentences as tagged.

    baseline: the scores of a look-up on the same words, or None.
    """
    rows, others = table_rows(scorer.scores(evaluation)), {}
    if baseline:
        others = {name: row.f1 for name, row in table_rows(baseline)}
    note(
        scorer.settings.output_dir,
        scores={
            split: [
                [name, row.precision, row.recall, row.f1, others.get(name), row.number]
                for name, row in rows
            ]
        },
        examples=tagged_examples(sentences, scorer.tags(evaluation)),
    )


def tagged_examples(sentences, tags):
    """The first short sentences with an entity: as tagged, and with their gold tags if other."""
    examples = []
    for words, gold, found in zip(sentences.words, sentences.tags, tags, strict=True):
        if len(words) <= LONGEST_EXAMPLE and {*gold, *found} != {"O"}:
            is_right = list(gold) == list(found)
            examples.append(
                [mark_entities(words, found), None if is_right else mark_entities(words, gold)]
            )
        if len(examples) == NUM_EXAMPLES:
            break
    return examples


def read_facts(output_dir):
    """All that `note` kept so far."""
    file = Path(output_dir) / FACTS_FILE
    return json.loads(file.read_bytes()) if file.exists() else {}


def _is_on_hub(name):
    """Whether a model or data set was read from there: else it is a folder of this machine."""
    if not name or Path(name).exists():
        return False
    try:
        validate_repo_id(name)
    except ValueError:
        return False
    return True
