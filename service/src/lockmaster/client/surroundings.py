"""What this process is given where nothing is said in code: variables, and in a pod of Kubernetes files and names.

For each of endpoints, trust and label the first that is there decides: the argument, the LOCKMASTER_* variable, a file
in the access directory, the variables that Kubernetes sets for Services. The access directory is a projected volume of
the pod: the ServiceAccount's token for the cluster's audience, and the ConfigMap NAME-access that the operator keeps
(docs/authentication.md). Nothing here asks anybody; files are read again whenever they are used.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from lockmaster.client.endpoints import ENDPOINTS_VARIABLE, TLS, check_trust, on_loopback, parse_endpoints
from lockmaster.tokens import claims

DIRECTORY_VARIABLE: Final = "LOCKMASTER_ACCESS_DIR"
DIRECTORY: Final = "/var/run/secrets/lockmaster.dev"
CA_VARIABLE: Final = "LOCKMASTER_CA"
CERT_VARIABLE: Final = "LOCKMASTER_CERT"
KEY_VARIABLE: Final = "LOCKMASTER_KEY"
TOKEN_VARIABLE: Final = "LOCKMASTER_TOKEN_FILE"
SERVICE_PORT: Final = "_SERVICE_PORT_LOCKMASTER_LOGIN"
"""End of the variable that Kubernetes sets for a Service with a port of the name lockmaster-login."""
FILE_BYTES_MAX: Final = 64 << 10
LABEL_MAX: Final = 256


def reached(
    endpoints: str | Iterable[str] | None, tls: TLS | None, insecure: bool, environ: Mapping[str, str] = os.environ
) -> tuple[tuple[str, ...], TLS | None]:
    """(endpoints, trust) of a client with these arguments. Raises ValueError naming what is missing or contradicts."""
    found = parse_endpoints(endpoints if endpoints is not None else _endpoints(environ))
    if tls is None and not insecure:
        tls = trust(environ, local=on_loopback(found))
    check_trust(found, tls, insecure)
    return found, tls


def trust(environ: Mapping[str, str] = os.environ, *, local: bool = False, tls: TLS | None = None) -> TLS | None:
    """How members are trusted and what they are shown; None where nothing says so.

    `local`: the members are on this machine, where only a variable asks for TLS. `tls`: what is given already.
    """
    ca, cert, key, token = (
        str(given) if given is not None else environ.get(variable)
        for given, variable in zip(
            (None, None, None, None) if tls is None else (tls.ca, tls.cert, tls.key, tls.token),
            (CA_VARIABLE, CERT_VARIABLE, KEY_VARIABLE, TOKEN_VARIABLE),
        )
    )
    if not (ca or cert or key or token) and local:
        return None
    directory = access_directory(environ)
    if not (cert or key or token):
        token = _there(directory / "token")
    if not ca and token:
        ca = _there(directory / "ca.crt")
    if not (ca or cert or key or token):
        return None
    return TLS(ca or None, cert or None, key or None, token or None)


def access_directory(environ: Mapping[str, str] = os.environ) -> Path:
    """Where the projected volume is looked for."""
    return Path(environ.get(DIRECTORY_VARIABLE) or DIRECTORY)


def known_endpoints(environ: Mapping[str, str] = os.environ) -> str:
    """What the surroundings say where no variable of ours does; "" if nothing. ValueError: more than one cluster."""
    told = _read(access_directory(environ) / "endpoints")
    if told:
        return ",".join(told.split())
    services = {name: environ[name] for name in sorted(environ) if name.endswith(SERVICE_PORT)}
    if len(services) > 1:
        names = ", ".join(_service(name) for name in services)
        raise ValueError(f"no endpoints: this pod sees several clusters ({names}); set {ENDPOINTS_VARIABLE} to one")
    # By name, not by the address in the environment: that is what the members' certificates say.
    return "".join(f"{_service(name)}:{port}" for name, port in services.items())


def _endpoints(environ: Mapping[str, str]) -> str:
    return environ.get(ENDPOINTS_VARIABLE) or known_endpoints(environ)


def _service(variable: str) -> str:
    """Names of Services have no "_": it stands for "-"."""
    return variable.removesuffix(SERVICE_PORT).lower().replace("_", "-")


def label_of(tls: TLS | None, environ: Mapping[str, str] = os.environ) -> str:
    """Who this process is, for people who look at a lock: pod or host name, process id, the pod's UID and namespace."""
    said: Any = {}
    if tls is not None and tls.token is not None:
        said = claims(_read(Path(tls.token))).get("kubernetes.io")
    said = said if isinstance(said, dict) else {}
    bound = said.get("pod") if isinstance(said.get("pod"), dict) else {}
    name = environ.get("POD_NAME") or bound.get("name") or socket.gethostname()
    uid = environ.get("POD_UID") or bound.get("uid")
    namespace = environ.get("POD_NAMESPACE") or said.get("namespace")
    text = f"{name}:{os.getpid()}" + (f" uid={uid}" if uid else "") + (f" ns={namespace}" if namespace else "")
    return text.encode()[:LABEL_MAX].decode(errors="ignore")


def _there(path: Path) -> str | None:
    return str(path) if path.is_file() else None


def _read(path: Path) -> str:
    """What a small file holds, "" if it can't be read."""
    try:
        with path.open("rb") as file:
            return file.read(FILE_BYTES_MAX).decode().strip()
    except (OSError, UnicodeDecodeError):
        return ""
