# SPDX-License-Identifier: MIT
"""`python -m sockd`."""

import sys

from sockd.cli.start import main

sys.exit(main())
