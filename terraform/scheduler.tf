resource "google_cloud_scheduler_job" "sweep" {
  project     = var.project_id
  region      = var.region
  name        = "${var.name}-sweep"
  description = "Mends what was lost: unpublished jobs, silent workers, dead letters, spent retention."
  schedule    = var.sweep_schedule
  # A sweep removes files for a minute at most, and ends with the call at hand.
  attempt_deadline = "180s"

  retry_config {
    retry_count = 0 # the next sweep comes by itself
  }

  http_target {
    http_method = "POST"
    uri         = "${local.api_url}/internal/sweep"

    oidc_token {
      service_account_email = google_service_account.scheduler.email
      audience              = local.api_url
    }
  }

  depends_on = [
    google_cloud_run_v2_service.api,
    google_cloud_run_v2_service_iam_member.scheduler_calls_api,
  ]
}
