"""Models of the transformers library from a configuration: a model type, or a JSON file; nothing is downloaded."""

import difflib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from depthscale.errors import CaptureError

LENGTH = 64  # tokens of an example
TASKS = (
    "AutoModelForCausalLM",
    "AutoModelForSeq2SeqLM",
    "AutoModelForMaskedLM",
    "AutoModelForImageClassification",
    "AutoModelForSpeechSeq2Seq",
    "AutoModelForCTC",
    "AutoModelForAudioClassification",
    "AutoModel",
)
Example = Callable[[nn.Module], tuple[tuple[Any, ...], Mapping[str, Any]]]


def hugging_face(
    transformers: Any, name: str, shape: tuple[int, ...] | None, batch: int
) -> tuple[Callable[[], nn.Module], Example, Callable[[nn.Module], None]]:
    """How to make a model, its example and its initialisation, from a model type or a JSON configuration."""
    config = _config(transformers, name)
    cls = _class(transformers, config)
    if hasattr(config, "use_cache"):
        config.use_cache = False  # what is kept for generation is no output of training

    def example(module: nn.Module) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        return (), inputs_of(module, shape, batch)

    return lambda: cls(config), example, initialise


def _class(transformers: Any, config: Any) -> Any:
    """The class that the configuration names, else the first task that has one for this type."""
    for wanted in config.architectures or ():
        if (cls := getattr(transformers, wanted, None)) is not None:
            return cls
    for task in TASKS:
        mapping = getattr(getattr(transformers, task), "_model_mapping", {})
        try:
            found = mapping[type(config)]
        except KeyError:
            continue
        return found[0] if isinstance(found, tuple | list) else found
    raise CaptureError(f"transformers has no model for configurations of type {config.model_type!r}")


def _config(transformers: Any, name: str) -> Any:
    path = Path(name)
    known = list(transformers.CONFIG_MAPPING.keys())
    if name in known:
        return transformers.AutoConfig.for_model(name)
    if path.suffix != ".json" and not path.exists():
        near = difflib.get_close_matches(name, known, 1, 0.4)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise CaptureError(f"expected hf: and a model type of transformers or a JSON configuration, got {name!r}{hint}")
    path = path / "config.json" if path.is_dir() else path
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CaptureError(
            f"expected a JSON configuration at {path}, but it cannot be read: {error.strerror}"
        ) from None
    except ValueError as error:
        raise CaptureError(f"expected a JSON configuration at {path}, got text that is not JSON ({error})") from None
    kind = given.pop("model_type", None) if isinstance(given, dict) else None
    if kind not in known:
        raise CaptureError(f"{path}: expected a model_type that transformers knows, got {kind!r}")
    try:
        return transformers.AutoConfig.for_model(kind, **given)
    except Exception as error:  # validation of the library, of many kinds
        raise CaptureError(f"{path}: transformers does not accept it: {str(error).splitlines()[0]}") from None


def initialise(module: nn.Module) -> None:
    """Draws the parameters as the library does when there is nothing to load (it skips that on the meta device).

    Composite models are initialised part by part, each by the innermost pre-trained model that it belongs to.
    """

    def walk(part: nn.Module, home: Any) -> None:
        home = part if hasattr(part, "_init_weights") else home
        for child in part.children():
            walk(child, home)
        home._init_weights(part)

    with torch.no_grad():
        walk(module, module)


def inputs_of(module: nn.Module, shape: tuple[int, ...] | None, batch: int) -> dict[str, Any]:
    """Keyword arguments for a forward: random tokens, noise for images, spectra and waves."""
    config: Any = module.config
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    draw = torch.Generator().manual_seed(0)
    main = str(getattr(module, "main_input_name", "input_ids"))

    def tokens(length: int) -> torch.Tensor:
        return torch.randint(3, max(int(text.vocab_size), 4), (batch, length), generator=draw)

    if main == "pixel_values":
        size = getattr(config, "image_size", 224) or 224
        sides = tuple(size) if isinstance(size, list | tuple) else (size, size)
        return {main: torch.randn((batch, *(shape or (getattr(config, "num_channels", 3), *sides))), generator=draw)}
    if main == "input_features":
        frames = 2 * int(getattr(config, "max_source_positions", 1500))
        made: dict[str, Any] = {main: torch.randn((batch, *(shape or (config.num_mel_bins, frames))), generator=draw)}
    elif main == "input_values":
        made = {main: torch.randn((batch, *(shape or (16000,))), generator=draw)}
    else:
        longest = int(getattr(text, "max_position_embeddings", LENGTH) or LENGTH)
        made = {main: tokens(shape[0] if shape else min(LENGTH, longest))}
    if getattr(config, "is_encoder_decoder", False):
        made["decoder_input_ids"] = tokens(LENGTH // 2)
    return made
