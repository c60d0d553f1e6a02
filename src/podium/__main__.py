"""`python -m podium` is the command."""

import sys

from podium.cli import main

sys.exit(main())
