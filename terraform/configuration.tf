# promptreel.yaml, one for each service: what this installation is, over what var.configuration says, over the
# defaults. It holds no secret, but is mounted like one.

locals {
  configuration_chosen = merge(
    var.remote_worker == null ? {} : var.remote_worker.fallback ? { fallback_backend = "veo3" } : {},
    var.configuration,
    {
      profile    = "gcp"
      data_dir   = local.data_dir
      output_dir = "${local.data_dir}/out"
    },
  )

  # So many clips of half a minute a GPU makes in two hours: whoever would wait longer is told so at once. A message
  # that is refused whenever it is delivered lives longer than that by far, see var.redelivery.
  queued_per_gpu = 250
  gpus           = var.gpu_worker_pool == null ? var.gpu_worker.max_instances : var.gpu_worker_pool.instances

  # Cloud Run has checked who calls a private service, and has removed the signature of his token.
  called_by = {
    api = {
      scheduler = {
        audience             = local.api_url
        service_account      = google_service_account.scheduler.email
        checked_by_cloud_run = !var.api_public
      }
    }
    courier = {
      push = {
        audience             = local.courier_url
        service_account      = google_service_account.push.email
        checked_by_cloud_run = true
      }
    }
    gpu-worker = {
      push = {
        audience             = local.gpu_worker_url
        service_account      = google_service_account.push.email
        checked_by_cloud_run = true
      }
    }
    remote-worker = {
      push = {
        audience             = local.remote_worker_url
        service_account      = google_service_account.push.email
        checked_by_cloud_run = true
      }
    }
  }

  configuration_sections = {
    server = {
      host       = "0.0.0.0"
      port       = local.port
      public_url = local.public_url
      threads    = var.api.threads
      key_file   = local.keys_file
      # Cloud Run adds the caller's address to X-Forwarded-For, a load balancer its own after that.
      trusted_proxies = var.load_balancer == null ? 1 : 2
    }
    render = {
      model  = var.model.name
      preset = var.model.preset
    }
    models = {
      (var.model.name) = { for key, path in {
        dir          = var.model.dir
        snapshot     = var.model.snapshot
        tiny_decoder = var.model.tiny_decoder
      } : key => path if path != null }
    }
    vertex = {
      project  = var.project_id
      location = var.remote_worker == null ? "us-central1" : var.remote_worker.location
    }
    queue = {
      visibility_seconds  = 60
      backoff_min_seconds = var.redelivery.backoff_min_seconds
      backoff_max_seconds = var.redelivery.backoff_max_seconds
      max_deliveries      = var.redelivery.max_deliveries
    }
    artifacts = { bucket = google_storage_bucket.artifacts.name }
    images = !var.image_providers.replicate ? {} : {
      replicate = merge(try(var.configuration.images.replicate, {}), local.replicate_files)
    }
    retention = var.retention
    limits = {
      queued_per_model = try(var.configuration.limits.queued_per_model, local.queued_per_gpu * local.gpus)
      queued_per_owner = try(var.configuration.limits.queued_per_owner, local.queued_per_gpu * local.gpus / 2)
    }
    # Of a pool's workers, each; Cloud Scheduler has the API do it as well.
    worker = { sweep_seconds = try(var.configuration.worker.sweep_seconds, 60) }
    gcp = {
      project      = var.project_id
      database     = var.firestore.database
      topic_prefix = var.topic_prefix
      signing      = "iam"
    }
  }

  configuration_of = {
    api           = { gcp = local.called_by.api }
    courier       = { gcp = local.called_by.courier }
    gpu-worker    = { gcp = local.called_by.gpu-worker }
    remote-worker = { gcp = local.called_by.remote-worker, worker = { backend = "veo3" } }
  }

  services_configured = setsubtract(keys(local.configuration_of), var.remote_worker == null ? ["remote-worker"] : [])

  configuration = {
    for service in local.services_configured : service => merge(local.configuration_chosen, {
      for name, section in local.configuration_sections : name => merge(
        try(var.configuration[name], {}), section, try(local.configuration_of[service][name], {}),
      )
    })
  }

  configuration_read_by = merge(
    {
      api        = google_service_account.api.member
      courier    = google_service_account.courier.member
      gpu-worker = google_service_account.gpu_worker.member
    },
    { for account in google_service_account.remote_worker : "remote-worker" => account.member },
  )
}

resource "google_secret_manager_secret" "configuration" {
  for_each = local.services_configured

  project   = var.project_id
  secret_id = "${var.name}-${each.key}-configuration"
  labels    = local.labels

  replication {
    auto {}
  }

  depends_on = [google_project_service.enabled]
}

resource "google_secret_manager_secret_version" "configuration" {
  for_each = local.services_configured

  secret      = google_secret_manager_secret.configuration[each.key].id
  secret_data = yamlencode(local.configuration[each.key])
  # Earlier revisions of the services name earlier versions: one can roll back to them.
  deletion_policy = "ABANDON"

  lifecycle {
    create_before_destroy = true
  }
}

resource "google_secret_manager_secret_iam_member" "reads_configuration" {
  for_each = local.configuration_read_by

  project   = var.project_id
  secret_id = google_secret_manager_secret.configuration[each.key].secret_id
  role      = "roles/secretmanager.secretAccessor"
  member    = each.value
}

resource "google_secret_manager_secret_iam_member" "deployer_adds_configuration" {
  for_each = local.services_configured

  project   = var.project_id
  secret_id = google_secret_manager_secret.configuration[each.key].secret_id
  role      = "roles/secretmanager.secretVersionManager"
  member    = google_service_account.deployer.member
}

# Terraform reads back what it has stored.
resource "google_secret_manager_secret_iam_member" "deployer_reads_configuration" {
  for_each = local.services_configured

  project   = var.project_id
  secret_id = google_secret_manager_secret.configuration[each.key].secret_id
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.deployer.member
}
