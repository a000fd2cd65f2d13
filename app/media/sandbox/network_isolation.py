"""The program that starts the fork server without network: enters an empty network namespace, and executes the fork server there.

`python -I -m app.media.sandbox.network_isolation DESCRIPTOR`: the descriptor is for the fork server. A program of its own, because the fork
server loads decoding libraries, and the execution would load them twice.
"""

from __future__ import annotations

import os
import sys

from app.media.sandbox import process_isolation

FORK_SERVER = "app.media.sandbox.fork_server"


def main() -> None:
    descriptor = int(sys.argv[1])
    process_isolation.unshare_network()
    os.set_inheritable(descriptor, True)
    # exec drops the capabilities that the process holds in its new user namespace.
    os.execv(  # noqa: S606 - intentionally without a shell
        sys.executable, [sys.executable, "-I", "-m", FORK_SERVER, str(descriptor)]
    )


if __name__ == "__main__":
    main()
