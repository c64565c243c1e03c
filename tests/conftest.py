from __future__ import annotations

import signal

# Tests interrupt what they start, and Pulumi ends its plugins so. What a shell runs in the background ignores SIGINT,
# and so would its children: Pulumi waits five seconds for each then.
signal.signal(signal.SIGINT, signal.default_int_handler)
