"""`promptreel`: the command line. Never imports torch; heavy work runs in processes of its own."""
