"""The rules that a Dockerfile, its build context and the built image are checked by, and how strictly by default.

Source of the rules: the guide's sections on the production Dockerfile, and Docker's own "Building best practices".
"""

from __future__ import annotations

from enum import StrEnum


class Level(StrEnum):
    """What becomes of a finding."""

    ERROR = "error"
    """The image is not built, or does not get its tag."""
    WARN = "warn"
    """It is said, and the release goes on."""
    OFF = "off"
    """It is not looked for."""


class Rule(StrEnum):
    """What is looked for; the values are the keys of image.checks."""

    BASE_IMAGE = "base-image"
    """Base images are named by a version or a digest, not by `latest`."""
    PRODUCTION_ENV = "production-env"
    """RAILS_ENV, RACK_ENV and NODE_ENV are `production` in the image."""
    NON_ROOT_USER = "non-root-user"
    """The image runs as a user that is not root."""
    COMMAND = "command"
    """The image says what to run."""
    EXEC_FORM = "exec-form"
    """It says so as a list, so that no shell stands between Docker's signals and the application."""
    ENV_FILE = "env-file"
    """No .env file."""
    GIT_DIRECTORY = "git-directory"
    """No .git directory."""
    CREDENTIALS = "credentials"
    """No private key, and no file in which tools keep passwords and tokens."""
    LEFTOVERS = "leftovers"
    """No log, tmp or node_modules."""
    SECRET_VARIABLE = "secret-variable"  # noqa: S105 - a rule's name
    """No build argument and no ENV that holds a secret."""


DEFAULT_LEVELS = dict.fromkeys(Rule, Level.ERROR) | {
    # These make an image worse, not unsafe: environment variables may come from the Compose file as well.
    Rule.PRODUCTION_ENV: Level.WARN,
    Rule.EXEC_FORM: Level.WARN,
    Rule.LEFTOVERS: Level.WARN,
}
