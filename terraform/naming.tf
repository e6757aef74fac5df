# What several files call by the same name.

data "google_project" "this" {
  project_id = var.project_id
  depends_on = [google_project_service.enabled]
}

locals {
  labels = merge(var.labels, { app = var.name })

  # Cloud Run's address that is known before the service is there: the configuration it starts with names it.
  run_domain        = "${data.google_project.this.number}.${var.region}.run.app"
  api_url           = "https://${var.name}-api-${local.run_domain}"
  courier_url       = "https://${var.name}-courier-${local.run_domain}"
  gpu_worker_url    = "https://${var.name}-gpu-worker-${local.run_domain}"
  remote_worker_url = "https://${var.name}-remote-worker-${local.run_domain}"
  public_url        = var.load_balancer == null ? local.api_url : "https://${var.load_balancer.domain}"

  # Where containers find things.
  port               = 8080
  configuration_file = "/etc/promptreel/configuration/promptreel.yaml"
  keys_file          = "/etc/promptreel/keys/keys.json"
  replicate_files = {
    api_token_file      = "/etc/promptreel/replicate-token/token"
    webhook_secret_file = "/etc/promptreel/replicate-webhook-secret/secret"
  }
  data_dir = "/var/lib/promptreel"

  # The longest that a Pub/Sub push may wait for its answer.
  push_seconds = 600

  pubsub_agent = "serviceAccount:service-${data.google_project.this.number}@gcp-sa-pubsub.iam.gserviceaccount.com"
}
