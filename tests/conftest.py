from __future__ import annotations

import os
import signal

# Tests interrupt what they start, and Pulumi ends its plugins so. What a shell runs in the background ignores SIGINT,
# and so would its children: Pulumi waits five seconds for each then.
signal.signal(signal.SIGINT, signal.default_int_handler)

# What is said is compared with English, whatever the language of whoever runs the tests. Tests of another one set it.
os.environ["RELEVE_LANG"] = "en"
