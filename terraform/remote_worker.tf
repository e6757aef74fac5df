# The worker without a GPU and without weights: it orders from Vertex AI, waits, and brings the clips home.

resource "google_cloud_run_v2_service" "remote_worker" {
  count = var.remote_worker == null ? 0 : 1

  project             = var.project_id
  location            = var.region
  name                = "${var.name}-remote-worker"
  labels              = local.labels
  ingress             = "INGRESS_TRAFFIC_INTERNAL_ONLY"
  deletion_protection = var.deletion_protection

  template {
    service_account                  = google_service_account.remote_worker[0].email
    execution_environment            = "EXECUTION_ENVIRONMENT_GEN2"
    labels                           = local.labels
    max_instance_request_concurrency = 4
    timeout                          = "${local.push_seconds}s"

    scaling {
      min_instance_count = 0
      max_instance_count = var.remote_worker.max_instances
    }

    containers {
      name    = "remote-worker"
      image   = local.images.remote_worker
      command = ["functions-framework"]
      args    = ["--source", "services/gpu_worker/main.py", "--target", "render", "--signature-type", "http"]

      ports {
        container_port = local.port
      }

      env {
        name  = "PROMPTREEL_CONFIG"
        value = local.configuration_file
      }

      resources {
        cpu_idle          = false # leases are renewed by threads that no request waits for
        startup_cpu_boost = true
        limits = {
          cpu    = "1"
          memory = "2Gi"
        }
      }

      startup_probe {
        period_seconds    = 1
        timeout_seconds   = 1
        failure_threshold = 60
        http_get {
          path = "/health"
          port = local.port
        }
      }

      liveness_probe {
        period_seconds    = 60
        timeout_seconds   = 10
        failure_threshold = 10
        http_get {
          path = "/health"
          port = local.port
        }
      }

      volume_mounts {
        name       = "data"
        mount_path = local.data_dir
      }

      volume_mounts {
        name       = "configuration"
        mount_path = dirname(local.configuration_file)
      }
    }

    volumes {
      name = "data"
      empty_dir {
        medium     = "MEMORY"
        size_limit = "512Mi"
      }
    }

    volumes {
      name = "configuration"
      secret {
        secret = google_secret_manager_secret.configuration["remote-worker"].secret_id
        items {
          path    = basename(local.configuration_file)
          version = google_secret_manager_secret_version.configuration["remote-worker"].version
        }
      }
    }
  }

  lifecycle {
    precondition {
      condition     = var.images != null
      error_message = "Set images: build them first, then name them by digest. See the output next_steps."
    }
  }

  depends_on = [
    google_project_iam_member.firestore,
    google_project_iam_member.remote_worker_asks_veo,
    google_secret_manager_secret_iam_member.reads_configuration,
    google_storage_bucket_iam_member.artifacts,
  ]
}

resource "google_cloud_run_v2_service_iam_member" "push_calls_remote_worker" {
  for_each = { for service in google_cloud_run_v2_service.remote_worker : service.location => service.name }

  project  = var.project_id
  location = each.key
  name     = each.value
  role     = "roles/run.invoker"
  member   = google_service_account.push.member
}

resource "google_project_iam_member" "remote_worker_asks_veo" {
  count = var.remote_worker == null ? 0 : 1

  project = var.project_id
  role    = "roles/aiplatform.user"
  member  = google_service_account.remote_worker[0].member
}
