"""What an upgrade of an application asks for besides its migrations, by what its changelog says."""
