"""TLS proxy: TLS in front of a plain server, for Redis binaries that were built without it."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading


class TlsProxy:
    """Accepts TLS on `port`, pumps bytes to 127.0.0.1:`target`."""

    def __init__(self, target: int, context: ssl.SSLContext) -> None:
        self._target = target
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open = True
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while self._open:
            try:
                wire, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(wire,), daemon=True).start()

    def _serve(self, wire: socket.socket) -> None:
        # A refused handshake or a broken pipe ends this connection and concerns nobody else.
        with contextlib.suppress(OSError), wire:
            wire.settimeout(10)
            with self._context.wrap_socket(wire, server_side=True) as outer:
                outer.settimeout(None)
                with socket.create_connection(("127.0.0.1", self._target)) as inner:
                    back = threading.Thread(target=_pump, args=(inner, outer), daemon=True)
                    back.start()
                    _pump(outer, inner)
                    back.join()

    def stop(self) -> None:
        """Accept nobody any more."""
        self._open = False
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        self._listener.close()

    def __enter__(self) -> TlsProxy:  # noqa: PYI034 - Self needs 3.11
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            data = source.recv(65536)
            if not data:
                break
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)
