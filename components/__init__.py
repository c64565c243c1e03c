"""The Pulumi component resources, one a file. They are given settings and never read configuration themselves."""
