"""`python -m bench` compares engines end to end; see `bench.compare`."""

import sys

from bench.compare import main

sys.exit(main())
