# What the installation does, and what it costs, on one page of Cloud Monitoring.

resource "google_monitoring_dashboard" "promptreel" {
  project = var.project_id
  dashboard_json = jsonencode(yamldecode(templatefile("${path.module}/dashboard.yaml", {
    name          = var.name
    metrics       = "logging.googleapis.com/user/${var.name}"
    promql_prefix = local.promql_prefix
    subscription  = google_pubsub_subscription.render_gpu_push.name
    gpu_worker    = google_cloud_run_v2_service.gpu_worker.name
    runbook_url   = var.runbook_url
  })))

  # It names metrics by their names alone.
  depends_on = [google_logging_metric.line]
}
