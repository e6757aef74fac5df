# For renders longer than a push may take: the same worker, pulling.

resource "google_cloud_run_v2_worker_pool" "gpu_worker" {
  count = var.gpu_worker_pool == null ? 0 : 1

  project             = var.project_id
  location            = var.region
  name                = "${var.name}-gpu-worker-pool"
  labels              = local.labels
  deletion_protection = var.deletion_protection

  scaling {
    scaling_mode          = "MANUAL"
    manual_instance_count = var.gpu_worker_pool.instances
  }

  template {
    service_account               = google_service_account.gpu_worker.email
    labels                        = local.labels
    gpu_zonal_redundancy_disabled = true

    node_selector {
      accelerator = "nvidia-l4"
    }

    containers {
      name    = "gpu-worker"
      image   = local.images.gpu_worker
      command = ["python", "-m", "services.gpu_worker.pull"]

      env {
        name  = "PROMPTREEL_CONFIG"
        value = local.configuration_file
      }

      resources {
        limits = {
          cpu              = var.gpu_worker.cpu
          memory           = var.gpu_worker.memory
          "nvidia.com/gpu" = "1"
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
    google_firestore_index.composite, # a query without its index is refused
    google_project_iam_member.firestore,
    google_pubsub_subscription_iam_member.gpu_worker_pulls,
    google_secret_manager_secret_iam_member.reads_configuration,
    google_storage_bucket_iam_member.artifacts,
  ]
}
