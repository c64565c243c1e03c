"""What runs on a server, and what both sides share: Python 3.9, its standard library and PyYAML, nothing else.

The server gets this package alone: it imports nothing of ours that is outside.
"""
