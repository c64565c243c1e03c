"""Releases by pull request: what the jobs of GitHub, of GitLab and of a plain hook have in common."""
