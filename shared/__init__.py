"""What both services agree on: the job, its rules, the ports and their adapters."""
