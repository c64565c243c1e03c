"""What people run beside pulumi, with the configuration of a stack: `python -m operations.NAME --stack STACK`."""
