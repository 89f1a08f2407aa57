"""How fast rawtrain is beside transformers' Trainer: on this machine, with your model and data.

    python scripts/bench.py --model DIR --task ner --train_file train.conll --token_column 1
    python scripts/bench.py --model DIR --task mlm --train_file texts.txt --precision bf16
    python scripts/bench.py ... --line_by_line false   # mlm: blocks of 128 tokens instead of lines
    python scripts/bench.py ... --evaluate             # evaluations instead of training steps
    python scripts/bench.py ... --parts                # what each part of rawtrain/fast gains

A flag that is not listed below is one of the job (python -m rawtrain.ner --help) and goes to both.

Trainer and rawtrain are processes of their own with the same model, rows, order and settings. They
take turns of some steps, one at a time: whatever slows the machine down meets both, and a ratio
compares two turns that follow each other. A ratio belongs to the machine that it was measured on;
the share of the machine's limit can be compared between machines.
"""

import argparse
import multiprocessing
import sys
import tempfile
from dataclasses import fields, replace
from importlib import metadata, util

import numpy as np
from bench_contenders import PARTS, work
from bench_limit import measure_limit

from rawtrain.cli.command import reported_mistakes, settings_from
from rawtrain.config import MlmSettings, NerSettings
from rawtrain.results.terminal import text_table

SETTINGS = {"ner": NerSettings, "mlm": MlmSettings}
# Batch sizes and row length of chapters 4 and 9 of the book; flags of the job override them.
DEFAULTS = {
    "ner": "--per_device_train_batch_size 24",
    "mlm": "--per_device_train_batch_size 32 --max_seq_length 128 --line_by_line true",
}
# What both have to do alike, or what only one of them would do.
FIXED = {
    "do_train": True,
    "bf16": False,  # or True: --precision says
    "fp16": False,
    "max_steps": -1,  # --steps and --rounds say
    "gradient_accumulation_steps": 1,
    "gradient_checkpointing": False,
    "dataloader_num_workers": 0,
    "logging_strategy": "steps",
    "logging_steps": None,  # once a turn
    "eval_strategy": "no",
    "max_eval_samples": None,  # an evaluation is of the rows to train on: --max_train_samples
    "save_strategy": "no",
    "disable_tqdm": True,
    "report_to": "none",
}
FIGURES = ["ms", "real tokens/s", "of the limit", "peak MiB", "GPU MiB", "ratio", "at the end"]
LEGEND = """
ms              of a step or an evaluation
real tokens/s   padding is not counted; like the times, the median over the turns
of the limit    the share of the time that its useful matrix products would take at the limit
peak MiB        the most memory that the process had, its libraries included
ratio           its time over that of rawtrain's turn beside it: median (min to max)
at the end      loss of training: mean of the last turn. Each contender draws masks of its own"""


def main():
    with reported_mistakes(), tempfile.TemporaryDirectory() as scratch:
        options, settings = parse(sys.argv[1:])
        try:
            measure(options, replace(settings, output_dir=scratch))
        except EOFError:
            sys.exit("error: a process ended before its time; what it said is above")
        except KeyboardInterrupt:
            sys.exit(130)


def measure(options, settings):
    """Measure each precision, and print what is found as it is found."""
    precisions = ["fp32", "bf16"] if options.precision == "both" else [options.precision]
    limit = receive(start(measure_limit, settings.use_cpu, precisions))
    packages = ("rawtrain", "torch", "transformers")
    versions = [f"{name} {metadata.version(name)}" for name in packages]
    rates = [f"{name} {limit[name] / 1e9:,.0f} GFLOP/s" for name in precisions]
    print(f"{', '.join(versions)}; {limit['device']}")
    print(f"limit, the best matrix product here: {', '.join(rates)}", flush=True)
    amount = f"{options.steps} steps of {settings.per_device_train_batch_size} rows"
    amount = "an evaluation of all rows" if options.evaluate else amount
    for precision in precisions:
        case, rows = replace(settings, bf16=precision == "bf16"), []
        for other in PARTS if options.parts else ["Trainer"]:
            found = take_turns([other, "rawtrain"], options, case)
            whole = found["rawtrain"]
            rows.append([other, *figures(found[other], whole, limit[precision])])
        rows.append(["rawtrain", *figures(whole, whole, limit[precision])])
        print(f"\n{whole['described']}\n{precision}, {options.rounds} turns of {amount}")
        print("\n".join(text_table(["", *FIGURES], rows)), flush=True)
    print(LEGEND)


def take_turns(contenders, options, settings):
    """What each contender says at the end, with the "seconds" of its turns.

    A turn more than `options.rounds` is taken first, to warm up.
    """
    steps = 1 if options.evaluate else options.steps
    settings = replace(settings, logging_steps=steps, max_steps=steps * (options.rounds + 1))
    workers, seconds = {}, {}
    for name in contenders:
        workers[name] = start(work, name, settings, options.evaluate)
        seconds[name] = [receive(workers[name])]
    for number in range(1, options.rounds + 1):
        for name, connection in workers.items():
            connection.send("go")
            seconds[name].append(receive(connection))
        newest = ", ".join(f"{name} {times[-1]:.2f} s" for name, times in seconds.items())
        print(f"turn {number} of {options.rounds}: {newest}", file=sys.stderr)
    for connection in workers.values():
        connection.send("go")
    return {name: receive(workers[name]) | {"seconds": seconds[name]} for name in contenders}


def figures(side, reference, limit):
    """The cells of a contender under FIGURES; the first turn does not count."""
    seconds, tokens, flops = (np.array(side[name][1:]) for name in ("seconds", "tokens", "flops"))
    ratios = seconds / np.array(reference["seconds"][1:])
    compared = f"{np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f})"
    return [
        f"{1000 * np.median(seconds) / side['steps']:,.1f}",
        f"{np.median(tokens / seconds):,.0f}",
        f"{100 * np.median(flops / seconds) / limit:.1f} %",
        f"{side['peak_mib']:,.0f}",
        f"{side['peak_gpu_mib']:,.0f}",
        "" if side is reference else compared,
        side["result"],
    ]


# Processes


def start(function, *arguments):
    """Call `function` with one end of a pipe in a process of its own; returns the other end."""
    context = multiprocessing.get_context("spawn")  # no setting of a process is another's
    ours, theirs = context.Pipe()
    context.Process(target=function, args=(theirs, *arguments), daemon=True).start()
    theirs.close()  # so that the end of the process is noticed here, as an EOFError
    return ours


def receive(connection):
    """The next thing that it sends; raised if it is a mistake of the user's that it found."""
    message = connection.recv()
    if isinstance(message, Exception):
        raise message
    return message


# The command line


def parse(arguments):
    """The options, and the settings that both sides are given."""
    parser = argparse.ArgumentParser(
        prog="python scripts/bench.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--task", choices=SETTINGS, required=True, help="the job")
    add("--model", required=True, metavar="NAME", help="folder or hub name of an encoder")
    add("--train_file", required=True, metavar="FILE", help="the rows, also for --evaluate")
    add("--precision", choices=("fp32", "bf16", "both"), default="both", help="(default: both)")
    add("--steps", type=int, default=5, metavar="N", help="steps of a turn (default: 5)")
    add("--rounds", type=int, default=5, metavar="N", help="turns that count (default: 5)")
    add("--evaluate", action="store_true", help="evaluations with all scores, not training")
    add("--parts", action="store_true", help="rawtrain without each of its parts, not Trainer")
    options, flags = parser.parse_known_args(arguments)
    if min(options.steps, options.rounds) < 1:
        raise ValueError("--steps and --rounds are numbers from 1; see --help")
    if util.find_spec("accelerate") is None:
        raise ValueError("Trainer needs accelerate: pip install accelerate")
    flags = [*DEFAULTS[options.task].split(), "--train_file", options.train_file, *flags]
    flags = ["--model_name_or_path", options.model, *flags]
    settings = settings_from(SETTINGS[options.task], flags)
    default = {field.name: field.default for field in fields(settings)}
    for name in FIXED:
        if getattr(settings, name) != default[name]:
            raise ValueError(f"--{name} is for the benchmark to decide: leave it out, see --help")
    return options, replace(settings, **FIXED)


if __name__ == "__main__":
    main()
