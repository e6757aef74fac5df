# One account a service. What each may do stands beside what it may do it with; docs/least-privilege.md lists it all.

resource "google_service_account" "api" {
  project      = var.project_id
  account_id   = "${var.name}-api"
  display_name = "Promptreel: API"
  depends_on   = [google_project_service.enabled]
}

resource "google_service_account" "gpu_worker" {
  project      = var.project_id
  account_id   = "${var.name}-gpu-worker"
  display_name = "Promptreel: GPU worker"
  depends_on   = [google_project_service.enabled]
}

resource "google_service_account" "remote_worker" {
  count = var.remote_worker == null ? 0 : 1

  project      = var.project_id
  account_id   = "${var.name}-remote-worker"
  display_name = "Promptreel: worker that has Vertex AI render"
  depends_on   = [google_project_service.enabled]
}

resource "google_service_account" "courier" {
  project      = var.project_id
  account_id   = "${var.name}-courier"
  display_name = "Promptreel: delivers webhooks"
  depends_on   = [google_project_service.enabled]
}

resource "google_service_account" "scheduler" {
  project      = var.project_id
  account_id   = "${var.name}-scheduler"
  display_name = "Promptreel: calls the sweep"
  depends_on   = [google_project_service.enabled]
}

resource "google_service_account" "push" {
  project      = var.project_id
  account_id   = "${var.name}-push"
  display_name = "Promptreel: Pub/Sub pushes as this"
  depends_on   = [google_project_service.enabled]
}

resource "google_service_account" "bake" {
  project      = var.project_id
  account_id   = "${var.name}-bake"
  display_name = "Promptreel: bakes snapshots"
  depends_on   = [google_project_service.enabled]
}

resource "google_service_account" "deployer" {
  project      = var.project_id
  account_id   = "${var.name}-deployer"
  display_name = "Promptreel: builds and releases"
  depends_on   = [google_project_service.enabled]
}

locals {
  # Those that take a job from one status to the next.
  job_handlers = merge(
    {
      api        = google_service_account.api.member
      gpu_worker = google_service_account.gpu_worker.member
    },
    { for account in google_service_account.remote_worker : "remote_worker" => account.member },
  )
}

# Signs links to artifacts as itself, without a key.
resource "google_service_account_iam_member" "api_signs" {
  service_account_id = google_service_account.api.name
  role               = "roles/iam.serviceAccountTokenCreator"
  member             = google_service_account.api.member
}

# Makes the tokens that pushes carry.
resource "google_service_account_iam_member" "pubsub_pushes" {
  service_account_id = google_service_account.push.name
  role               = "roles/iam.serviceAccountTokenCreator"
  member             = local.pubsub_agent
  # The agent is there once Pub/Sub is.
  depends_on = [google_pubsub_topic.topic]
}
