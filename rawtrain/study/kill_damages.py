"""Damage to a checkpoint, of every kind that a disk or a careless hand does."""

import os
import shutil

from rawtrain.run.checkpoint import in_folder
from rawtrain.run.durable import MANIFEST


def damage_newest(output_dir, rng):
    """Damage the newest checkpoint in one way, drawn from `rng`.

    Returns what was done, in words; the name that the program should tell; and which checkpoints
    are damaged now.
    """
    newest, older = [path for _, path in in_folder(output_dir)[:2]]
    kind = rng.choice(
        (flip, truncate, empty, zero_tail, remove, add, swap_files, swap_folders),
        p=(0.51, 0.07, 0.07, 0.07, 0.07, 0.07, 0.07, 0.07),
    )
    if kind in (swap_files, swap_folders):
        name = kind(newest, older, rng)
        return f"{kind.__name__} {name}", name, [newest, older]
    file = newest / rng.choice(sorted(os.listdir(newest)))
    kind(file, rng)
    # a manifest that was changed accuses the files of not being what it says
    name = newest.name if file.name == MANIFEST else added(file).name if kind is add else file.name
    return f"{kind.__name__} {file.name}", name, [newest]


def flip(file, rng):
    """One bit, anywhere."""
    content = bytearray(file.read_bytes())
    content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
    file.write_bytes(content)


def truncate(file, rng):
    os.truncate(file, int(rng.integers(file.stat().st_size)))


def empty(file, rng):
    os.truncate(file, 0)


def zero_tail(file, rng):
    """The right length and zeros at the end: what a power cut leaves of a file not flushed."""
    num_bytes = file.stat().st_size
    os.truncate(file, int(rng.integers(num_bytes - 1)))
    os.truncate(file, num_bytes)


def remove(file, rng):
    file.unlink()


def add(file, rng):
    shutil.copy(file, added(file))


def added(file):
    return file.with_name(f"copy-of-{file.name}")


def swap_files(newest, older, rng):
    """A file of two checkpoints that is not the same in both."""
    names = ("model.safetensors", "optimizer.safetensors", "state.json", MANIFEST)
    name = rng.choice(names)
    aside = newest / "aside"
    os.rename(newest / name, aside)
    os.rename(older / name, newest / name)
    os.rename(aside, older / name)
    return newest.name if name == MANIFEST else name


def swap_folders(newest, older, rng):
    aside = newest.with_name("aside")
    os.rename(newest, aside)
    os.rename(older, newest)
    os.rename(aside, older)
    return newest.name
