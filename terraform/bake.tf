# Makes the snapshot of the model, on an L4 like the one it will start on. A build runs it, with the image that has
# the weights, and puts what it leaves in the builds bucket into the final image.

resource "google_cloud_run_v2_job" "bake" {
  project             = var.project_id
  location            = var.region
  name                = "${var.name}-bake"
  labels              = local.labels
  deletion_protection = var.deletion_protection

  template {
    labels      = local.labels
    task_count  = 1
    parallelism = 1

    template {
      service_account               = google_service_account.bake.email
      execution_environment         = "EXECUTION_ENVIRONMENT_GEN2"
      gpu_zonal_redundancy_disabled = true
      max_retries                   = 0 # a build that fails is looked at before it is tried again
      timeout                       = "3600s"

      node_selector {
        accelerator = "nvidia-l4"
      }

      containers {
        name    = "bake"
        image   = local.images.gpu_worker
        command = ["python", "-m", "services.gpu_worker.engine.bake"]
        args    = [var.model.dir, "/snapshots/${var.model.name}", "--model", var.model.name, "--text-float8"]

        resources {
          limits = {
            cpu              = "8"
            memory           = "32Gi"
            "nvidia.com/gpu" = "1"
          }
        }

        volume_mounts {
          name       = "snapshots"
          mount_path = "/snapshots"
        }
      }

      volumes {
        name = "snapshots"
        gcs {
          bucket    = google_storage_bucket.builds.name
          read_only = false
        }
      }
    }
  }

  lifecycle {
    # Each build bakes with its own.
    ignore_changes = [
      template[0].template[0].containers[0].image,
      template[0].template[0].containers[0].args,
    ]
    precondition {
      condition     = var.images != null
      error_message = "Set images: build them first, then name them by digest. See the output next_steps."
    }
  }

  depends_on = [google_storage_bucket_iam_member.bake_writes_snapshots]
}
