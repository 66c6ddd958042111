"""``python -m chorus_store``."""

import sys

from chorus_store.cli import main

sys.exit(main())
