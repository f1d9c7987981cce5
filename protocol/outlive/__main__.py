"""``python -m outlive`` is ``outlive``."""

from __future__ import annotations

import sys

from outlive.cli import main

if __name__ == "__main__":
    sys.exit(main())
