"""--push_to_hub: before the training, what would make the upload fail; after it, the upload.

The token is --hub_token, or what huggingface_hub finds: that of HF_TOKEN or of `hf auth login`. It
is written nowhere and never shown. Nothing here imports torch.
"""

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import HfApi, constants, get_token
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import disable_progress_bars, validate_repo_id

from rawtrain.config import TrainingSettings
from rawtrain.errors import RunError
from rawtrain.run.durable import read_manifest

logger = logging.getLogger(__name__)

LOG_IN = "run `hf auth login` or set HF_TOKEN"
# What is uploaded beside the files of the model, which the manifest names. Files with whole data
# (predictions.conll), with paths of this machine (settings.json) or of the run itself stay here.
RESULTS = (
    *("README.md", "report.html", "loss.png", "deployment_gap.json", "probes.json"),
    *("metrics.jsonl", "trainer_state.json"),
    *("train_results.json", "eval_results.json", "predict_results.json", "all_results.json"),
)


def problems_of(settings: TrainingSettings) -> Iterator[str]:
    """What is wrong with the settings of an upload, as far as it shows without the Hub."""
    if not settings.push_to_hub:
        for name in ("hub_model_id", "hub_token", "hub_private_repo"):
            if getattr(settings, name) is not None:
                yield f"--{name} is given without --push_to_hub"
        return
    name = _model_id(settings)
    try:
        validate_repo_id(name)
    except ValueError as problem:
        hint = "" if settings.hub_model_id else " (the name of output_dir); choose another"
        yield f"--hub_model_id is {name!r}{hint}: {problem}"
    if not settings.hub_commit_message.strip():
        yield "--hub_commit_message is empty; say what is uploaded"
    if constants.is_offline_mode():
        yield "--push_to_hub is given, but HF_HUB_OFFLINE is set; unset it, or upload afterwards"


def log_in(settings: TrainingSettings) -> str | None:
    """The name OWNER/NAME of the repository to upload to; None if nothing is to be uploaded.

    Asks the Hub whose token it is. Raises ValueError without one, or if it may not write.
    """
    if not settings.push_to_hub:
        return None
    if settings.hub_token is None and get_token() is None:
        raise ValueError(f"--push_to_hub: there is no token for {constants.ENDPOINT}; {LOG_IN}")
    try:
        user = HfApi(token=settings.hub_token).whoami()
    except Exception as error:  # of the Hub, the network, or the HTTP library, which changes
        problem = f"does not say whose token this is: {_without_token(error, settings)}"
        if isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403):
            problem = f"does not accept the token; {LOG_IN} again (--hub_token comes before both)"
        raise ValueError(f"--push_to_hub: {constants.ENDPOINT} {problem}") from None
    if user.get("auth", {}).get("accessToken", {}).get("role") == "read":
        raise ValueError(f"--push_to_hub: the token of {user['name']} may only read; {LOG_IN}")
    owner, _, name = _model_id(settings).rpartition("/")
    if owner not in ("", user["name"], *(group["name"] for group in user.get("orgs", []))):
        logger.warning(
            f"--hub_model_id {owner}/{name}: the token is that of {user['name']}, and {owner} is "
            f"not among its organizations: the upload may be refused"
        )
    return f"{owner or user['name']}/{name}"


def upload(settings: TrainingSettings, repository: str) -> None:
    """Upload what `uploaded_files` lists. Raises RunError if it fails."""
    files = uploaded_files(Path(settings.output_dir))
    if settings.disable_tqdm or not sys.stderr.isatty():
        disable_progress_bars()
    logger.info(f"uploads {len(files)} files to {constants.ENDPOINT}/{repository}")
    try:
        api = HfApi(token=settings.hub_token, library_name="rawtrain")
        repo = api.create_repo(repository, private=settings.hub_private_repo, exist_ok=True)
        api.upload_folder(
            repo_id=repository,
            folder_path=settings.output_dir,
            allow_patterns=files,
            commit_message=settings.hub_commit_message,
        )
    except Exception as error:  # of the Hub, the network, the HTTP library, a file
        raise RunError(
            f"the upload to {repository} failed: {_without_token(error, settings)}\nNothing is "
            f"lost: the model and the results are in {settings.output_dir}. Start the same command "
            f"again, which uploads without training"
        ) from error
    print(f"uploaded: {repo}")


def uploaded_files(output_dir: Path) -> list[str]:
    """The names of the files of a finished run that are uploaded."""
    results = [name for name in RESULTS if (output_dir / name).is_file()]
    return [*results, *read_manifest(output_dir)]


def _without_token(error, settings):
    """The message of an error in one line; a server or a library may have put the token in it."""
    text = " ".join(str(error).split()) or repr(error)
    token = settings.hub_token or get_token()
    return text.replace(token, "<token>") if token else text


def _model_id(settings):
    return settings.hub_model_id or Path(os.path.abspath(settings.output_dir)).name
