"""A program: a worker that waits a second or two for anything, and holds eight connections."""

from __future__ import annotations

import sys

from loopline.serving.connection import BoundedProtocol
from loopline.serving.worker import main

BoundedProtocol.seconds = dict.fromkeys(BoundedProtocol.seconds, 1)
BoundedProtocol.connection_limit = 8

if __name__ == "__main__":
    sys.exit(main())
