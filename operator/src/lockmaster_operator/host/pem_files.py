"""A certificate as the files that a client of the members reads, readable by this user alone."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from lockmaster import TLS, AsyncClient, Unavailable

from lockmaster_operator.host.issuing import Pems


class PemFiles:
    """Files in a directory of their own, until `remove`; small and local, so written at once. Raises OSError."""

    def __init__(self, pems: Pems) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="lockmaster-operator-"))
        ca, cert, key = (self._directory / name for name in ("ca.crt", "tls.crt", "tls.key"))
        try:
            for path, pem in zip((ca, cert, key), pems):
                path.write_text(pem)
        except OSError:  # a full disk
            self.remove()
            raise
        self.tls = TLS(ca, cert, key)

    def client(self, addresses: str | tuple[str, ...], operation_timeout: float, label: str) -> AsyncClient:
        """Of members at these addresses. Raises Unavailable where these are no certificate; the files are gone then."""
        try:
            return AsyncClient(addresses, tls=self.tls, operation_timeout=operation_timeout, label=label)
        except ValueError as error:
            self.remove()
            raise Unavailable(f"the operator's certificate is of no use: {error}") from None

    def remove(self) -> None:
        """Of no use to any client from now on."""
        shutil.rmtree(self._directory, ignore_errors=True)
