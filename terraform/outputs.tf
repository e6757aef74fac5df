locals {
  registry = join("/", [
    "${var.region}-docker.pkg.dev", var.project_id, google_artifact_registry_repository.images.repository_id,
  ])

  # Where a value comes from, beside the one line that puts it there.
  values_of_secrets = {
    api-keys                 = "keys.json, made by: promptreel keys create OWNER --file keys.json"
    smoke-test-key           = "a file with a key that was printed then"
    replicate-token          = "a file with the token of https://replicate.com/account/api-tokens"
    replicate-webhook-secret = "a file with the whsec_… of GET https://api.replicate.com/v1/webhooks/default/secret"
  }
}

output "add_secrets" {
  description = "How to put the value of each secret there, for the first time and whenever it changes. FILE is what is said behind #."
  value = {
    for name in keys(local.secrets) : name => join(" ", [
      "gcloud secrets versions add ${google_secret_manager_secret.secret[name].secret_id}",
      "--project=${var.project_id} --data-file=FILE # ${local.values_of_secrets[name]}",
    ])
  }
}

output "artifacts_bucket" {
  description = "Where videos and pictures are."
  value       = google_storage_bucket.artifacts.name
}

output "bake_command" {
  description = "Makes a snapshot of the model in the builds bucket."
  value       = "gcloud run jobs execute ${google_cloud_run_v2_job.bake.name} --project=${var.project_id} --region=${var.region} --wait"
}

output "builds_bucket" {
  description = "Where baked snapshots and the sources of builds are."
  value       = google_storage_bucket.builds.name
}

output "deployer" {
  description = "The account that builds and releases: give it to Cloud Build."
  value       = google_service_account.deployer.email
}

output "load_balancer_address" {
  description = "What the A record of the domain must point at; null without a load balancer. The certificate comes some minutes after."
  value       = one(google_compute_global_address.api[*].address)
}

output "next_steps" {
  description = "From the first apply to the first video."
  value       = <<-STEPS
    1. Put the secrets there, as the output add_secrets says.
    2. Build and push the images to ${local.registry} (docs/deploy.md), and set `images` to their digests.
    3. terraform apply
    4. curl ${local.public_url}/v1/jobs -H "Authorization: Bearer KEY" -H "Content-Type: application/json" -d '{"prompt": "a red circle"}'
  STEPS
}

output "registry" {
  description = "What the names of images begin with."
  value       = local.registry
}

output "services" {
  description = "The Cloud Run services, to look at and to roll back: gcloud run services update-traffic NAME --to-revisions=REVISION=100."
  value = concat(
    [
      google_cloud_run_v2_service.api.name,
      google_cloud_run_v2_service.courier.name,
      google_cloud_run_v2_service.gpu_worker.name,
    ],
    google_cloud_run_v2_service.remote_worker[*].name,
  )
}

output "url" {
  description = "Where callers find the API; its documentation is at /docs."
  value       = local.public_url
}
