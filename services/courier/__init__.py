"""The courier: tells owners that their jobs have ended, so that no receiver ever keeps a worker."""
