"""What `python3 -I DIRECTORY STEP` runs on a server; DIRECTORY holds this file, and the package `server` beside it."""

import sys

from server.program import main

sys.exit(main(sys.argv[1:]))
