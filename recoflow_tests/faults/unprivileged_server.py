"""The embedded server as a script: ROOT USER. Gives the account's folders and itself to a user once it listens."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from recoflow.sandbox import feeder, keys, sftp_server


def main(root: Path, user: int) -> None:
    with sftp_server.serve(root, keys.prepare(root, ("lorem",)), port=0) as server:
        with feeder.connect(root, "lorem", server.port) as warm:  # what is imported late is imported now
            warm.listdir("requests")
        for path in (root / "accounts").rglob("*"):
            os.chown(path, user, user)
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
        sys.stdout.write(f"{server.port}\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
