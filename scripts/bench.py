"""How fast rawtrain is beside transformers' Trainer and a plain padded loop.

    python scripts/bench.py                                   # needs no file; a few minutes
    python scripts/bench.py --task ner --model DIR --train_file train.conll --token_column 1
    python scripts/bench.py --task mlm --model DIR --train_file texts.txt --json found.json
    python scripts/bench.py --task ner --model DIR --train_file train.conll -- --stride 0

A flag that is not listed below is one of the job (python -m rawtrain.ner --help) and goes to all
contenders; what follows after -- goes to rawtrain alone.

Each contender is a process of its own with the same model, rows, order and settings. They take
turns of some steps, one at a time, so that whatever slows the machine down meets all of them, and a
ratio compares turns that stand beside each other.
"""

import argparse
import contextlib
import importlib
import importlib.util
import json
import multiprocessing
import sys
import tempfile
from pathlib import Path

import bench_report as report

from rawtrain.cli.command import reported_mistakes, settings_from
from rawtrain.config import MlmSettings, NerSettings

# What is measured, and the functions that do it in processes of their own. They are named, not
# imported: a process begins with the memory of the one that started it, and this one stays small.
CONTENDERS = {
    "train": {
        "rawtrain": "bench_contenders.train_rawtrain",
        "trainer": "bench_contenders.train_trainer",
        "plain": "bench_contenders.train_plain",
    },
    "evaluate": {
        "rawtrain": "bench_contenders.evaluate_rawtrain",
        "trainer": "bench_contenders.evaluate_trainer",
    },
    "collators": "bench_parts.compare_collators",
    "encode": "bench_parts.compare_encoding",
}
BATCH_SIZES = {"ner": 24, "mlm": 32}  # of chapters 4 and 9 of the book
ROW_LENGTH = 128  # of masked-LM rows, as in chapter 9


class BrokenOff(Exception):
    """The measurement says nothing: a worker ended, or the contenders had other rows."""


def main():
    with reported_mistakes(), tempfile.TemporaryDirectory() as scratch:
        options = parse(sys.argv[1:], scratch)
        try:
            results = measure(options)
        except BrokenOff as reason:
            print(f"error: {reason}", file=sys.stderr)
            sys.exit(1)
        except KeyboardInterrupt:
            sys.exit(130)
        if options.json:
            text = json.dumps(results, indent=1, default=str)
            Path(options.json).write_text(text + "\n", encoding="utf-8")


def measure(options):
    """Measure all that was asked for, show it as it is found, and return everything."""
    results = {"options": vars(options), **report.environment(), "cases": []}
    has_turns = "train" in options.what or "evaluate" in options.what
    results["limit"] = measure_limit(options) if has_turns else None
    show(report.environment_lines(results))
    for task in options.tasks:
        for what in options.what:
            is_part = what in ("collators", "encode")  # where precision plays no part
            for precision in options.precisions[:1] if is_part else options.precisions:
                case = {"what": what, "task": task, "precision": precision}
                if is_part:
                    case |= measure_part(options, case)
                else:
                    case |= measure_contenders(options, case, results["limit"])
                show(["", *report.case_lines(case, options, results["cases"])])
                results["cases"].append(case)
    if has_turns:
        show(["", report.LEGEND])
    return results


def measure_contenders(options, case, limit):
    """What a case is, and what was found of its contenders."""
    described, turns, found = take_turns(options, case)
    if difference := report.other_rows(turns):
        raise BrokenOff(difference)
    for name in report.busy_while_waiting(turns):
        progress(f"warning: {report.NAMES[name]} used the processor while others had their turn")
    flops, rate = found["rawtrain"].pop("flops"), limit[case["precision"]]["flops"]
    times = {name: report.counted_seconds(turns[name]) for name in turns}
    return {
        "described": described,
        "useful_flops": flops,
        "contenders": {
            name: found[name] | report.summary(turns[name], flops, rate) | {"turns": turns[name]}
            for name in turns
        },
        "ratios": {
            name: report.ratios(times[name], times["rawtrain"])
            for name in turns
            if name != "rawtrain"
        },
    }


def take_turns(options, case):
    """A description of the case, and for each contender its turns and what it says at the end.

    The first turn of each is for warming up; the others go round.
    """
    amount = options.steps if case["what"] == "train" else options.rounds + 1
    workers, turns = {}, {}
    with contextlib.ExitStack() as stack:
        for name, function in CONTENDERS[case["what"]].items():
            progress(f"{label(case)}: {report.NAMES[name]} warms up")
            flags = flags_of(options, case, name)
            workers[name] = stack.enter_context(worker(function, options, case, flags, amount))
            described = workers[name].receive("described")
            turns[name] = [workers[name].receive("turn")]
        for number in range(1, options.rounds + 1):
            for name, process in workers.items():
                turns[name].append(process.take_turn())
            newest = {name: turns[name][-1]["seconds"] for name in turns}
            progress(f"{label(case)}: turn {number} of {options.rounds}: {report.seconds(newest)}")
        found = {name: process.finish() for name, process in workers.items()}
    return described, turns, found


def measure_part(options, case):
    """Collators or encoding: both ways in one process."""
    progress(f"{case['task']}: {case['what']}")
    flags = flags_of(options, case, "rawtrain")
    with worker(CONTENDERS[case["what"]], options, case, flags) as process:
        return {"described": process.receive("described"), **process.receive("done")}


def measure_limit(options):
    """The matmul rates of the machine, before anything else runs on it."""
    progress("the machine's rate of matrix products")
    asked = options.precisions, options.use_cpu, options.threads
    with Worker("bench_turns.work_limit", *asked) as process:
        return process.receive("done")


# Worker processes


def worker(function, options, case, flags, *arguments):
    job = case["task"], flags, options.threads
    return Worker("bench_turns.work", function, *job, *arguments)


class Worker:
    """A process that calls a function with its end of a pipe; what it sends comes in order."""

    def __init__(self, function, *arguments):
        # "spawn": a new interpreter, so that no setting of one process is another's
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=call, args=(function, theirs, *arguments))
        self.process.start()
        theirs.close()  # so that its end is noticed here

    def receive(self, kind):
        """The next thing that it sends; ValueError for a mistake of the user's that it found."""
        try:
            found, value = self.connection.recv()
        except EOFError:
            raise BrokenOff("a worker ended before its time; what it said is above") from None
        if found == "mistake":
            raise ValueError(value)
        assert found == kind
        return value

    def take_turn(self):
        self.connection.send("go")
        return self.receive("turn")

    def finish(self):
        self.connection.send("go")
        return self.receive("done")

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.connection.close()  # one that waits for a turn ends by that
        self.process.join(timeout=None if error[0] is None else 5)
        self.process.terminate()


def call(function, *arguments):
    """Call "module.function" in the new process."""
    module, name = function.split(".")
    getattr(importlib.import_module(module), name)(*arguments)


# The command line


class Parser(argparse.ArgumentParser):
    def error(self, message):
        raise ValueError(f"{message}; see --help")


def parse(arguments, output_dir):
    """The options, checked as far as that is possible without looking at model and data."""
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    parser = make_parser()
    options, options.job_flags = parser.parse_known_args(own)
    options.rawtrain_flags = arguments[len(own) + 1 :]
    options.output_dir = str(Path(output_dir) / "output")
    if options.train_file and not options.task:
        raise ValueError("--train_file needs to know its job: add --task ner or --task mlm")
    if options.blocks and options.task == "ner":
        raise ValueError("--blocks is for --task mlm; rows of ner are sentences")
    if options.json and not Path(options.json).resolve().parent.is_dir():
        raise ValueError(f"--json {options.json}: there is no such folder")
    if importlib.util.find_spec("accelerate") is None:
        raise ValueError("Trainer needs accelerate: pip install accelerate")
    options.tasks = [options.task] if options.task else ["ner", "mlm"]
    options.precisions = ["fp32", "bf16"] if options.precision == "both" else [options.precision]
    options.what = [what for what in CONTENDERS if getattr(options, what)] or ["train"]
    settings = [
        checked(options, {"what": options.what[0], "task": task, "precision": precision}, contender)
        for task in options.tasks
        for precision in options.precisions
        for contender in ("trainer", "rawtrain")
    ]
    options.use_cpu = settings[0].use_cpu
    return options


def make_parser():
    parser = Parser(
        prog="python scripts/bench.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--task", choices=BATCH_SIZES, help="the job (default: both, on text that is here already)")
    add("--model", metavar="NAME", help="folder or hub name (default: a small one, not trained)")
    add("--train_file", metavar="FILE", help="the rows (default: docstrings of Python and torch)")
    add("--precision", choices=("fp32", "bf16", "both"), default="both", help="(default: both)")
    add("--batch_size", type=count, metavar="N", help="(default: 24 for ner, 32 for mlm)")
    add("--blocks", action="store_true", help=f"mlm: blocks of {ROW_LENGTH} tokens, not lines")
    add("--steps", type=count, default=5, metavar="N", help="steps of a turn (default: 5)")
    add("--rounds", type=count, default=5, metavar="N", help="turns that count (default: 5)")
    add("--seed", type=int, default=42, metavar="N", help="of weights, order and masks")
    add("--threads", type=count, metavar="N", help="of torch (default: as torch chooses)")
    add("--json", metavar="FILE", help="write everything there, each turn included")
    group = parser.add_argument_group("what is measured (default: --train)")
    group.add_argument("--train", action="store_true", help="training steps")
    group.add_argument("--evaluate", action="store_true", help="an evaluation with all its scores")
    group.add_argument("--collators", action="store_true", help="making batches, on one thread")
    group.add_argument("--encode", action="store_true", help="from words or text to rows of tokens")
    add = group.add_argument
    add("--per_device_eval_batch_size", type=count, default=8, metavar="N", help="(default: 8)")
    add("--max_eval_samples", type=count, default=1000, metavar="N", help="rows (default: 1000)")
    return parser


def count(text):
    """The type of a number of things."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a whole number from 1")
    return int(text)


def flags_of(options, case, contender):
    """The command line of the job for a contender of a case."""
    flags = [
        part for name, value in decided(options, case).items() for part in (f"--{name}", value)
    ]
    flags += ["--model_name_or_path", options.model] if options.model else []
    flags += ["--train_file", options.train_file] if options.train_file else []
    if case["task"] == "mlm":
        flags += ["--max_seq_length", ROW_LENGTH, "--line_by_line", not options.blocks]
    if case["what"] == "evaluate":  # the rows to train on are those to evaluate
        flags += ["--max_train_samples", options.max_eval_samples]
    flags += options.job_flags + (options.rawtrain_flags if contender == "rawtrain" else [])
    return [str(flag) for flag in flags]


def decided(options, case):
    """The settings that are not the user's to give in another way."""
    return {
        "output_dir": options.output_dir,
        "seed": options.seed,
        "do_train": True,
        "per_device_train_batch_size": options.batch_size or BATCH_SIZES[case["task"]],
        "per_device_eval_batch_size": options.per_device_eval_batch_size,
        "max_steps": options.steps * (options.rounds + 1),
        "bf16": case["precision"] == "bf16",
        "fp16": False,
        "gradient_accumulation_steps": 1,
        "gradient_checkpointing": False,
        "dataloader_num_workers": 0,
        "logging_strategy": "steps",
        "logging_steps": options.steps,
        "eval_strategy": "no",
        "save_strategy": "no",
        "disable_tqdm": True,
    }


def checked(options, case, contender):
    """The settings of a contender; ValueError if a flag of the job changes what is decided here."""
    settings_class = MlmSettings if case["task"] == "mlm" else NerSettings
    settings = settings_from(settings_class, flags_of(options, case, contender))
    for name, value in decided(options, case).items():
        if getattr(settings, name) != value:
            raise ValueError(f"--{name} is the benchmark's to decide: leave it out, or see --help")
    return settings


def show(lines):
    print("\n".join(lines), flush=True)


def progress(line):
    print(line, file=sys.stderr, flush=True)


def label(case):
    what = "" if case["what"] == "train" else f" {case['what']}"
    return f"{case['task']} {case['precision']}{what}"


if __name__ == "__main__":
    main()
