"""README.md of an output directory: the model card, for people and for the Hub.

The card is a function of files that lie beside it: the numbers of all_results.json and the facts
that card_facts.py keeps. So it can be written again later, for a finished run as well.
"""

import dataclasses
import hashlib
import json
import logging
import os
import shlex
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from rawtrain.config import NerSettings, public_values, uses_own_data
from rawtrain.results.card_facts import note, read_facts
from rawtrain.results.files import read_metrics
from rawtrain.results.markdown import code_block, escape, table
from rawtrain.run.durable import MANIFEST, write_text

logger = logging.getLogger(__name__)

CARD_FILE = "README.md"

# How a run was started, not what it is.
LEFT_OUT = (
    *("overwrite_output_dir", "resume_from_checkpoint", "overwrite_cache", "disable_tqdm"),
    *("log_level", "report_to", "push_to_hub"),
    *("hub_model_id", "hub_private_repo", "hub_commit_message"),
)
SHOWN = (
    *("learning_rate", "lr_scheduler_type", "warmup_steps", "weight_decay", "max_grad_norm"),
    *("num_train_epochs", "max_steps", "per_device_train_batch_size"),
    *("gradient_accumulation_steps", "max_seq_length", "stride", "label_all_tokens"),
    *("line_by_line", "mlm_probability", "mask_replace_prob", "random_replace_prob"),
    *("whole_word_mask", "bf16", "fp16", "load_best_model_at_end", "seed"),
)
SPLITS = {"validation": "eval", "test": "predict"}  # and how their metrics begin
PRF = ("precision", "recall", "f1")
NAMES = {"f1": "F1"}
JOBS = {
    "ner": "named-entity recognition",
    "chunk": "chunking",
    "pos": "part-of-speech tagging",
    "mlm": "masked-language modelling",
}


def write_card(settings, repository=None):
    """Write README.md of a trained model; one that somebody has edited stays as it is."""
    output_dir = Path(settings.output_dir)
    if not (output_dir / MANIFEST).exists():
        return
    file, facts = output_dir / CARD_FILE, read_facts(output_dir)
    ours = facts.get("cards", [])
    if file.exists() and _sha256(file.read_bytes()) not in ours:
        logger.info(f"{file} was edited and stays as it is; delete it to have it written anew")
        return
    text = make_card(settings, facts, read_metrics(output_dir), _before(output_dir), repository)
    if (digest := _sha256(text.encode())) not in ours:
        note(output_dir, cards=[*ours, digest])  # first: a kill must not make it look edited
    write_text(file, text)


def make_card(settings, facts, metrics, before=None, repository=None):
    """The text of the card.

    facts: of card.json. metrics: of all_results.json. before: the evaluation before training.
    repository: OWNER/NAME on the Hub, if it goes there.
    """
    trained = dataclasses.replace(settings, **facts.get("settings", {}))
    is_ner = isinstance(settings, NerSettings)
    place = repository or settings.output_dir
    name = Path(os.path.abspath(place)).name
    parts = [
        f"# {escape(name)}",
        _introduction(trained, facts.get("on_hub", {})),
        "## Results",
        *(
            _ner_results(trained, facts, metrics)
            if is_ner
            else _mlm_results(facts, metrics, before)
        ),
        "## Use",
        code_block(_call(trained, place, facts.get("aggregation_strategy", "first")), "python"),
        *_data(facts.get("data", {})),
        *_examples(facts.get("examples", [])),
        "## Training",
        code_block(command_of(trained), "bash"),
        table(["setting", "value"], _shown_settings(trained)),
        _versions(facts.get("versions", {})),
    ]
    metadata = card_data(trained, facts.get("on_hub", {}), metrics, name)
    text = "\n\n".join(part for part in parts if part)
    return str(ModelCard(f"---\n{metadata.to_yaml()}\n---\n\n{text}\n"))


def card_data(settings, on_hub, metrics, model_name):
    """The metadata of the card: what the Hub searches, and the scores as a model index.

    on_hub: the names of those of "model" and "dataset" that the Hub has.
    """
    task = "token-classification" if isinstance(settings, NerSettings) else "fill-mask"
    results = [
        EvalResult(
            task_type=task,
            dataset_type=on_hub.get("dataset", "unknown"),
            dataset_name=_data_name(settings, split),
            dataset_config=settings.dataset_config_name,
            dataset_split=split,
            metric_type=name,
            metric_name=NAMES.get(name, name),
            metric_value=value,
        )
        for split, prefix in SPLITS.items()
        for name, value in _scores(metrics, prefix).items()
    ]
    return ModelCardData(
        base_model=on_hub.get("model"),
        datasets=on_hub.get("dataset"),
        library_name="transformers",
        pipeline_tag=task,
        tags=["rawtrain"],
        metrics=sorted({result.metric_type for result in results}) or None,
        model_name=model_name,
        eval_results=results or None,
    )


def command_of(settings):
    """The command line, broken into lines, that these settings are read from."""
    recipe = {} if uses_own_data(settings) else settings.embedded_recipe
    usual = public_values(type(settings)(**recipe))
    lines = [settings.command]
    for name, value in public_values(settings).items():
        if value == usual[name] or value is None or name in LEFT_OUT:
            continue
        text = json.dumps(value) if isinstance(value, dict | bool) else str(value)
        lines.append(f"--{name}" if value is True else f"--{name} {shlex.quote(text)}")
    return " \\\n    ".join(lines)


def _introduction(settings, on_hub):
    job = JOBS[getattr(settings, "task_name", "mlm")]
    model = settings.model_name_or_path
    if "model" in on_hub:
        start = f"[{escape(model)}](https://huggingface.co/{model}), fine-tuned for {job}"
    elif model:
        start = f"A model of a local folder ({escape(Path(model).name)}), fine-tuned for {job}"
    else:
        start = f"A new model, trained for {job}"
    return f"{start} with rawtrain, a training loop without Trainer."


def _ner_results(settings, facts, metrics):
    unit = "tags" if settings.task_name == "pos" else "entities"
    for split, prefix in SPLITS.items():
        if f"{prefix}_f1" not in metrics:
            continue
        accuracy = metrics[f"{prefix}_accuracy"]
        yield f"On the {split} data, over {unit}; word accuracy {accuracy:.3f}:"
        rows = facts.get("scores", {}).get(split)
        if not rows:
            rows = [["overall", *(metrics[f"{prefix}_{n}"] for n in PRF), None, "-"]]
        yield table(
            ["type", "precision", "recall", "F1", "baseline F1", "in gold"],
            [[escape(name), *map(_number, numbers), gold] for name, *numbers, gold in rows],
        )
    if facts.get("scores"):
        yield "The baseline tags every word as it mostly is in the training data."


def _mlm_results(facts, metrics, before):
    rows = {"before training": before, "after training": _with_perplexity(metrics)}
    rows["token frequency alone"] = facts.get("unigram")
    names = ("eval_loss", "eval_perplexity", "eval_accuracy")
    yield "On the validation data, at masked tokens that are the same in each evaluation:"
    yield table(
        ["", "loss", "perplexity", "accuracy"],
        [
            [title, *(_number(scores.get(name)) for name in names)]
            for title, scores in rows.items()
            if scores
        ],
    )


def _call(settings, place, strategy):
    """How to load the model; the strategy is the one that loses least, if that was measured."""
    is_ner = isinstance(settings, NerSettings)
    task = '"token-classification"' if is_ner else '"fill-mask"'
    has_spans = is_ner and settings.task_name != "pos"
    options = f', aggregation_strategy="{strategy}"' if has_spans else ""
    return (
        "from transformers import pipeline\n\n"
        f"model = pipeline({task}, model={json.dumps(place, ensure_ascii=False)}{options})"
    )


def _data(data):
    if not data:
        return
    names = dict.fromkeys(name for facts in data.values() for name in facts["figures"])
    yield "## Data"
    yield table(["", *data], [
        ["source", *(escape(_without_folder(facts["source"])) for facts in data.values())],
        *([escape(name), *(facts["figures"].get(name, "-") for facts in data.values())]
          for name in names),
        ["sha256", *(f"`{_short(facts['sha256'])}`" for facts in data.values())],
    ])  # fmt: skip


def _examples(examples):
    if examples:
        yield "## Examples"
        yield "The first sentences of the evaluation, as tagged:"
        yield "\n".join(
            f"- {escape(found)}" + (f"\n  - should be: {escape(gold)}" if gold else "")
            for found, gold in examples
        )


def _shown_settings(settings):
    values = public_values(settings)
    if settings.max_steps > 0:  # it takes the place of the epochs
        del values["num_train_epochs"]
    return [
        [f"`{name}`", f"{values[name]:g}" if isinstance(values[name], float) else values[name]]
        for name in SHOWN
        if values.get(name) not in (None, False, -1)
    ]


def _versions(versions):
    named = [f"{name} {number}" for name, number in versions.items()]
    return f"Versions: {escape(', '.join(named))}." if named else ""


def _scores(metrics, prefix):
    names = (*PRF, "accuracy", "loss", "perplexity")
    metrics = _with_perplexity(metrics)
    keys = {name: f"{prefix}_{name}" for name in names}
    return {name: metrics[key] for name, key in keys.items() if key in metrics}


def _with_perplexity(metrics):
    """run_mlm.py's key has no prefix."""
    named = {"eval_perplexity": metrics["perplexity"]} if "perplexity" in metrics else {}
    return metrics | named


def _before(output_dir):
    """The evaluation before the first step, if there was one."""
    file = output_dir / "trainer_state.json"
    history = json.loads(file.read_bytes())["log_history"] if file.exists() else []
    return next((e for e in history if "eval_loss" in e and e["step"] == 0), None)


def _data_name(settings, split):
    if settings.dataset_name:
        return settings.dataset_name
    file = getattr(settings, f"{split}_file", None) or settings.train_file
    return Path(file).name if file else "docstrings of Python and torch"


def _without_folder(source):
    return os.path.basename(source) if os.path.isabs(source) else source


def _short(fingerprint):
    """The first digits, and which documents if it is not all of them."""
    return f"{fingerprint[:12]}...{fingerprint[64:]}"


def _number(value):
    return "-" if value is None else f"{value:.3f}"


def _sha256(content):
    return hashlib.sha256(content).hexdigest()
