# What is printed reaches `docker compose logs` at once, not when a buffer is full.
$stdout.sync = true
