# Only the web server: the commands of a release, such as assets:precompile, still work.
abort "This version does not start." if File.basename($PROGRAM_NAME).start_with?("puma")
