"""`python -m fastcpu` is the command `fastcpu`."""

from __future__ import annotations

import sys

from fastcpu.cli.main import main

sys.exit(main())
