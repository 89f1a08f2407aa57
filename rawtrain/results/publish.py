"""The end of a run: its model card and, with --push_to_hub, its repository on the Hub."""

import logging
import shlex
import sys
from pathlib import Path

from huggingface_hub import HfApi, constants
from huggingface_hub.utils import disable_progress_bars

from rawtrain.config import TrainingSettings
from rawtrain.errors import RunError
from rawtrain.results.card import write_card
from rawtrain.results.hub import without_token
from rawtrain.run.durable import read_manifest

logger = logging.getLogger(__name__)

# What is uploaded beside the files of the model, which the manifest names. Files with whole data
# (predictions.conll), with paths of this machine (settings.json) or of the run itself stay here.
RESULTS = (
    "README.md",
    "report.html",
    "deployment_gap.json",
    "probes.json",
    "metrics.jsonl",
    "trainer_state.json",
    "train_results.json",
    "eval_results.json",
    "predict_results.json",
    "all_results.json",
    "loss.png",
)


def publish(settings: TrainingSettings, repository: str | None) -> None:
    """Write the model card and, if there is a repository, upload what `published_files` lists.

    Raises RunError, with a command that repeats the upload, if it fails; all files are on the disk
    then.
    """
    output_dir = Path(settings.output_dir)
    write_card(settings, repository)
    if repository is None:
        return
    files = published_files(output_dir)
    if settings.disable_tqdm or not sys.stderr.isatty():
        disable_progress_bars()
    logger.info(f"uploads {len(files)} files to {constants.ENDPOINT}/{repository}")
    try:
        api = HfApi(token=settings.hub_token, library_name="rawtrain")
        repo = api.create_repo(repository, private=settings.hub_private_repo, exist_ok=True)
        api.upload_folder(
            repo_id=repository,
            folder_path=output_dir,
            allow_patterns=files,
            commit_message=settings.hub_commit_message,
        )
    except Exception as error:  # of the Hub, the network, the HTTP library, a file
        raise RunError(
            f"the upload to {repository} failed: {without_token(error, settings)}\n"
            f"Nothing is lost: the model and the results are in {output_dir}. To repeat it, start "
            f"the same command again, which uploads without training, or\n"
            f"{upload_command(settings, repository, files)}"
        ) from error
    print(f"uploaded: {repo}")


def published_files(output_dir: Path) -> list[str]:
    """The names of the files of a finished run that are uploaded."""
    results = [name for name in RESULTS if (output_dir / name).is_file()]
    return [*results, *read_manifest(output_dir)]


def upload_command(settings: TrainingSettings, repository: str, files: list[str]) -> str:
    """The `hf` command that uploads these files of the output directory."""
    words = ["hf", "upload", repository, settings.output_dir, "."]
    if settings.hub_private_repo is not None:
        words.append("--private" if settings.hub_private_repo else "--no-private")
    words += [word for file in files for word in ("--include", file)]
    return shlex.join([*words, "--commit-message", settings.hub_commit_message])
