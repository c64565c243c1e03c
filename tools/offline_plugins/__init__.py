"""Offline plugins: programs that speak Pulumi's provider protocol, for machines that cannot get the vendor's plugins.

They do three resource types, for real: `command:remote:Command` over SSH, `command:local:Command`, and
`docker:index/image:Image` with the Docker Engine and registry at hand. Whatever else the vendor's plugins can do is
refused with the way to get those. Their answers have the vendor's names and shapes (tests/engine): a stack may change
from one kind to the other.
"""
