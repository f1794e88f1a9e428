"""`python -m sockd`."""

import sys

from sockd.start import main

sys.exit(main())
