# What must hold however the installation is set up.

mock_provider "google" {
  source = "./tests/mocks"
}

variables {
  project_id      = "demo-promptreel"
  billing_account = "012345-6789AB-CDEF01"
  images = {
    api           = "us-central1-docker.pkg.dev/demo-promptreel/promptreel/api@sha256:1111111111111111111111111111111111111111111111111111111111111111"
    gpu_worker    = "us-central1-docker.pkg.dev/demo-promptreel/promptreel/gpu-worker@sha256:2222222222222222222222222222222222222222222222222222222222222222"
    remote_worker = "us-central1-docker.pkg.dev/demo-promptreel/promptreel/remote-worker@sha256:3333333333333333333333333333333333333333333333333333333333333333"
  }
}

run "with_everything" {
  command = apply

  variables {
    remote_worker   = {}
    gpu_worker_pool = { instances = 2 }
    image_providers = { replicate = true, gemini = true }
    load_balancer   = { domain = "video.example.com" }
    state_bucket    = "demo-state"
    alert_emails    = ["ada@example.com"]
    configuration   = { telemetry = { traces = "cloud_trace" } }
  }

  assert {
    condition = (
      keys(google_project_iam_member.sends_traces) == ["api", "courier", "gpu_worker", "remote_worker"]
      && contains(keys(google_project_service.enabled), "telemetry.googleapis.com")
    )
    error_message = "Who is told to send traces may."
  }

  assert {
    condition = alltrue([
      for push in concat(
        [google_pubsub_subscription.render_gpu_push, google_pubsub_subscription.webhooks_push],
        google_pubsub_subscription.render_remote_push,
      ) : push.ack_deadline_seconds == 600 && push.dead_letter_policy[0].max_delivery_attempts >= 20
    ])
    error_message = "A push waits for the longest render, and a busy GPU must not bury healthy jobs."
  }

  assert {
    condition     = google_pubsub_subscription.render_gpu_pull[0].dead_letter_policy[0].max_delivery_attempts >= 20
    error_message = "Pulled messages are buried after as many deliveries."
  }

  assert {
    condition     = google_pubsub_subscription.render_gpu_push.filter != null
    error_message = "A job that a pool pulls must not wake the GPU service, too."
  }

  assert {
    condition     = google_cloud_run_v2_worker_pool.gpu_worker[0].scaling[0].manual_instance_count == 2
    error_message = "A pool has the instances it was given."
  }

  assert {
    condition = alltrue([
      for service in concat(
        [google_cloud_run_v2_service.gpu_worker, google_cloud_run_v2_service.courier],
        google_cloud_run_v2_service.remote_worker,
      ) : service.ingress == "INGRESS_TRAFFIC_INTERNAL_ONLY"
    ])
    error_message = "Workers are reached by Pub/Sub only."
  }

  assert {
    condition     = google_cloud_run_v2_service.api.ingress == "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER"
    error_message = "Nobody goes around the load balancer and its rate limit."
  }

  assert {
    condition     = google_compute_target_https_proxy.api[0].quic_override == "ENABLE"
    error_message = "The load balancer speaks HTTP/3."
  }

  assert {
    condition     = one([for rule in google_compute_security_policy.api[0].rule : rule.rate_limit_options[0].rate_limit_threshold[0].count if rule.action == "throttle"]) == 300
    error_message = "There is one rate rule, with the limit that was asked for."
  }

  assert {
    condition     = output.url == "https://video.example.com"
    error_message = "Callers are told the domain."
  }

  assert {
    condition = (
      google_cloud_run_v2_service.remote_worker[0].template[0].containers[0].image == var.images.remote_worker
      && length(google_cloud_run_v2_service.remote_worker[0].template[0].node_selector) == 0
    )
    error_message = "The remote worker is the image without a model, without a GPU."
  }
}

run "by_default" {
  command = apply

  assert {
    condition = (
      google_pubsub_subscription.render_gpu_push.push_config[0].push_endpoint == "https://promptreel-gpu-worker-123456789012.us-central1.run.app"
      && google_pubsub_subscription.render_gpu_push.push_config[0].oidc_token[0].audience == "https://promptreel-gpu-worker-123456789012.us-central1.run.app"
      && google_pubsub_subscription.render_gpu_push.push_config[0].oidc_token[0].service_account_email == google_service_account.push.email
    )
    error_message = "The GPU worker's audience is its own address."
  }

  assert {
    condition = (
      google_pubsub_subscription.webhooks_push.push_config[0].push_endpoint == "https://promptreel-courier-123456789012.us-central1.run.app"
      && google_pubsub_subscription.webhooks_push.push_config[0].oidc_token[0].audience == google_pubsub_subscription.webhooks_push.push_config[0].push_endpoint
    )
    error_message = "The courier's audience is its own address."
  }

  assert {
    condition = (
      google_cloud_scheduler_job.sweep.http_target[0].uri == "${google_cloud_scheduler_job.sweep.http_target[0].oidc_token[0].audience}/internal/sweep"
      && google_cloud_scheduler_job.sweep.http_target[0].oidc_token[0].audience == local.configuration["api"].gcp.scheduler.audience
    )
    error_message = "The sweep is asked for by a token that the API takes."
  }

  assert {
    condition     = length(google_project_iam_member.sends_traces) == 0 && !contains(keys(google_project_service.enabled), "aiplatform.googleapis.com")
    error_message = "What nobody asked for is not opened."
  }

  assert {
    condition     = google_pubsub_subscription.render_gpu_push.filter == null && length(google_pubsub_subscription.render_gpu_pull) == 0
    error_message = "Without a pool all jobs are pushed."
  }

  assert {
    condition = (
      google_cloud_run_v2_service_iam_member.push_calls_gpu_worker.member == google_service_account.push.member
      && google_cloud_run_v2_service_iam_member.push_calls_courier.member == google_service_account.push.member
    )
    error_message = "Workers are called by the push account, not by the public."
  }

  assert {
    condition = alltrue([
      for binding in google_cloud_run_v2_service_iam_member.anybody_calls_api : binding.name == google_cloud_run_v2_service.api.name
    ])
    error_message = "What is public is the API."
  }

  assert {
    condition = (
      google_cloud_run_v2_service.gpu_worker.template[0].max_instance_request_concurrency == 4
      && google_cloud_run_v2_service.gpu_worker.template[0].timeout == "600s"
      && !google_cloud_run_v2_service.gpu_worker.template[0].containers[0].resources[0].cpu_idle
      && google_cloud_run_v2_service.gpu_worker.template[0].gpu_zonal_redundancy_disabled
      && google_cloud_run_v2_service.gpu_worker.template[0].node_selector[0].accelerator == "nvidia-l4"
      && google_cloud_run_v2_service.gpu_worker.template[0].containers[0].startup_probe[0].http_get[0].path == "/health"
    )
    error_message = "Four jobs share an L4 that is wholly theirs, once the model is loaded."
  }

  assert {
    condition = alltrue([
      for service in [google_cloud_run_v2_service.api, google_cloud_run_v2_service.courier, google_cloud_run_v2_service.gpu_worker] :
      service.template[0].scaling[0].max_instance_count <= 3 && service.template[0].scaling[0].min_instance_count == 0
    ])
    error_message = "Nothing runs unasked, and what is asked has an end."
  }

  assert {
    condition     = google_billing_budget.month.amount[0].specified_amount[0].units == "100" && length(google_billing_budget.month.threshold_rules) == 4
    error_message = "There is a budget that tells."
  }

  assert {
    condition = alltrue([
      for service in [google_cloud_run_v2_service.api, google_cloud_run_v2_service.courier, google_cloud_run_v2_service.gpu_worker] :
      alltrue([for container in service.template[0].containers : can(regex("@sha256:", container.image))])
    ])
    error_message = "What runs is named by digest."
  }

  assert {
    condition = alltrue([
      for bucket in [google_storage_bucket.artifacts, google_storage_bucket.builds] :
      bucket.public_access_prevention == "enforced" && bucket.uniform_bucket_level_access
    ])
    error_message = "No bucket can be opened to the public."
  }

  assert {
    condition     = one([for rule in google_storage_bucket.artifacts.lifecycle_rule : one(rule.condition).age if one(rule.action).type == "Delete"]) > var.retention.job_days
    error_message = "The bucket keeps files longer than any job is known."
  }

  assert {
    condition     = google_firestore_database.jobs.delete_protection_state == "DELETE_PROTECTION_ENABLED"
    error_message = "The truth is not deleted by mistake."
  }

  assert {
    condition     = length(google_firestore_index.composite) == length(local.composite_indexes)
    error_message = "Every listed index is made."
  }

  assert {
    condition = one([
      for field in google_firestore_index.composite["jobs_of_an_owner"].fields : field.order if field.field_path == "created_at"
    ]) == "DESCENDING"
    error_message = "An index has the order it says."
  }

  assert {
    condition = (
      google_project_iam_member.firestore["api"].condition[0].expression
      == "resource.name == \"projects/demo-promptreel/databases/(default)\""
    )
    error_message = "Services reach their own database only."
  }

  assert {
    condition     = !contains(keys(google_secret_manager_secret_iam_member.api_reads), "smoke-test-key")
    error_message = "The API has hashes of keys, no key."
  }
}

run "without_a_public" {
  command = apply

  variables {
    api_public = false
  }

  assert {
    condition     = length(google_cloud_run_v2_service_iam_member.anybody_calls_api) == 0
    error_message = "Nobody calls a private API who was not let in."
  }

  assert {
    condition     = local.configuration["api"].gcp.scheduler.checked_by_cloud_run
    error_message = "Cloud Run removes the signatures of who calls a private service."
  }
}

run "without_images" {
  command = plan

  variables {
    images = null
  }

  expect_failures = [
    google_cloud_run_v2_job.bake,
    google_cloud_run_v2_service.api,
    google_cloud_run_v2_service.courier,
    google_cloud_run_v2_service.gpu_worker,
  ]
}
