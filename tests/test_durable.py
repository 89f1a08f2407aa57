"""Complete under its name or not there; flushed before it gets the name; all damage is found."""

import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from rawtrain.errors import RunError
from rawtrain.run import durable
from rawtrain.run.durable import DamagedError, published, verify

FILES = {"a.bin": b"\x00\x01" * 50, "b.json": b'{"x": 1}\n', "empty": b""}


def make(folder, files=FILES):
    with published(folder, num_bytes=200) as aside:
        for name, content in files.items():
            (aside / name).write_bytes(content)
    return folder


def names(folder):
    return sorted(os.listdir(folder))


@pytest.fixture
def events(monkeypatch, tmp_path):
    """What is done to the disk from now on, in order: ("flush", name) and ("rename", old, new)."""
    seen, fsync = [], os.fsync

    def flush(descriptor):
        seen.append(("flush", Path(os.readlink(f"/proc/self/fd/{descriptor}")).name))
        fsync(descriptor)

    def renaming(original):
        def rename(old, new):
            seen.append(("rename", Path(old).name, Path(new).name))
            original(old, new)

        return rename

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(os, "rename", renaming(os.rename))
    monkeypatch.setattr(os, "replace", renaming(os.replace))
    return seen


def test_everything_is_flushed_before_it_gets_its_name(events, tmp_path):
    make(tmp_path / "thing")
    assert sorted(events[:3]) == [("flush", "a.bin"), ("flush", "b.json"), ("flush", "empty")]
    assert events[3:] == [
        ("flush", ".writing-manifest.json"),
        ("rename", ".writing-manifest.json", "manifest.json"),
        ("flush", ".writing-thing"),
        ("rename", ".writing-thing", "thing"),
        ("flush", tmp_path.name),
    ]


def test_a_text_is_flushed_before_it_replaces_another(events, tmp_path):
    (tmp_path / "x.json").write_text("old")
    durable.write_json(tmp_path / "x.json", {"b": 0.1, "a": None})
    assert events == [
        ("flush", ".writing-x.json"),
        ("rename", ".writing-x.json", "x.json"),
        ("flush", tmp_path.name),
    ]
    assert (tmp_path / "x.json").read_text() == '{\n  "a": null,\n  "b": 0.1\n}\n'


def test_nan_is_not_written_as_json(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        durable.write_json(tmp_path / "x.json", {"loss": float("nan")})
    assert names(tmp_path) == []


def test_an_infinite_number_is_written_as_json_and_read_as_infinite(tmp_path):
    values = {"perplexity": float("inf"), '"Infinity"': ["NaN", -float("inf"), "\\"], "f1": 0.5}
    durable.write_json(tmp_path / "x.json", values)
    text = (tmp_path / "x.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == values


def test_a_name_is_listed_before_it_is_written_and_no_longer_when_it_is_gone(events, tmp_path):
    (tmp_path / "written.json").write_text("[]")
    events.clear()
    durable.write_json(tmp_path / "x.json", 1)
    assert [event[-1] for event in events if event[0] == "rename"] == ["written.json", "x.json"]
    make(tmp_path / "thing")
    assert durable.listed(tmp_path) == ["x.json", "thing"]
    durable.delete(tmp_path / "x.json"), durable.delete(tmp_path / "thing")
    assert durable.listed(tmp_path) == [] and names(tmp_path) == ["written.json"]


def test_what_somebody_else_put_there_is_never_written_over(tmp_path):
    (tmp_path / "written.json").write_text("[]")
    (tmp_path / "x.json").write_text("the user's")
    (tmp_path / "thing").mkdir()
    with pytest.raises(
        RunError, match=r"x\.json: this run has to write it, but did not write what"
    ):
        durable.write_json(tmp_path / "x.json", 1)
    with pytest.raises(RunError, match=r"thing: this run has to write it"):
        make(tmp_path / "thing")
    assert (tmp_path / "x.json").read_text() == "the user's" and not names(tmp_path / "thing")


@pytest.mark.parametrize("text", ['["../photos"]', '["/etc"]', '[""]', '[".."]', "[1]", "{", "3"])
def test_a_list_that_names_other_folders_or_cannot_be_read_is_damage(text, tmp_path):
    (tmp_path / "written.json").write_text(text)
    with pytest.raises(DamagedError, match=r"written\.json: cannot be read"):
        durable.listed(tmp_path)


def test_a_deleted_folder_loses_its_name_before_its_files(events, tmp_path, monkeypatch):
    make(tmp_path / "thing")
    left = []
    monkeypatch.setattr(shutil, "rmtree", lambda path, **_: left.append(Path(path).name))
    durable.delete(tmp_path / "thing")
    assert events[-1] == ("rename", "thing", ".deleting-thing")
    assert left[-1] == ".deleting-thing" and names(tmp_path) == [".deleting-thing"]


def test_what_is_half_written_or_half_deleted_is_swept_away_and_nothing_else(tmp_path):
    make(tmp_path / "thing")
    (tmp_path / ".writing-other").mkdir()
    (tmp_path / ".writing-other" / "half").write_text("x")
    (tmp_path / ".writing-x.json").write_text("{")
    (tmp_path / ".deleting-old").mkdir()
    (tmp_path / ".writing-link").symlink_to(tmp_path / "thing")
    (tmp_path / ".writing-novel").mkdir()  # the user's, as is all that is not listed
    durable.sweep(tmp_path)
    assert len(names(tmp_path)) == 6
    listed = ["thing", "other", "x.json", "old", "link"]
    (tmp_path / "written.json").write_text(json.dumps(listed))
    durable.sweep(tmp_path)
    assert names(tmp_path) == [".writing-novel", "thing", "written.json"]
    assert durable.listed(tmp_path) == ["thing"]
    verify(tmp_path / "thing")


# Writes that fail


def refuse(number):
    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("call", ["fsync", "rename", "replace", "chmod"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_failure_names_the_path_and_the_free_space_and_leaves_nothing(
    call, number, tmp_path, monkeypatch
):
    make(tmp_path / "before")
    monkeypatch.setattr(os, call, refuse(number))
    with pytest.raises(RunError) as failure:
        make(tmp_path / "thing")
    said = str(failure.value)
    assert str(tmp_path / "thing") in said and os.strerror(number) in said
    assert "MB are free in" in said and "it needs about" in said
    assert names(tmp_path) == ["before"]
    verify(tmp_path / "before")


def test_a_full_disk_leaves_what_was_complete_and_the_write_succeeds_once_there_is_room(small_disk):
    make(small_disk / "first", {"x": b"1" * 150_000})
    (small_disk / "ballast").write_bytes(b"0" * 150_000)
    with pytest.raises(RunError, match=r"second: cannot be written: No space left on device"):
        make(small_disk / "second", {"x": b"2" * 150_000})
    assert names(small_disk) == ["ballast", "first"]
    verify(small_disk / "first")
    (small_disk / "ballast").unlink()
    verify(make(small_disk / "second", {"x": b"2" * 150_000}))


def test_safetensors_own_error_for_a_full_disk_is_explained_too(small_disk):
    many = {"x": torch.zeros(200_000)}
    said = r"thing: cannot be written: .*No space left on device.*it needs about 0\.8 MB"
    with (
        pytest.raises(RunError, match=said),
        published(small_disk / "thing", num_bytes=800_000) as aside,
    ):
        save_file(many, aside / "x.safetensors")
    assert names(small_disk) == []


def test_a_folder_that_vanished_is_named(tmp_path):
    with pytest.raises(RunError, match=r"gone/thing: cannot be written: No such file or directory"):
        make(tmp_path / "gone" / "thing")


# Damage


def flip(rng, folder, name):
    content = bytearray((folder / name).read_bytes())
    bit = rng.integers(8 * len(content))
    content[bit // 8] ^= 1 << bit % 8
    (folder / name).write_bytes(content)


def truncate(rng, folder, name):
    size = (folder / name).stat().st_size
    os.truncate(folder / name, rng.integers(size))


def zero_tail(rng, folder, name):
    content = (folder / name).read_bytes()
    kept = rng.integers(len(content) - 1)
    (folder / name).write_bytes(content[:kept] + bytes(len(content) - kept))


def remove(rng, folder, name):
    (folder / name).unlink()


def append(rng, folder, name):
    (folder / name).write_bytes((folder / name).read_bytes() + b"\0")


def swap(rng, folder, name):
    other = "b.json" if name != "b.json" else "a.bin"
    content = (folder / name).read_bytes(), (folder / other).read_bytes()
    (folder / other).write_bytes(content[0]), (folder / name).write_bytes(content[1])


def link(rng, folder, name):
    elsewhere = folder.parent / f"elsewhere-{name}"
    shutil.move(folder / name, elsewhere)
    (folder / name).symlink_to(elsewhere)


@pytest.mark.parametrize("damage", [flip, truncate, zero_tail, remove, append, swap, link])
def test_every_damage_is_found(damage, tmp_path):
    rng = np.random.default_rng(0)
    for number in range(40):
        name = ["a.bin", "b.json", "manifest.json"][number % 3]
        content = {"a.bin": rng.bytes(60), "b.json": b'{"x": 1.5, "y": [2]}'}
        folder = make(tmp_path / str(number), content)
        damage(rng, folder, name)
        with pytest.raises(DamagedError, match=str(folder)):
            verify(folder)


def test_a_file_that_does_not_belong_to_it_is_damage_unless_that_is_allowed(tmp_path):
    folder = make(tmp_path / "thing")
    (folder / ".DS_Store").write_text("")
    verify(folder)
    (folder / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(DamagedError, match=r"pytorch_model\.bin does not belong to it"):
        verify(folder)
    verify(folder, others_allowed=True)


@pytest.mark.parametrize(
    "manifest",
    [
        b"", b"{", b"[]", b"null", b'{"files": []}', b'{"files": {"a.bin": 3}}', b"\xff",
        b'{"files": {"a.bin": {"bytes": 100}}}', b"[" * 100_000,
    ],
)  # fmt: skip
def test_an_unreadable_manifest_is_damage(manifest, tmp_path):
    folder = make(tmp_path / "thing")
    (folder / "manifest.json").write_bytes(manifest)
    with pytest.raises(DamagedError, match=r"manifest\.json: cannot be read|does not belong"):
        verify(folder)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "sub/file", ".."])
def test_no_file_outside_the_folder_is_read(name, tmp_path, monkeypatch):
    (tmp_path / "secret").write_text("x")
    folder = make(tmp_path / "thing")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = {"bytes": 1, "sha256": "0"}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    opened, original = [], Path.open
    monkeypatch.setattr(
        Path, "open", lambda path, *a, **k: (opened.append(path), original(path, *a, **k))[1]
    )
    with pytest.raises(DamagedError, match="is missing"):
        verify(folder)
    assert all(path.parent == folder and path.name in names(folder) for path in opened)
