locals {
  # Folders that files of secrets appear in: the configuration of a revision is the one it was made with, the
  # others are as they are at the moment they are read.
  api_mounts = merge(
    {
      configuration = {
        secret  = google_secret_manager_secret.configuration["api"].secret_id
        path    = local.configuration_file
        version = google_secret_manager_secret_version.configuration["api"].version
      }
      keys = {
        secret  = google_secret_manager_secret.secret["api-keys"].secret_id
        path    = local.keys_file
        version = "latest"
      }
    },
    !var.image_providers.replicate ? {} : {
      replicate-token = {
        secret  = google_secret_manager_secret.secret["replicate-token"].secret_id
        path    = local.replicate_files.api_token_file
        version = "latest"
      }
      replicate-webhook-secret = {
        secret  = google_secret_manager_secret.secret["replicate-webhook-secret"].secret_id
        path    = local.replicate_files.webhook_secret_file
        version = "latest"
      }
    },
  )
}

resource "google_cloud_run_v2_service" "api" {
  project             = var.project_id
  location            = var.region
  name                = "${var.name}-api"
  labels              = local.labels
  ingress             = var.load_balancer == null ? "INGRESS_TRAFFIC_ALL" : "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER"
  deletion_protection = var.deletion_protection

  template {
    service_account                  = google_service_account.api.email
    execution_environment            = "EXECUTION_ENVIRONMENT_GEN2"
    labels                           = local.labels
    max_instance_request_concurrency = var.api.threads
    # The longest a caller may follow a job.
    timeout = "3600s"

    scaling {
      min_instance_count = var.api.min_instances
      max_instance_count = var.api.max_instances
    }

    containers {
      name  = "api"
      image = local.images.api

      ports {
        container_port = local.port
      }

      env {
        name  = "PROMPTREEL_CONFIG"
        value = local.configuration_file
      }

      resources {
        cpu_idle          = true
        startup_cpu_boost = true
        limits = {
          cpu    = var.api.cpu
          memory = var.api.memory
        }
      }

      # A revision that cannot reach the store or the queue never gets a request.
      startup_probe {
        period_seconds    = 2
        timeout_seconds   = 2
        failure_threshold = 60
        http_get {
          path = "/readyz"
          port = local.port
        }
      }

      liveness_probe {
        period_seconds    = 30
        timeout_seconds   = 5
        failure_threshold = 3
        http_get {
          path = "/healthz"
          port = local.port
        }
      }

      volume_mounts {
        name       = "data"
        mount_path = local.data_dir
      }

      dynamic "volume_mounts" {
        for_each = local.api_mounts
        content {
          name       = volume_mounts.key
          mount_path = dirname(volume_mounts.value.path)
        }
      }
    }

    volumes {
      name = "data"
      empty_dir {
        medium     = "MEMORY"
        size_limit = "64Mi"
      }
    }

    dynamic "volumes" {
      for_each = local.api_mounts
      content {
        name = volumes.key
        secret {
          secret = volumes.value.secret
          items {
            path    = basename(volumes.value.path)
            version = volumes.value.version
          }
        }
      }
    }
  }

  lifecycle {
    precondition {
      condition     = var.images != null
      error_message = "Set images: build them first, then name them by digest. See the output next_steps."
    }
    precondition {
      condition     = var.api_public || var.load_balancer == null
      error_message = "A load balancer has no account to call a private API with: set api_public = true, or remove load_balancer."
    }
  }

  depends_on = [
    google_firestore_index.composite, # a query without its index is refused
    google_project_iam_member.firestore,
    google_pubsub_topic_iam_member.api_pings,
    google_secret_manager_secret_iam_member.api_reads,
    google_secret_manager_secret_iam_member.reads_configuration,
    google_storage_bucket_iam_member.artifacts,
  ]
}

# The API asks every caller for one of its own keys.
resource "google_cloud_run_v2_service_iam_member" "anybody_calls_api" {
  count = var.api_public ? 1 : 0

  project  = var.project_id
  location = google_cloud_run_v2_service.api.location
  name     = google_cloud_run_v2_service.api.name
  role     = "roles/run.invoker"
  member   = "allUsers"
}

resource "google_cloud_run_v2_service_iam_member" "scheduler_calls_api" {
  project  = var.project_id
  location = google_cloud_run_v2_service.api.location
  name     = google_cloud_run_v2_service.api.name
  role     = "roles/run.invoker"
  member   = google_service_account.scheduler.member
}

# Gemini makes pictures while the caller waits.
resource "google_project_iam_member" "api_asks_gemini" {
  count = var.image_providers.gemini ? 1 : 0

  project = var.project_id
  role    = "roles/aiplatform.user"
  member  = google_service_account.api.member
}
