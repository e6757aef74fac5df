resource "google_storage_bucket" "artifacts" {
  #checkov:skip=CKV_GCP_62: access logs would keep who watched what longer than the videos are kept
  #checkov:skip=CKV_GCP_78: a file is stored once and never changed; a deleted one is to be gone
  project                     = var.project_id
  name                        = "${var.project_id}-${var.name}-artifacts"
  location                    = var.region
  labels                      = local.labels
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = !var.deletion_protection

  # The sweep removes files on the day; this takes what nobody knows any more.
  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      age = var.retention.job_days + 1
    }
  }

  lifecycle_rule {
    action {
      type = "AbortIncompleteMultipartUpload"
    }
    condition {
      age = 1
    }
  }

  # What a caller deletes is deleted.
  soft_delete_policy {
    retention_duration_seconds = 0
  }

  dynamic "cors" {
    for_each = length(var.artifact_cors_origins) == 0 ? [] : [var.artifact_cors_origins]
    content {
      origin          = cors.value
      method          = ["GET", "HEAD"]
      response_header = ["Accept-Ranges", "Content-Length", "Content-Range", "Content-Type"]
      max_age_seconds = 3600
    }
  }

  depends_on = [google_project_service.enabled]
}

# Without buckets.* and objects.setIamPolicy: nobody who handles files can open the bucket to others.
resource "google_storage_bucket_iam_member" "artifacts" {
  for_each = local.job_handlers

  bucket = google_storage_bucket.artifacts.name
  role   = "roles/storage.objectUser"
  member = each.value
}

# What was baked, until it is in an image, and the sources that images are built from.
resource "google_storage_bucket" "builds" {
  #checkov:skip=CKV_GCP_62: no caller's data is in it
  #checkov:skip=CKV_GCP_78: whatever is in it can be made again
  project                     = var.project_id
  name                        = "${var.project_id}-${var.name}-builds"
  location                    = var.region
  labels                      = local.labels
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = true

  # A snapshot gets its name when it is whole, by a rename of its folder.
  hierarchical_namespace {
    enabled = true
  }

  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      age = 30
    }
  }

  soft_delete_policy {
    retention_duration_seconds = 0
  }

  depends_on = [google_project_service.enabled]
}

resource "google_storage_bucket_iam_member" "bake_writes_snapshots" {
  bucket = google_storage_bucket.builds.name
  role   = "roles/storage.objectUser"
  member = google_service_account.bake.member
}

resource "google_storage_bucket_iam_member" "deployer_builds" {
  bucket = google_storage_bucket.builds.name
  role   = "roles/storage.objectUser"
  member = google_service_account.deployer.member
}
