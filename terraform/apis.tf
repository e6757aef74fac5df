locals {
  apis = toset(concat(
    [
      "artifactregistry.googleapis.com",
      "billingbudgets.googleapis.com",
      "cloudbuild.googleapis.com",
      "cloudresourcemanager.googleapis.com",
      "cloudscheduler.googleapis.com",
      "containerscanning.googleapis.com",
      "firestore.googleapis.com",
      "iam.googleapis.com",
      "iamcredentials.googleapis.com", # links are signed without a key
      "logging.googleapis.com",
      "monitoring.googleapis.com",
      "pubsub.googleapis.com",
      "run.googleapis.com",
      "secretmanager.googleapis.com",
      "storage.googleapis.com",
    ],
    var.load_balancer == null ? [] : ["compute.googleapis.com"],
    local.asks_vertex ? ["aiplatform.googleapis.com"] : [],
    local.keeps_traces ? ["cloudtrace.googleapis.com", "telemetry.googleapis.com"] : [],
  ))

  asks_vertex = var.remote_worker != null || var.image_providers.gemini
}

resource "google_project_service" "enabled" {
  for_each = local.apis

  project = var.project_id
  service = each.key
  # Something else in the project may use them, too.
  disable_on_destroy = false
}
