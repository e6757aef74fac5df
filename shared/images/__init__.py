"""Pictures made by a provider elsewhere: what may be asked, how it becomes a job, how that ends."""
