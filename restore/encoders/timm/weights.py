"""Models of timm with their published weights, from this machine where they are, or from where timm publishes them.

What was downloaded once is read without a network. Whether the publisher answers is asked once, for a few seconds:
timm's own downloads try again and again for most of a minute before they give up.
"""

from __future__ import annotations

import contextlib
import contextvars
import http.client
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

from restore.downloads import download_checked
from restore.encoders.suggestions import meant
from restore.errors import DataError, MissingError, OptionsError, OutputError

__all__ = ["TimmModel", "create_model", "is_known", "known", "without_pretrained"]

TimmModel: TypeAlias = Any
"""A module of timm: what it has beside the methods of `torch.nn.Module` differs from family to family."""
ANSWER_S = 5
"""How long a publisher may take to say that it is there."""


def is_known(name: str) -> bool:
    """Whether timm has a model of this name, and weights of the tag behind it, if it has one."""
    import timm

    try:
        return timm.is_model(name) and ("." not in name or timm.get_pretrained_cfg(name) is not None)
    except RuntimeError:  # the model is there, but not the tag
        return False


def known(name: str) -> str:
    """The name itself; an OptionsError with the one that was meant if timm has no such model."""
    import timm

    if not is_known(name):
        raise OptionsError(f"timm {timm.__version__} has no model '{name}'.{meant(name, timm.list_models())}")
    return name


def create_model(name: str, *, pretrained: bool = False, **options: Any) -> TimmModel:
    """`timm.create_model`; with `pretrained`, weights that are on this machine are loaded without a network.

    Inside `without_pretrained`, `pretrained` counts as false.

    Raises:
        MissingError: weights are wanted that are not on this machine, and cannot be downloaded.
    """
    import timm

    if not pretrained or _WITHOUT.get():
        return timm.create_model(name, **options)
    config = timm.get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        tags = timm.list_pretrained(f"{name.partition('.')[0]}*")
        known = f" Of its kind, these have: {', '.join(tags[:6])}." if tags else ""
        raise MissingError(f"timm has no pretrained weights of '{name}'. Write pretrained: false.{known}")
    file = _cached(config) or _downloaded(name, config)
    if file is not None:
        options["pretrained_cfg_overlay"] = {"file": str(file)}
    try:
        return timm.create_model(name, pretrained=True, **options)
    except OSError as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise MissingError(f"the pretrained weights of '{name}' cannot be downloaded: {reason}. {_ADVICE}") from None


@contextlib.contextmanager
def without_pretrained() -> Iterator[None]:
    """Inside, models come without their published weights, whatever is asked for: all of them stand in a file."""
    token = _WITHOUT.set(True)
    try:
        yield
    finally:
        _WITHOUT.reset(token)


_WITHOUT = contextvars.ContextVar("without_pretrained", default=False)
_ADVICE = "Connect, or write pretrained: false."
_FILES = ("model.safetensors", "pytorch_model.bin")


def _cached(config: Any) -> Path | None:
    """The weights file where an earlier download put it."""
    if config.hf_hub_id:
        from huggingface_hub import try_to_load_from_cache

        repository, _, revision = config.hf_hub_id.partition("@")
        for file in (config.hf_hub_filename,) if config.hf_hub_filename else _FILES:
            found = try_to_load_from_cache(repository, file, revision=revision or None)
            if isinstance(found, str):
                return Path(found)
        return None
    path = _folder() / config.url.rpartition("/")[2]
    return path if path.is_file() else None


def _folder() -> Path:
    from timm.models._hub import get_cache_dir

    return Path(get_cache_dir())


def _downloaded(name: str, config: Any) -> Path | None:
    """The weights file, loaded from its address; None where timm finds it on the hub of Hugging Face."""
    if config.hf_hub_id:
        _require_answer(name, config)
        return None
    try:
        return download_checked(config.url, _folder())
    except (MissingError, DataError, OutputError) as error:
        raise MissingError(f"the pretrained weights of '{name}' are not on this machine: {error} {_ADVICE}") from None


def _require_answer(name: str, config: Any) -> None:
    """Refuse at once what a download would find out only after many attempts."""
    from huggingface_hub import constants

    url = f"{constants.ENDPOINT}/{config.hf_hub_id.partition('@')[0]}"
    missing = f"the pretrained weights of '{name}' are not on this machine"
    if constants.HF_HUB_OFFLINE:
        raise MissingError(f"{missing}, and HF_HUB_OFFLINE forbids downloads: unset it, or write pretrained: false.")
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=ANSWER_S):
            pass
    except urllib.error.HTTPError:
        pass  # an answer; what it is worth, the download will find out
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise MissingError(f"{missing}, and {url} does not answer ({reason!s:.200}). {_ADVICE}") from None
