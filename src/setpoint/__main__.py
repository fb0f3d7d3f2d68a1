"""``python -m setpoint`` is ``setpoint``."""

import sys

from setpoint.cli.main import main

sys.exit(main())
