"""``python -m setpoint.worker``: started by a node, never by a person."""

import sys

from setpoint.worker.process import main

sys.exit(main(sys.argv[1:]))
