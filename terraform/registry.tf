resource "google_artifact_registry_repository" "images" {
  #checkov:skip=CKV_GCP_84: Google's own keys encrypt it; an image holds no secret and no caller's data
  project                = var.project_id
  location               = var.region
  repository_id          = var.name
  description            = "Promptreel's images"
  format                 = "DOCKER"
  labels                 = local.labels
  cleanup_policy_dry_run = false

  # The newest of each stay whatever their age: what runs, and what to roll back to.
  cleanup_policies {
    id     = "keep-the-newest"
    action = "KEEP"
    most_recent_versions {
      keep_count = 10
    }
  }

  cleanup_policies {
    id     = "delete-after-a-month"
    action = "DELETE"
    condition {
      tag_state  = "ANY"
      older_than = "2592000s"
    }
  }

  vulnerability_scanning_config {
    enablement_config = "INHERITED"
  }

  depends_on = [google_project_service.enabled]
}

resource "google_artifact_registry_repository_iam_member" "deployer_pushes" {
  project    = var.project_id
  location   = google_artifact_registry_repository.images.location
  repository = google_artifact_registry_repository.images.name
  role       = "roles/artifactregistry.writer"
  member     = google_service_account.deployer.member
}
