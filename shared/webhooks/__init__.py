"""Completion webhooks: an owner is told that a job has ended, by https://www.standardwebhooks.com."""
