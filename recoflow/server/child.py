"""`python -m recoflow.server.child MODULE:FUNCTION ARGUMENTS…`: a command as a process of a stack.

It runs the command's own main function, and ends when the stack's `recoflow up` has ended.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys

from recoflow.storage import stack_lock


def main() -> None:
    """Join the stack, then be the command."""
    stack_lock.join(os.environ)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # how `up` ends it; a shell's `&` has it ignored
    _, command, *arguments = sys.argv
    module, _, function = command.partition(":")
    sys.argv = [module, *arguments]
    sys.exit(getattr(importlib.import_module(module), function)())


if __name__ == "__main__":
    main()
