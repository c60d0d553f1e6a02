"""`python -m podium` is the command."""

import sys

from podium.cli.app import main

sys.exit(main())
