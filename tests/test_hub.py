"""--push_to_hub, against a server on this machine: what arrives, what fails, what is never told."""

import io
import json
import os
import re
import socket
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from conftest import tagged_sentences, user_of, write_conll
from fake_hub import TOKEN, fake_hub
from huggingface_hub import constants

from rawtrain import ner
from rawtrain.cli.command import settings_from
from rawtrain.config import MlmSettings, NerSettings
from rawtrain.errors import RunError
from rawtrain.job import decide_work
from rawtrain.results.hub import RESULTS, log_in, problems_of, upload, uploaded_files
from rawtrain.run.durable import ours

# What of a run's files nobody else gets to see, and why.
KEPT_BACK = {
    "manifest.json": "it is for the run that goes on",
    "settings.json": "the paths of this machine",
    "identity.json": "it is for the run that goes on",
    "card.json": "README.md is made of it",
    "predictions.conll": "the whole test data, whose licence may forbid it",
    "trackers": "other services have it",
    "checkpoint-2": "it is for the run that goes on",
}
MODEL = {
    *("model.safetensors", "model.safetensors.index.json", "model-*.safetensors", "config.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.txt", "vocab.json", "merges.txt", "sentencepiece.bpe.model", "spiece.model"),
    "chat_template.jinja",
}
# huggingface_hub waits half a minute before it gives up; nobody wants to wait that long here
RUN = """if True:
    import runpy, sys, time
    wait = time.sleep
    time.sleep = lambda seconds: wait(min(seconds, 0.01))
    runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""


@pytest.fixture(scope="module")
def command(tmp_path_factory, model_dir):
    """The arguments of a short run with checkpoints."""
    folder = tmp_path_factory.mktemp("run")
    flags = ["--model_name_or_path", model_dir, "--output_dir", str(folder / "my-tagger")]
    for seed, name in enumerate(["train", "validation", "test"]):
        file = write_conll(folder / f"{name}.conll", *tagged_sentences(20, seed))
        flags += [f"--{name}_file", file]
    return [*flags, "--use_cpu", "--max_steps", "4", "--save_steps", "2", "--log_level", "debug"]


def environment(url, token=TOKEN):
    """That of a user of the server at `url`, without anything of the person who runs the tests."""
    own = ("HF_", "HUGGING", "WANDB")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    kept["HF_DATASETS_CACHE"] = os.environ["HF_DATASETS_CACHE"]
    kept |= {"HF_ENDPOINT": url, "NO_PROXY": "*", "HF_HUB_DISABLE_XET": "1"}
    kept |= {"HF_HOME": os.environ["HF_DATASETS_CACHE"], "HF_HUB_DISABLE_TELEMETRY": "1"}
    return kept | {"HF_TOKEN": token}


def start(arguments, hub, token=TOKEN):
    """What the command says on stdout and stderr, in which the token is not."""
    said, logged = io.StringIO(), io.StringIO()
    with user_of(hub, token), redirect_stdout(said), redirect_stderr(logged):
        ner.main(settings_from(NerSettings, arguments))
    assert TOKEN not in said.getvalue() + logged.getvalue()
    return said.getvalue(), logged.getvalue()


def start_process(arguments, url, token=TOKEN):
    """Run the command in a process of its own, and see that the token shows nowhere."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, "rawtrain.ner", *arguments],
        env=environment(url, token),
        capture_output=True,
        text=True,
    )
    assert TOKEN not in done.stdout + done.stderr
    return done


def uploaded(hub, repository="ada/my-tagger"):
    return hub.repos[repository]["files"]


def on_disk(folder):
    return {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def finished(command):
    """The output directory of the run, the server it was uploaded to, and what was said."""
    with fake_hub() as hub:
        flags = ["--push_to_hub", "--hub_private_repo", "--hub_token", TOKEN]
        said, _ = start([*command, *flags], hub, token="hf_of_another")
        yield Path(command[3]), hub, said


# What arrives


def test_the_model_its_card_and_its_results_are_uploaded_byte_for_byte(finished):
    output_dir, hub, said = finished
    files = uploaded(hub)
    assert set(files) == {
        *("README.md", "metrics.jsonl", "trainer_state.json", "train_results.json"),
        *("eval_results.json", "predict_results.json", "all_results.json", "loss.png"),
        "report.html",
        *("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"),
    }
    assert files == {name: (output_dir / name).read_bytes() for name in files}
    assert f"uploaded: {hub.url}/ada/my-tagger\n" in said
    assert hub.repos["ada/my-tagger"]["create"]["visibility"] == "private"
    assert hub.repos["ada/my-tagger"]["message"] == "End of training"
    assert sum(request.startswith("PUT /lfs/") for request in hub.requests) == 1


def test_the_run_has_what_is_not_uploaded(finished):
    names = {path.name for path in finished[0].iterdir()}
    assert {"checkpoint-2", ".lock", "identity.json", "settings.json"} <= names


def test_the_token_is_in_no_file(finished):
    files = on_disk(finished[0])
    assert files and not [path for path, content in files.items() if TOKEN.encode() in content]


def test_every_file_that_a_run_writes_is_published_or_kept_back(finished):
    """A new one has to be decided on."""
    assert {path.name for path in ours(finished[0])} - {*RESULTS} - MODEL <= set(KEPT_BACK)
    assert not set(RESULTS) & (set(KEPT_BACK) | MODEL)


def test_a_user_file_is_not_uploaded(finished):
    notes = finished[0] / "notes.json"
    notes.write_text("{}")
    assert "notes.json" not in uploaded_files(finished[0])
    notes.unlink()


def test_the_finished_run_started_again_uploads_without_training(finished, command, hub):
    output_dir, first, _ = finished
    before = on_disk(output_dir)
    _, logged = start([*command, "--push_to_hub", "--hub_model_id", "acme/names"], hub)
    assert "it is not trained again" in logged
    model = "model.safetensors"
    assert uploaded(hub, "acme/names")[model] == uploaded(first)[model]
    assert b'model="acme/names"' in uploaded(hub, "acme/names")["README.md"]
    changed = {
        path.name for path, content in on_disk(output_dir).items() if before[path] != content
    }
    assert changed <= {"README.md", "card.json", ".lock"}


# What fails at the end


def settings(output_dir, **more):
    return NerSettings(output_dir=str(output_dir), push_to_hub=True, **more)


FAILURES = [
    (r"repos/create", 401, "Invalid|401"),
    (r"repos/create", 403, "403"),
    (r"preupload", 401, "401"),
    (r"preupload", 500, "500"),
    (r"objects/batch", 500, "500"),
    (r"PUT /lfs/", 500, "Error while uploading 'model.safetensors'"),
    (r"commit/main", 500, "500"),
    (r"repos/create", "die", "disconnect|reset|peer"),
    (r"PUT /lfs/", "die", "Error while uploading 'model.safetensors'"),
    (r"commit/main", "die", "disconnect|reset|peer"),
]


@pytest.mark.parametrize(("pattern", "answer", "said"), FAILURES)
def test_a_failed_upload_loses_nothing_and_says_how_to_repeat_it(
    finished, inside, pattern, answer, said
):
    before = on_disk(finished[0])
    inside.fail(pattern, answer)
    with pytest.raises(RunError, match="the upload to ada/my-tagger failed: ") as failed:
        upload(settings(finished[0]), "ada/my-tagger")
    message = str(failed.value)
    assert re.search(said, message) and TOKEN not in message
    assert "Nothing is lost" in message and message.endswith("which uploads without training")
    after = on_disk(finished[0])
    assert after == before
    assert not inside.repos.get("ada/my-tagger", {}).get("files")


@pytest.mark.slow
def test_a_server_that_dies_in_the_middle_ends_the_command_with_1(finished, command, hub):
    hub.fail("PUT /lfs/", "die")
    done = start_process([*command, "--push_to_hub"], hub.url)
    assert done.returncode == 1
    assert done.stderr.count("error: Nothing is lost: the model and the results are in") == 1
    assert "Traceback" not in done.stderr
    assert (finished[0] / "model.safetensors").exists()


def test_uploading_as_hf_xet_does_without_large_files(finished, inside, monkeypatch):
    """With hf_xet installed huggingface_hub goes another way; only its storage is not here."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    inside.lfs_names = "none"
    upload(settings(finished[0]), "ada/my-tagger")
    assert set(uploaded(inside)) == set(uploaded_files(finished[0]))


# What is told at the start


@pytest.mark.slow
def test_a_wrong_token_ends_the_command_with_2_before_anything_is_written(command, hub, tmp_path):
    arguments = [*command, "--push_to_hub", "--output_dir", str(tmp_path / "out")]
    done = start_process(arguments, hub.url, token="hf_wrong")
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert line == (
        f"error: --push_to_hub: {hub.url} does not accept the token; run `hf auth login` or set "
        f"HF_TOKEN again (--hub_token comes before both)"
    )
    assert "hf_wrong" not in done.stdout + done.stderr
    assert not (tmp_path / "out").exists() and hub.requests == ["GET /api/whoami-v2"]


def test_without_a_token_the_message_says_where_to_get_one(inside, monkeypatch, tmp_path):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    with pytest.raises(
        ValueError, match=r"there is no token for .*; run `hf auth login` or set HF"
    ):
        log_in(settings("out"))
    (tmp_path / "token").write_text(TOKEN)  # as `hf auth login` does
    assert log_in(settings("out")) == "ada/out"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (401, "does not accept the token; run `hf auth login` or set"),
        (500, "500"),
        ("die", "does not say whose token this is: "),
    ],
)
def test_a_hub_that_does_not_answer_is_reported_at_the_start(inside, answer, said):
    inside.fail("whoami", answer)
    with pytest.raises(ValueError, match=said) as told:
        log_in(settings("out"))
    assert TOKEN not in str(told.value)


def test_a_refused_connection_is_reported_at_the_start(inside, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", url)
    with pytest.raises(ValueError, match=f"{url} does not say whose token this is: .*refused"):
        log_in(settings("out"))


@pytest.mark.parametrize("token", [f"{TOKEN}\x01", f"{TOKEN}é"])
def test_a_token_that_no_header_can_hold_is_not_shown(inside, monkeypatch, token):
    with pytest.raises(ValueError) as told:
        log_in(settings("out", hub_token=token))
    assert TOKEN not in str(told.value)
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(ValueError) as told:
        log_in(settings("out"))
    assert TOKEN not in str(told.value)


def test_a_read_only_token_is_refused_at_the_start(inside):
    inside.user = inside.user | {"auth": {"accessToken": {"role": "read"}}}
    with pytest.raises(ValueError, match="the token of ada may only read"):
        log_in(settings("out"))


def test_the_repository_is_the_owners_and_another_owner_gets_a_warning(inside, caplog):
    for name, repository in {None: "ada/out", "names": "ada/names", "acme/x": "acme/x"}.items():
        assert log_in(settings("runs/out/", hub_model_id=name)) == repository
    assert caplog.text == ""
    assert log_in(settings("out", hub_model_id="bob/x")) == "bob/x"
    assert "bob is not among its organizations" in caplog.text


def test_nothing_is_asked_of_the_hub_unless_something_is_to_be_uploaded(inside):
    assert log_in(NerSettings()) is None
    assert inside.requests == []


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("--push_to_hub --hub_model_id a/b/c", "--hub_model_id is 'a/b/c': Repo id must be in"),
        ("--push_to_hub --hub_model_id a--b", "--hub_model_id is 'a--b': Cannot have -- or .."),
        ("--push_to_hub --hub_model_id café", "--hub_model_id is 'café': Repo id must use alpha"),
        ("--push_to_hub --output_dir a/x..y", "--hub_model_id is 'x..y' (the name of output_dir)"),
        ("--push_to_hub --output_dir /", "--hub_model_id is ''"),
        ("--hub_model_id x", "--hub_model_id is given without --push_to_hub"),
        ("--hub_token hf_x", "--hub_token is given without --push_to_hub"),
        ("--hub_private_repo false", "--hub_private_repo is given without --push_to_hub"),
        ("--push_to_hub --hub_commit_message=", "--hub_commit_message is empty"),
    ],
)
@pytest.mark.parametrize("job", [NerSettings, MlmSettings])
def test_a_name_that_no_repository_can_have_is_refused(inside, job, command, answer):
    with pytest.raises(ValueError) as refused:
        settings_from(job, command.split())
    assert [line for line in str(refused.value).split("\n") if line.startswith(answer)]


@pytest.mark.parametrize(
    ("flag", "value"), [("", True), (" true", True), (" false", False), (None, None)]
)
def test_private_may_be_given_with_and_without_a_value(inside, flag, value):
    arguments = "--push_to_hub" if flag is None else f"--push_to_hub --hub_private_repo{flag}"
    assert settings_from(NerSettings, arguments.split()).hub_private_repo is value


def test_without_the_hub_nothing_can_be_uploaded(inside, monkeypatch):
    assert list(problems_of(settings("out"))) == []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    (problem,) = problems_of(settings("out"))
    assert problem.startswith("--push_to_hub is given, but HF_HUB_OFFLINE is set")


def test_a_run_that_trains_nothing_has_nothing_to_upload(tmp_path):
    with pytest.raises(ValueError, match="--push_to_hub uploads what a run trains, and this one"):
        decide_work(settings(tmp_path / "out"), {"test": None})


def test_a_token_that_is_a_setting_is_not_written_anywhere(finished):
    given = settings("out", hub_token=TOKEN)
    assert TOKEN not in repr(given)
    assert not [file for file, content in on_disk(finished[0]).items() if TOKEN.encode() in content]
    written = json.loads((finished[0] / "settings.json").read_text())
    assert written["push_to_hub"] is True and written["hub_private_repo"] is True
    assert "hub_token" not in written
