# Containers for secrets: their values never come near Terraform or its state. The output add_secrets says how to
# put them there.

locals {
  secrets = merge(
    {
      api-keys       = "Who may ask: the key file, hashes only."
      smoke-test-key = "The API key that a release is tried with."
    },
    !var.image_providers.replicate ? {} : {
      replicate-token          = "The token of replicate.com that pictures are ordered with."
      replicate-webhook-secret = "The key that Replicate signs its webhooks with."
    },
  )

  read_by_api = setsubtract(keys(local.secrets), ["smoke-test-key"])
}

resource "google_secret_manager_secret" "secret" {
  for_each = local.secrets

  project     = var.project_id
  secret_id   = "${var.name}-${each.key}"
  annotations = { what = each.value }
  labels      = local.labels

  replication {
    auto {}
  }

  depends_on = [google_project_service.enabled]
}

resource "google_secret_manager_secret_iam_member" "api_reads" {
  for_each = local.read_by_api

  project   = var.project_id
  secret_id = google_secret_manager_secret.secret[each.key].secret_id
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.api.member
}

resource "google_secret_manager_secret_iam_member" "deployer_tries" {
  project   = var.project_id
  secret_id = google_secret_manager_secret.secret["smoke-test-key"].secret_id
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.deployer.member
}
