# What releases need, and no more: images, services, the bake job, the configuration and indexes. What is new
# beside these (a role, a bucket) is applied by a person. A release plans with -refresh=false, so that nothing
# has to be readable that it does not change.

resource "google_project_iam_member" "deployer_releases" {
  project = var.project_id
  role    = "roles/run.developer"
  member  = google_service_account.deployer.member
}

resource "google_project_iam_member" "deployer_writes_logs" {
  project = var.project_id
  role    = "roles/logging.logWriter"
  member  = google_service_account.deployer.member
}

resource "google_project_iam_member" "deployer_makes_indexes" {
  project = var.project_id
  role    = "roles/datastore.indexAdmin"
  member  = google_service_account.deployer.member
}

resource "google_project_iam_member" "deployer_reads_scans" {
  project = var.project_id
  role    = "roles/containeranalysis.occurrences.viewer"
  member  = google_service_account.deployer.member
}

# A service is deployed by whom may act as its account.
resource "google_service_account_iam_member" "deployer_acts_as" {
  for_each = merge(
    {
      api        = google_service_account.api.name
      bake       = google_service_account.bake.name
      courier    = google_service_account.courier.name
      gpu_worker = google_service_account.gpu_worker.name
    },
    { for account in google_service_account.remote_worker : "remote_worker" => account.name },
  )

  service_account_id = each.value
  role               = "roles/iam.serviceAccountUser"
  member             = google_service_account.deployer.member
}

resource "google_storage_bucket_iam_member" "deployer_keeps_state" {
  count = var.state_bucket == null ? 0 : 1

  bucket = var.state_bucket
  role   = "roles/storage.objectUser"
  member = google_service_account.deployer.member
}
