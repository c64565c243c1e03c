"""What people do beside `pulumi preview` and `pulumi up`: the commands of ./releve, one a file."""
