# Tells the owners of jobs that a job has ended: the API's image, started as a receiver of pushes.

resource "google_cloud_run_v2_service" "courier" {
  project             = var.project_id
  location            = var.region
  name                = "${var.name}-courier"
  labels              = local.labels
  ingress             = "INGRESS_TRAFFIC_INTERNAL_ONLY"
  deletion_protection = var.deletion_protection

  template {
    service_account                  = google_service_account.courier.email
    execution_environment            = "EXECUTION_ENVIRONMENT_GEN2"
    labels                           = local.labels
    max_instance_request_concurrency = var.courier.deliveries
    timeout                          = "${local.push_seconds}s"

    scaling {
      min_instance_count = 0
      max_instance_count = var.courier.max_instances
    }

    containers {
      name    = "courier"
      image   = local.images.api
      command = ["functions-framework"]
      args    = ["--source", "services/courier/main.py", "--target", "deliver", "--signature-type", "http"]

      ports {
        container_port = local.port
      }

      env {
        name  = "PROMPTREEL_CONFIG"
        value = local.configuration_file
      }

      # functions-framework's threads, each of which waits for a receiver.
      env {
        name  = "THREADS"
        value = tostring(var.courier.deliveries)
      }

      resources {
        cpu_idle          = true
        startup_cpu_boost = true
        limits = {
          cpu    = "1"
          memory = "512Mi"
        }
      }

      startup_probe {
        period_seconds    = 1
        timeout_seconds   = 1
        failure_threshold = 60
        tcp_socket {
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
        size_limit = "64Mi"
      }
    }

    volumes {
      name = "configuration"
      secret {
        secret = google_secret_manager_secret.configuration["courier"].secret_id
        items {
          path    = basename(local.configuration_file)
          version = google_secret_manager_secret_version.configuration["courier"].version
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
  ]
}

resource "google_cloud_run_v2_service_iam_member" "push_calls_courier" {
  project  = var.project_id
  location = google_cloud_run_v2_service.courier.location
  name     = google_cloud_run_v2_service.courier.name
  role     = "roles/run.invoker"
  member   = google_service_account.push.member
}
