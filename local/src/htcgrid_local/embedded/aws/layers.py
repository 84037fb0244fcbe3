"""Layers unpacked once, and not again for every process of every function."""

import tempfile
import threading
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

from ministack.core import lambda_runtime
from ministack.services import lambda_svc

_unpacked: dict[str, Path] = {}
_lock = threading.Lock()


def unpack_once() -> None:
    """Make MiniStack's processes share the unpacked layers, which saves each half a second of a processor."""
    lambda_runtime.Worker = _Worker


class _Worker(lambda_runtime.Worker):  # type: ignore[misc]  # MiniStack has no types
    config: dict[str, Any]

    def _spawn(self) -> None:
        self.config = _with_unpacked_layers(self.config)
        super()._spawn()


def _with_unpacked_layers(config: dict[str, Any]) -> dict[str, Any]:
    folders = [folder for layer in config.get("Layers", []) if (folder := _unpack(layer))]
    if not folders:
        return config
    variables = config.get("Environment", {}).get("Variables", {})
    # Where MiniStack tells a process its layers; without layers of its own to unpack it keeps what stands there.
    told = variables | {"_LAMBDA_LAYERS_DIRS": ":".join(str(folder) for folder in folders)}
    return config | {"Layers": [], "Environment": {"Variables": told}}


def _unpack(layer: Any) -> Path | None:
    name = layer if isinstance(layer, str) else layer["Arn"]
    with _lock:
        if name not in _unpacked:
            content = lambda_svc._resolve_layer_zip(layer)
            if not content:
                return None
            folder = Path(tempfile.mkdtemp(prefix="layer-"))
            zipfile.ZipFile(BytesIO(content)).extractall(folder)
            _unpacked[name] = folder
        return _unpacked[name]
