"""What an installation does and costs at 1, 100 and 10,000 jobs an hour and a million a day: simulated."""
