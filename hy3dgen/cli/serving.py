"""What programs that serve share: the options of the reference's servers and ours, and the way to a running server.

Nothing heavy is imported before the options have been parsed.
"""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hy3dgen.cli.console import Console
from hy3dgen.cli.exit_codes import DONE
from hy3dgen.cli.options import _number, _switch, _whole
from hy3dgen.errors import MissingExtraError, OutputError, UsageError, WeightsNotFoundError

if TYPE_CHECKING:
    from hy3dgen.service.rest.guard import Access
    from hy3dgen.service.settings import ServiceSettings

TOKEN_VARIABLE = "HY3DGEN_API_TOKEN"
API_PORT = 8081
LOCAL_NAMES = ("127.0.0.1", "localhost", "::1")


def add_address_options(parser: argparse.ArgumentParser, *, port: int = API_PORT) -> None:
    """Where the server listens, and who may come. port: the one when none is given."""
    group = parser.add_argument_group("address and access")
    group.add_argument("--host", metavar="ADDRESS", help="address to listen at (default: 127.0.0.1, this machine only)")
    group.add_argument(
        "--port", type=_whole, metavar="N", help=f"port to listen at; 0 takes a free one (default: {port})"
    )
    group.add_argument(
        "--token",
        metavar="TOKEN",
        help=f"clients must send 'Authorization: Bearer TOKEN' (default: {TOKEN_VARIABLE} in the environment)",
    )
    group.add_argument(
        "--allow-host",
        metavar="NAME",
        action="append",
        help="a name by which the server may be addressed, beside its own; may be repeated",
    )
    group.add_argument(
        "--cors-origin",
        metavar="ORIGIN",
        action="append",
        help="a web site, such as https://example.org, whose pages may use this server (default: none)",
    )


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """What runs, and on what."""
    group = parser.add_argument_group("models and machine")
    group.add_argument(
        "--model_path",
        "--model-path",
        metavar="NAME",
        help="model for requests that name none: a name, a hub id or a folder (default: auto, what this machine has)",
    )
    group.add_argument("--subfolder", metavar="NAME", help="folder of the model inside --model_path")
    group.add_argument(
        "--tex_model_path",
        "--tex-model-path",
        "--texgen_model_path",
        metavar="NAME",
        help="how to colour when a request does not say: auto, project, paint, paint-turbo; or the hub id or a folder "
        "of the official texture models (default: auto)",
    )
    group.add_argument(
        "--enable_tex",
        "--enable-tex",
        action=argparse.BooleanOptionalAction,
        help="colour meshes at all (default: yes)",
    )
    group.add_argument(
        "--device", metavar="NAMES", help="auto, cuda, mps, cpu; a list such as cuda:0,cuda:1 makes a worker for each"
    )
    group.add_argument(
        "--limit-model-concurrency",
        type=_whole,
        metavar="N",
        help="jobs in work at the same time at most; a device never does more than one (default: one a device)",
    )
    group.add_argument(
        "--vram", metavar="GB", help="GiB of device memory that a worker may use, auto or max (default: auto)"
    )
    _switch(group, "--compile", "compile the networks: a slow first job, faster later ones")


def add_service_options(parser: argparse.ArgumentParser) -> None:
    """What the server keeps and takes."""
    group = parser.add_argument_group("queue and storage")
    group.add_argument(
        "--cache-path", "--data", metavar="DIR", help="folder for jobs (default: ~/.cache/hy3dgen/service)"
    )
    group.add_argument("--keep-days", type=_number, metavar="N", help="days to keep finished jobs (default: 7)")
    group.add_argument(
        "--keep-gb", type=_number, metavar="N", help="GiB that finished jobs may take; the oldest go (default: 10)"
    )
    group.add_argument("--max-queue", type=_whole, metavar="N", help="jobs that may wait (default: 100)")
    group.add_argument(
        "--max-queue-per-client", type=_whole, metavar="N", help="jobs of one address that may wait (default: 20)"
    )
    group.add_argument("--max-body-mb", type=_whole, metavar="N", help="MiB of one request at most (default: 100)")
    group.add_argument(
        "--idle-seconds",
        type=_number,
        metavar="N",
        help="an unused worker is ended after this long, which gives back all its memory (default: 300)",
    )


SERVING_GROUPS: tuple[Callable[[argparse.ArgumentParser], None], ...] = (
    add_address_options,
    add_model_options,
    add_service_options,
)


def settings_from(values: argparse.Namespace) -> ServiceSettings:
    """The service that was asked for. Raises UsageError, WeightsNotFoundError."""
    from hy3dgen.service.settings import GIB, MIB, Limits, RunnerSettings, ServiceSettings, default_folder

    plain = Limits()
    body_bytes = _positive(values.max_body_mb, "--max-body-mb", plain.body_bytes / MIB) * MIB
    limits = Limits(
        body_bytes=body_bytes,
        bytes_in_flight=4 * body_bytes,
        queue=_positive(values.max_queue, "--max-queue", plain.queue),
        queue_per_client=_positive(values.max_queue_per_client, "--max-queue-per-client", plain.queue_per_client),
        keep_days=float(_positive(values.keep_days, "--keep-days", plain.keep_days, whole=False)),
        keep_bytes=round(_positive(values.keep_gb, "--keep-gb", plain.keep_bytes / GIB, whole=False) * GIB),
    )
    texture, models_folder = _texture_from(values.tex_model_path)
    _check_vram(values.vram)
    runner = RunnerSettings(
        model=_model_from(values.model_path, values.subfolder),
        texture=texture,
        vram=values.vram,
        compile=bool(values.compile),
        enable_texture=values.enable_tex is not False,
    )
    devices = tuple(name.strip() for name in (values.device or "auto").split(",") if name.strip())
    limit = values.limit_model_concurrency
    return ServiceSettings(
        folder=default_folder() if values.cache_path is None else Path(values.cache_path).expanduser(),
        devices=devices or ("auto",),
        concurrency=None if limit is None else _positive(limit, "--limit-model-concurrency", 1),
        runner=runner,
        limits=limits,
        idle_s=float(_positive(values.idle_seconds, "--idle-seconds", 300, whole=False)),
        models_folder=models_folder,
    )


def access_from(values: argparse.Namespace, host: str) -> Access:
    """Who may use the server. Raises UsageError."""
    from hy3dgen.service.rest.guard import Access

    token = values.token if values.token is not None else os.environ.get(TOKEN_VARIABLE) or None
    if token is not None and (not token.strip() or not token.isascii()):
        raise UsageError("--token is empty or has characters outside ASCII; give a long random word")
    for origin in values.cors_origin or ():
        if not origin.startswith(("http://", "https://")) or origin.count("/") > 2:
            raise UsageError(f"--cors-origin is '{origin}'; give an origin such as https://example.org")
    # Behind 0.0.0.0 nobody can say by which names the server goes, so there only a token protects.
    hosts: frozenset[str] = frozenset()
    if _is_loopback(host) or values.allow_host:
        hosts = frozenset({*LOCAL_NAMES, host, *(name.lower() for name in values.allow_host or ())})
    return Access(token, hosts, tuple(values.cors_origin or ()))


def serve(
    values: argparse.Namespace,
    console: Console,
    *,
    page: Path | None = None,
    port: int = API_PORT,
    decoder: str | None = None,
) -> int:
    """Serve until a signal comes; returns the exit code.

    page: a folder to serve at /; port: the one when none is given; decoder: what requests get that name none
    """
    try:
        import python_multipart  # noqa: F401 - starlette would only miss it when the first form comes

        from hy3dgen.service.rest.app import create_app
        from hy3dgen.service.rest.server import Server
    except ImportError as error:
        command = "python -m pip install fastapi uvicorn python-multipart"
        raise MissingExtraError(
            f"serving needs packages that are not installed ({error.name}); run: {command}",
            package=error.name or "fastapi",
            command=command,
        ) from error
    from hy3dgen.service.service import Service

    host = values.host or "127.0.0.1"
    access = access_from(values, host)
    settings = settings_from(values)
    settings = replace(settings, runner=replace(settings.runner, decoder=decoder))
    listener = _listen(host, port if values.port is None else values.port)
    app = create_app(Service(settings), access=access, page=page)
    bound = listener.getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    console.say(f"jobs are kept in {settings.folder}")
    if access.token is None and not _is_loopback(host):
        console.say("anybody who can reach this machine can use this server; give it a --token")
    console.result(f"http://{shown}:{bound}")
    # After a clean end uvicorn raises the signal again. To a server it is no mishap but the way to be ended.
    with contextlib.suppress(KeyboardInterrupt):
        Server(app).run(sockets=[listener])
    return DONE


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises UsageError, OutputError when the port is taken."""
    if not 0 <= port <= 65535:
        raise UsageError(f"--port is {port}; it must be a whole number from 0 to 65535")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    if os.name == "posix":  # on Windows this would let two servers share a port
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(1024)  # from now on clients wait instead of being refused
    except OSError as error:
        listener.close()
        raise OutputError(
            f"cannot listen at {host} port {port}: {error.strerror or error}; another server may run there: stop it or "
            "choose another --port"
        ) from error
    return listener


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _positive(value: float | None, option: str, default: float, *, whole: bool = True) -> int:
    value = default if value is None else value
    if not 0 < value < float("inf"):
        raise UsageError(f"{option} is {value}; it must be above 0")
    return int(value) if whole else value  # type: ignore[return-value]


def _check_vram(vram: str | None) -> None:
    if vram in (None, "auto", "max"):
        return
    try:
        fits = 0 < float(vram) < float("inf")
    except ValueError:
        fits = False
    if not fits:
        raise UsageError(f"--vram is '{vram}'; give GiB above 0, 'auto' or 'max'")


def _model_from(model: str | None, subfolder: str | None) -> str:
    """The model that requests get which name none. Raises WeightsNotFoundError: a server downloads nothing."""
    if model is None or model == "auto":
        return "auto"
    from hy3dgen.weights import catalogue
    from hy3dgen.weights.locate import find_model

    entry = catalogue.find(model) or catalogue.find(model, subfolder or "")
    if entry is None and subfolder is None:
        entry = next((e for e in catalogue.in_repo(model) if e.kind == "shape"), None)
    if entry is not None and entry.repo is not None and not Path(model).is_dir():
        model = entry.name
    elif subfolder is not None:
        model = str(Path(model).expanduser() / subfolder)
    if find_model(model) is None:
        hint = (
            f"get it with: python -m hy3dgen weights get {entry.name}" if entry is not None else "give a folder with it"
        )
        raise WeightsNotFoundError(
            f"the model '{model}' is not on this machine, and a server downloads nothing; {hint}"
        )
    return model


def _texture_from(texture: str | None) -> tuple[str, Path | None]:
    """(how to colour, a folder of models to look into)."""
    if texture is None or texture in ("auto", "project", "paint", "paint-turbo", "paint-nano", "none"):
        return texture or "auto", None
    from hy3dgen.weights import catalogue

    folder = Path(texture).expanduser()
    if folder.is_dir():
        return "auto", folder.absolute()
    found = [entry.name for entry in catalogue.in_repo(texture) if entry.kind == "texture"]
    if not found:
        raise UsageError(
            f"--tex_model_path is '{texture}'; give auto, project, paint, paint-turbo, none, the official repository "
            "or a folder"
        )
    return "auto", None
