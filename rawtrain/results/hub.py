"""--push_to_hub, before the training: what would make the upload fail is said at the start.

The token is --hub_token, or what huggingface_hub finds: that of HF_TOKEN or of `hf auth login`. It
is written nowhere and never shown. publish.py uploads at the end. Nothing here imports torch.
"""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import HfApi, constants, get_token
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import validate_repo_id

from rawtrain.config import TrainingSettings

logger = logging.getLogger(__name__)

LOG_IN = "run `hf auth login` or set HF_TOKEN"


def problems_of(settings: TrainingSettings) -> Iterator[str]:
    """What is wrong with the settings of an upload, as far as it shows without the Hub."""
    if not settings.push_to_hub:
        for name in ("hub_model_id", "hub_token", "hub_private_repo"):
            if getattr(settings, name) is not None:
                yield f"--{name} is given without --push_to_hub"
        return
    name = _name(settings)
    try:
        validate_repo_id(name)
    except ValueError as problem:
        hint = "" if settings.hub_model_id else " (the name of output_dir); choose another"
        yield f"--hub_model_id is {name!r}{hint}: {problem}"
    if settings.hub_token == "":
        yield "--hub_token is empty; leave it out, or name one"
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
    except HfHubHTTPError as error:
        if error.response.status_code in (401, 403):
            raise ValueError(
                f"--push_to_hub: {constants.ENDPOINT} does not accept the token; {LOG_IN} again "
                f"(--hub_token comes before HF_TOKEN, and that before the login)"
            ) from None
        raise ValueError(f"--push_to_hub: {without_token(error, settings)}") from None
    except Exception as error:  # of the HTTP library, which changes
        raise ValueError(
            f"--push_to_hub: {constants.ENDPOINT} cannot be reached: "
            f"{without_token(error, settings)}; mend this, or leave out --push_to_hub and upload "
            f"afterwards"
        ) from None
    if user.get("auth", {}).get("accessToken", {}).get("role") == "read":
        raise ValueError(f"--push_to_hub: the token of {user['name']} may only read; {LOG_IN}")
    owner, _, name = _name(settings).rpartition("/")
    known = [user["name"], *(group["name"] for group in user.get("orgs", []))]
    if owner and owner not in known:
        logger.warning(
            f"--hub_model_id {owner}/{name}: the token is that of {user['name']}, and {owner} is "
            f"not among its organizations: the upload may be refused"
        )
    return f"{owner or user['name']}/{name}"


def without_token(error: Exception, settings: TrainingSettings) -> str:
    """The message of an error in one line; a server or a library may have put the token in it."""
    text = " ".join(str(error).split()) or repr(error)
    token = settings.hub_token or get_token()
    return text.replace(token, "<token>") if token else text


def _name(settings):
    return settings.hub_model_id or Path(os.path.abspath(settings.output_dir)).name
