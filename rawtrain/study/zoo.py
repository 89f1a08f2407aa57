"""Which architectures can be trained, and how? `python -m rawtrain.study.zoo`.

Of each architecture a tiny random model is trained by both jobs, as far as transformers has a head
for them: uninterrupted, killed with SIGKILL at a checkpoint and started again; without dropout, and
so with --padding; then the saved model is evaluated from its folder. A row of the table has

  rows       packed, or padded
  resumed    whether the killed run ended with the bits of the uninterrupted one
  loss       packed against padded: the largest difference in a step, as a share of the loss
  from disk  whether the saved model has the evaluation loss that the run had at its end

The exit code is 0 unless a run crashed, packed rows had another loss, or a difference between two
runs was not announced at the start of the first.
"""

import argparse
import json
import math
import multiprocessing
import re
import shutil
import signal
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import torch
from transformers import AutoTokenizer, set_seed
from transformers.models.auto import modeling_auto

from rawtrain.results.terminal import text_table
from rawtrain.study.kill import SAVED, write_data
from rawtrain.study.killed_run import Job, KilledRun, die_at, entries
from rawtrain.study.tiny import MODELS, tiny_model

HEADS = {
    "ner": modeling_auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
    "mlm": modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
}
NAMES = """albert bart bert big_bird bros camembert convbert data2vec-text deberta deberta-v2
    distilbert electra ernie esm eurobert flaubert fnet funnel gemma gpt2 gpt_neo gpt_neox gte ibert
    jina_embeddings_v3 layoutlm lilt llama longformer luke mbart megatron-bert mistral mobilebert
    modernbert mpnet mra nomic_bert nystromformer perceiver phi qwen2 qwen3 reformer rembert roberta
    roberta-prelayernorm roc_bert roformer squeezebert t5 tapas umt5 xlm xlm-roberta xlm-roberta-xl
    xlnet xmod yoso""".split()  # noqa: SIM905
COMMON = {
    **{"max_position_embeddings": 66, "initializer_range": 0.2, "num_labels": 2},
    **{"embedding_size": 16, "num_key_value_heads": 2, "head_dim": 8},
}
T5 = {"d_model": 16, "num_layers": 1, "num_heads": 2, "d_ff": 24, "d_kv": 8}
BART = {f"{part}_{name}": size for part in ("encoder", "decoder")
        for name, size in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 24))}  # fmt: skip
# Sizes of their own: windows and blocks among them, which the rows are longer than
SIZES: dict[str, dict] = {
    **{"t5": T5, "umt5": T5, "bart": BART, "mbart": BART},
    "big_bird": {"block_size": 4, "num_random_blocks": 1},
    "longformer": {"attention_window": 8},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    "esm": {"position_embedding_type": "rotary"},
    **{"flaubert": {"emb_dim": 16}, "xlm": {"emb_dim": 16}, "xmod": {"default_language": "en_XX"}},
    "funnel": {"d_head": 8, "d_inner": 24, "block_sizes": [1, 1], "num_hidden_layers": None},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "num_layers": 2, "num_heads": 2},
    "lilt": {"hidden_size": 24, "channel_shrink_ratio": 2},
    "luke": {"entity_vocab_size": 10, "entity_emb_size": 16},
    "mobilebert": {"intra_bottleneck_size": 16, "true_hidden_size": 16},
    "nystromformer": {"num_landmarks": 8, "segment_means_seq_len": 8},
    "perceiver": {"d_latents": 16, "num_latents": 8},
    "reformer": {
        **{"attn_layers": ["local", "lsh"], "attention_head_size": 8, "axial_pos_embds": False},
        **{"feed_forward_size": 24, "lsh_attn_chunk_length": 8, "local_attn_chunk_length": 8},
    },
    "xlnet": {"d_head": 8, "d_inner": 24, "max_position_embeddings": None},
    "rembert": {"input_embedding_size": 16, "output_embedding_size": 16},
}
FLAGS = "--max_steps 6 --logging_steps 1 --save_steps 2 --eval_strategy steps --eval_steps 4"
ROUTE = re.compile(r"rows are (packed|padded)(?:: (.*?))?;")
ANNOUNCED = re.compile("this run will end with other bits: (.*)")


def write_models(folder: Path, names: list[str]) -> dict[tuple[str, str], str]:
    """Models under folder/<task>/<name>, without dropout in its folder `still`; what went wrong."""
    torch.set_num_threads(1)
    tokenizer, failures = AutoTokenizer.from_pretrained(folder / "data" / "model"), {}
    for name, task in ((name, task) for name in names for task in MODELS if name in HEADS[task]):
        set_seed(0)
        sizes = COMMON | {"vocab_size": len(tokenizer)} | SIZES.get(name, {})
        try:
            model = tiny_model(task, name, **sizes)
            for place in (folder / task / name, folder / task / name / "still"):
                model.save_pretrained(place)
                tokenizer.save_pretrained(place)
                for setting, value in model.config.to_dict().items():
                    if "drop" in setting and isinstance(value, float):
                        setattr(model.config, setting, 0.0)
        except Exception as error:  # sizes that the architecture does not take
            failures[name, task] = f"not made: {type(error).__name__}: {error}"
    return failures


def look_at(name: str, task: str, failure: str | None, folder: Path) -> tuple[list[str], bool]:
    """The cells of a model's row, and whether all is well."""
    if failure:
        return [name, task, "", "", "", "", failure], False
    model = f"{FLAGS} --model_name_or_path {folder / task / name}"
    flags = [f"{model}{more}" for more in ("", "", "/still", "/still --padding")]
    whole, killed, packed, padded = (KilledRun(Job(task, each), folder) for each in flags)
    code = whole.start()
    if code:
        error = whole.said.rpartition("error: ")[2].partition("\n")[0].rpartition(f"{name}: ")[2]
        is_refused = code == 2 and "Traceback" not in whole.said
        note = f"refused: {error}" if is_refused else f"exit code {code}"
        return [name, task, "", "", "", "", note], is_refused
    killed.start(fault=partial(die_at, SAVED))
    killed.finish_like(whole)
    packed.start()
    padded.start()
    logs = zip(entries(packed.output_dir), entries(padded.output_dir), strict=False)
    difference = max((abs(a["loss"] / b["loss"] - 1) for a, b in logs if "loss" in a), default=1.0)
    scored = f"--do_eval --model_name_or_path {whole.output_dir}"
    from_disk = KilledRun(Job(task, scored), folder)
    from_disk.start()
    runs = whole, killed, packed, padded, from_disk
    rows, why = ROUTE.findall(whole.said)[0]
    before, after = (_eval_loss(run) for run in (whole, from_disk))
    is_same = abs(before / after - 1) < 1e-5  # float32 sums in another order
    problems = [problem for run in runs for problem in run.problems]
    for run in runs:
        shutil.rmtree(run.folder)
    cells = [name, task, rows, "other bits" if killed.problems else "same bits"]
    cells += [f"{difference:.0e}", "same" if is_same else "other"]
    if announced := ANNOUNCED.search(whole.said):
        return [*cells, announced[1]], not (padded.problems or from_disk.problems)
    return [*cells, "; ".join(problems) or why], not problems and is_same and difference < 1e-4


def _eval_loss(run):
    file = run.output_dir / "eval_results.json"
    return json.loads(file.read_bytes())["eval_loss"] if file.exists() else math.nan


def main(arguments=None):
    """The command; exits with its verdict."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("rawtrain.study.zoo", None, __doc__, formatter_class=formatter)
    parser.add_argument("names", nargs="*", help="architectures (default: all)")
    names = parser.parse_args(arguments).names or NAMES
    folder = Path(tempfile.mkdtemp(prefix="zoo-"))
    forking = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(1, forking) as writer:  # a process that has computed does not fork
        writer.submit(write_data, folder / "data").result()
        failures = writer.submit(write_models, folder, names).result()
    models = [(name, task) for name in names for task in MODELS if name in HEADS[task]]
    work = zip(*models, strict=True)
    with ProcessPoolExecutor(2, forking, signal.signal, (signal.SIGINT, signal.SIG_DFL)) as pool:
        rows = list(pool.map(look_at, *work, map(failures.get, models), [folder] * len(models)))
    columns = ["architecture", "job", "rows", "resumed", "loss", "from disk", "note"]
    print("\n".join(text_table(columns, [cells for cells, _ in rows])))
    bad = [" ".join(cells[:2]) for cells, is_well in rows if not is_well]
    shutil.rmtree(folder)
    print(f"\n{len(set(names))} architectures, {len(rows)} models: ", end="")
    print(f"NOT all is well: {', '.join(bad)}" if bad else "all is well")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
