resource "google_cloud_run_v2_service" "gpu_worker" {
  project  = var.project_id
  location = var.region
  name     = "${var.name}-gpu-worker"
  labels   = local.labels
  # Pub/Sub's pushes count as internal; nobody else has a reason to call.
  ingress             = "INGRESS_TRAFFIC_INTERNAL_ONLY"
  deletion_protection = var.deletion_protection

  template {
    service_account               = google_service_account.gpu_worker.email
    execution_environment         = "EXECUTION_ENVIRONMENT_GEN2"
    labels                        = local.labels
    gpu_zonal_redundancy_disabled = true
    # One on the device, the others being decoded, encoded, uploaded, or next in line: worker.jobs_at_once.
    max_instance_request_concurrency = 4
    timeout                          = "${local.push_seconds}s"

    scaling {
      min_instance_count = var.gpu_worker.min_instances
      max_instance_count = var.gpu_worker.max_instances
    }

    node_selector {
      accelerator = "nvidia-l4"
    }

    containers {
      name  = "gpu-worker"
      image = local.images.gpu_worker

      ports {
        container_port = local.port
      }

      env {
        name  = "PROMPTREEL_CONFIG"
        value = local.configuration_file
      }

      resources {
        cpu_idle          = false # Cloud Run has GPUs in no other way
        startup_cpu_boost = true
        limits = {
          cpu              = var.gpu_worker.cpu
          memory           = var.gpu_worker.memory
          "nvidia.com/gpu" = "1"
        }
      }

      # 200 once the model is loaded: the first asking begins it.
      startup_probe {
        period_seconds    = 1
        timeout_seconds   = 1
        failure_threshold = 240
        http_get {
          path = "/health"
          port = local.port
        }
      }

      # A worker mends itself within this, render process and model included, or never.
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
        size_limit = "2Gi"
      }
    }

    volumes {
      name = "configuration"
      secret {
        secret = google_secret_manager_secret.configuration["gpu-worker"].secret_id
        items {
          path    = basename(local.configuration_file)
          version = google_secret_manager_secret_version.configuration["gpu-worker"].version
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
    google_secret_manager_secret_iam_member.reads_configuration,
    google_storage_bucket_iam_member.artifacts,
  ]
}

resource "google_cloud_run_v2_service_iam_member" "push_calls_gpu_worker" {
  project  = var.project_id
  location = google_cloud_run_v2_service.gpu_worker.location
  name     = google_cloud_run_v2_service.gpu_worker.name
  role     = "roles/run.invoker"
  member   = google_service_account.push.member
}
