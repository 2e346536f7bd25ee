"""`python -m infoseg`: the command line."""

import sys

from infoseg.cli import main

sys.exit(main())
