"""The worker: claims a job, has a render process make the video, uploads it, completes the job."""
