"""README.md of an output directory: the model card, for people and for the Hub.

It is made from files that lie beside it, so it can be written again after an interruption or a
later evaluation. Its text is in templates/card.md.jinja.
"""

import dataclasses
import json
import logging
import math
import os
import platform
import re
import shlex
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2
from huggingface_hub import EvalResult, ModelCardData
from markupsafe import Markup

from rawtrain.config import TrainingSettings, public_values, uses_own_data
from rawtrain.data.files import sha256_of
from rawtrain.errors import dispensable
from rawtrain.results.files import PREFIXES, note, read_facts, read_history, read_metrics
from rawtrain.results.html import TEMPLATES
from rawtrain.run.durable import MANIFEST, write_text

logger = logging.getLogger(__name__)

# How a run was started, not what it is. A plain command does all that there is data for.
NOT_IN_COMMAND = (
    *("do_train", "do_eval", "do_predict", "overwrite_output_dir", "resume_from_checkpoint"),
    *("overwrite_cache", "disable_tqdm", "log_level", "report_to", "push_to_hub"),
    *("hub_model_id", "hub_private_repo", "hub_commit_message"),
)
# What Markdown or HTML would not take for text, anywhere or at the beginning of a line.
MARKUP = re.compile(r"([\\`*_\[\]|~$<>&^@]|:(?=//)|^[#+-]|(?<=^\d)[.)])")


def note_run(settings, splits, figures) -> None:
    """Keep what a run is: its settings, its data, the versions of the packages.

    splits: each with a `source` and a `fingerprint`. figures: as `terminal.table` takes them.
    """
    data = {
        name: {"source": split.source, "sha256": split.fingerprint, "figures": column}
        for name, column in figures.items()
        for split in [splits[name]]
    }
    named = {"model": settings.model_name_or_path, "dataset": settings.dataset_name}
    on_hub = {what: name for what, name in named.items() if name and not Path(name).exists()}
    versions = {name: version(name) for name in ("torch", "transformers", "datasets", "tokenizers")}
    versions["Python"] = platform.python_version()
    facts = {"data": data, "settings": public_values(settings)}
    note(settings.output_dir, **facts, on_hub=on_hub, versions=versions)


@dispensable("the model card, README.md,")
def write_card(settings: TrainingSettings, repository: str | None = None) -> None:
    """Write README.md of a trained model, unless somebody has edited it.

    repository: OWNER/NAME on the Hub, if it goes there.
    """
    output_dir = Path(settings.output_dir)
    if not (output_dir / MANIFEST).exists():
        return
    file, facts = output_dir / "README.md", read_facts(output_dir)
    ours = facts.get("cards", [])
    if file.exists() and sha256_of(file) not in ours:
        logger.info(f"{file} was edited and stays as it is; delete it to have it written anew")
        return
    metrics, history = read_metrics(output_dir), read_history(output_dir)
    text = make_card(settings, facts, metrics, history, repository)
    if (digest := sha256_of(text.encode(errors="backslashreplace"))) not in ours:
        note(output_dir, cards=[*ours, digest])  # first: a kill must not make it look edited
    write_text(file, text)


def make_card(settings, facts: dict, metrics: dict, history=(), repository=None) -> str:
    """The text of the card.

    facts: of card.json. metrics: of all_results.json. history: of trainer_state.json.
    """
    place = repository or settings.output_dir
    settings = dataclasses.replace(settings, **facts.get("settings", {}))  # as it was trained
    name = Path(os.path.abspath(place)).name
    data, on_hub = facts.get("data", {}), facts.get("on_hub", {})
    scores = {split: _scores(settings, metrics, prefix) for split, prefix in PREFIXES.items()}
    scores = {split: found for split, found in scores.items() if found}
    before = next((entry for entry in history if entry["step"] == 0), {})
    environment = TEMPLATES.overlay(
        autoescape=False,
        finalize=as_markdown,  # of every value
        undefined=jinja2.Undefined,
        keep_trailing_newline=True,
    )
    return environment.get_template("card.md.jinja").render(
        metadata=_metadata(settings, on_hub, scores, name).to_yaml(),
        name=name,
        place=json.dumps(place, ensure_ascii=False).replace("`", "\\u0060"),
        settings=settings,
        kind=getattr(settings, "task_name", settings.task),  # of token classification, which one
        facts=facts,
        on_hub=on_hub,
        data=data,
        scores=scores,
        before=_scores(settings, before, "eval"),
        unigram=_scores(settings, facts.get("unigram", {}), "eval"),
        command=command_of(settings),
    )


def command_of(settings: TrainingSettings) -> str:
    """The command line, broken into lines, from which these settings are read."""
    recipe: dict[str, Any] = {} if uses_own_data(settings) else settings.embedded_recipe
    usual = public_values(type(settings)(**recipe))
    lines = [settings.command]
    for name, value in public_values(settings).items():
        if value == usual[name] or value is None or name in NOT_IN_COMMAND:
            continue
        texts = value if isinstance(value, list) else [str(value)]
        texts = [json.dumps(value)] if isinstance(value, dict | bool) else texts
        lines.append(f"--{name}" if value is True else f"--{name} {shlex.join(texts)}")
    return " \\\n    ".join(lines)


def _metadata(settings, on_hub, scores, model_name):
    """What the Hub searches, and the scores as a model index."""
    results = []
    for split, values in scores.items():
        file = getattr(settings, f"{split}_file", None) or settings.train_file
        embedded = "docstrings of Python and torch"
        data_name = settings.dataset_name or (Path(file).name if file else embedded)
        results += [
            EvalResult(
                task_type=settings.pipeline_tag,
                dataset_type=on_hub.get("dataset", "unknown"),
                dataset_name=data_name,
                dataset_config=settings.dataset_config_name,
                dataset_split=split,
                metric_type=name,
                metric_name=name.replace("f1", "F1"),
                metric_value=value,
            )
            for name, value in values.items()
            if math.isfinite(value)
        ]
    return ModelCardData(
        base_model=on_hub.get("model"),
        datasets=on_hub.get("dataset"),
        library_name="transformers",
        pipeline_tag=settings.pipeline_tag,
        tags=["rawtrain"],
        metrics=sorted({result.metric_type for result in results}) or None,
        model_name=model_name,
        eval_results=results or None,
    )


def _scores(settings, entry, prefix):
    """The scores in a result file or a log entry, without the prefix, as the task lists them."""
    if "perplexity" in entry:  # run_mlm.py's key has no prefix
        entry = {**entry, "eval_perplexity": entry["perplexity"]}
    keys = {name: f"{prefix}_{name}" for name in settings.metrics}
    return {name: entry[key] for name, key in keys.items() if key in entry}


def as_markdown(value) -> str:
    """Markdown that shows a value of the data, whatever is in it; `Markup` is Markdown already.

    >>> print(as_markdown("a|b *c* <script>"), as_markdown(0.61234), as_markdown(None))
    a\\|b \\*c\\* \\<script\\> 0.612 -
    """
    if isinstance(value, Markup):
        return value
    if isinstance(value, float):
        return f"{value:.3f}"
    return "-" if value is None else MARKUP.sub(r"\\\1", " ".join(str(value).split()))
