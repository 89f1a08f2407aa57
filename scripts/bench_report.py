"""From raw turns to numbers, and from numbers to what is printed."""

import platform
import statistics
from importlib import metadata
from pathlib import Path

NAMES = {"rawtrain": "rawtrain", "trainer": "Trainer", "plain": "plain loop"}


# Numbers


def ratios(times, reference_times):
    """How many times longer `times` are than `reference_times`, pair by pair.

    >>> ratios([2.0, 6.0, 4.0], [1.0, 2.0, 1.0])
    {'median': 3.0, 'min': 2.0, 'max': 4.0, 'pairs': [2.0, 3.0, 4.0]}
    """
    pairs = [a / b for a, b in zip(times, reference_times, strict=True)]
    return {
        "median": statistics.median(pairs),
        "min": min(pairs),
        "max": max(pairs),
        "pairs": pairs,
    }


def other_rows(turns):
    """What differs, if a contender had other numbers of real tokens in its steps than the first.

    turns: for each contender its turns. Rows come in a random order, so steps with equal numbers,
    one after the other, are steps on the same rows. None if nothing differs.
    """
    (first, first_turns), *others = turns.items()
    for name, other_turns in others:
        for number, (ours, theirs) in enumerate(zip(first_turns, other_turns, strict=True)):
            if ours["tokens"] != theirs["tokens"]:
                return (
                    f"not the same rows, so nothing can be compared: in the steps of turn {number} "
                    f"{first} had {ours['tokens']} real tokens and {name} {theirs['tokens']}"
                )
    return None


def summary(turns, flops, rate):
    """The medians over the turns that count.

    flops: the useful work of each turn, the first included. rate: the machine's limit in FLOP/s.
    """
    counted = turns[1:]
    times = counted_seconds(turns)
    return {
        "tokens_per_second": statistics.median(sum(t["tokens"]) / t["seconds"] for t in counted),
        "ms_per_step": statistics.median(1000 * t["seconds"] / len(t["tokens"]) for t in counted),
        "cores_used": sum(t["cpu_seconds"] for t in counted) / sum(times),
        "share_of_limit": statistics.median(
            work / time / rate for work, time in zip(flops[1:], times, strict=True)
        ),
    }


def busy_while_waiting(turns):
    """The contenders that used more than a tenth of a core while they waited for their turns.

    Threads of OpenMP may wait by turning in circles (OMP_WAIT_POLICY=ACTIVE), and then slow down
    whoever has the turn.
    """
    return [
        name
        for name, taken in turns.items()
        if sum(t["waited_cpu_seconds"] for t in taken)
        > sum(t["waited_seconds"] for t in taken) / 10
    ]


def counted_seconds(turns):
    """The times of the turns after the first, which was for warming up."""
    return [turn["seconds"] for turn in turns[1:]]


# What is printed


def case_lines(case, options, earlier_cases):
    """What the rows and the model are, unless the case before had the same, and the table."""
    task, precision = case["task"], case["precision"]
    what, named = {
        "train": (training_lines, f"{task}, {precision}"),
        "evaluate": (evaluation_lines, f"{task}, {precision}"),
        "collators": (collator_lines, task),
        "encode": (encoding_lines, task),
    }[case["what"]]
    heading, *lines = what(case, options)
    described = description_lines(case)
    if earlier_cases and description_lines(earlier_cases[-1]) == described:
        described = []
    return [*described, *[""] * bool(described), f"{named}: {heading}", *lines]


def description_lines(case):
    found = case["described"]
    return [
        f"{found['num_rows']:,} rows of {found['source']}, {found['mean_length']:.1f} tokens each "
        f"on average, {found['longest']} at most",
        f"{found['architecture']}, {found['num_layers']} layers of width {found['width']}, "
        f"{found['num_parameters'] / 1e6:.1f}M parameters: "
        f"{found['model'] or 'new, with random weights'}",
    ]


def training_lines(case, options):
    contenders = case["contenders"]
    has_gpu = any("peak_cuda_mib" in contender for contender in contenders.values())
    gpu = ["GPU MiB"] if has_gpu else []
    header = ["", "real tokens/s", "ms/step", "peak MiB", *gpu]
    rows = [[*header, "rawtrain faster", "of the limit", "loss"]]
    for name, contender in contenders.items():
        row = [NAMES[name], f"{contender['tokens_per_second']:,.0f}"]
        row += [f"{contender['ms_per_step']:.1f}", f"{contender['peak_mib']:,.0f}"]
        row += [f"{contender['peak_cuda_mib']:,.0f}"] if has_gpu else []
        row += [times(case["ratios"].get(name)), f"{100 * contender['share_of_limit']:.1f} %"]
        rows.append([*row, f"{contender['losses'][-1]:.3f}"])
    batch_size = case["described"]["settings"]["per_device_train_batch_size"]
    heading = f"batches of {batch_size}, {options.rounds} turns of {options.steps} steps"
    return [heading, *table(rows)]


def evaluation_lines(case, options):
    contenders = case["contenders"]
    shared = set.intersection(*(set(contender["scores"]) for contender in contenders.values()))
    scores = [score for score in ("loss", "f1", "accuracy") if score in shared]
    header = ["", "real tokens/s", "seconds", "peak MiB"]
    rows = [[*header, "rawtrain faster", "of the limit", *scores]]
    for name, contender in contenders.items():
        row = [NAMES[name], f"{contender['tokens_per_second']:,.0f}"]
        row += [f"{contender['ms_per_step'] / 1000:.2f}", f"{contender['peak_mib']:,.0f}"]
        row += [times(case["ratios"].get(name)), f"{100 * contender['share_of_limit']:.1f} %"]
        rows.append([*row, *(f"{contender['scores'][score]:.4f}" for score in scores)])
    batch_size = options.per_device_eval_batch_size
    return [f"evaluation in batches of {batch_size}, {options.rounds} turns", *table(rows)]


def collator_lines(case, options):
    rows = [["rows", "longest", "rawtrain µs", "transformers µs", "rawtrain faster"]]
    for batch in case["batches"]:
        micros = [
            1e6 * statistics.median(batch["seconds"][name]) for name in ("rawtrain", "trainer")
        ]
        row = [f"{batch['num_rows']}", f"{batch['longest']}"]
        rows.append([*row, *(f"{time:,.0f}" for time in micros), times(batch["ratio"])])
    return ["collating a batch, one thread", *table(rows)]


def encoding_lines(case, options):
    rows = [["", "seconds", "tokens", "rawtrain faster"]]
    for name, seconds in case["seconds"].items():
        ratio = None if name == "rawtrain" else case["ratios"][name]
        row = [name, f"{statistics.median(seconds):.2f}", f"{case['tokens'][name]:,}"]
        rows.append([*row, times(ratio)])
    reading = case["reading_seconds"]
    before = "" if reading is None else f", after {reading:.2f} seconds of reading the file"
    return [f"encoding all rows{before}", *table(rows)]


def environment_lines(results):
    """Versions, machine and limit, which is None where no contender is to be compared with it."""
    limit, options = results["limit"], results["options"]
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    if limit is None:
        return [versions, f"{results['cpu']}, seed {options['seed']}"]
    rates = [
        f"{precision} {limit[precision]['flops'] / 1e9:,.0f} GFLOP/s ({limit[precision]['how']})"
        for precision in options["precisions"]
    ]
    threads = f"torch on {limit['num_threads']} threads, device {limit['device']}"
    return [
        versions,
        f"{results['cpu']}, {threads}, seed {options['seed']}",
        f"limit, the best matrix product here: {', '.join(rates)}",
    ]


LEGEND = """\
real tokens/s    padding is not counted; like the times, the median over the turns
rawtrain faster  the time of a turn over that of rawtrain's turn beside it: median (min to max)
of the limit     of the matrix products that the rows need, at the best rate of this machine
loss             mean of the last turn; masks are drawn anew by each contender
peak MiB         the most memory that the process had, its libraries included"""


def times(ratio):
    """A ratio as "3.20x (3.11 to 3.32)": median, smallest and largest pair."""
    if ratio is None:
        return ""
    return f"{ratio['median']:.2f}x ({ratio['min']:.2f} to {ratio['max']:.2f})"


def seconds(by_name):
    return ", ".join(f"{NAMES[name]} {time:.2f} s" for name, time in by_name.items())


def table(rows):
    """Rows of cells as aligned lines: the first column to the left, the others to the right.

    >>> print("\\n".join(table([["case", "ms"], ["ner", "12.5"], ["masked", "7"]])))
    case      ms
    ner     12.5
    masked     7
    """
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return lines


# Where it was measured


def environment():
    """Versions and machine, without importing what is measured."""
    packages = ("rawtrain", "torch", "transformers", "accelerate", "datasets")
    versions = {name: metadata.version(name) for name in packages}
    return {
        "versions": versions | {"Python": platform.python_version()},
        "cpu": cpu_name(),
        "platform": platform.platform(),
    }


def cpu_name():
    cpu_info = Path("/proc/cpuinfo")  # of Linux; platform.processor() says "x86_64" there
    if cpu_info.is_file():
        for line in cpu_info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
