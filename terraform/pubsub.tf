# Names and redelivery are those of shared/adapters/gcp/pubsub_topology.py; a test holds them together.
#
#   render-gpu ─▶ render-gpu-push (or -pull) ──too many deliveries──▶ render-gpu-dead ─▶ render-gpu-dead-pull

locals {
  topics = toset(["render-gpu", "render-remote", "webhooks"])

  backoff = {
    minimum = "${var.redelivery.backoff_min_seconds}s"
    maximum = "${var.redelivery.backoff_max_seconds}s"
  }
  # As long as Pub/Sub keeps anything.
  kept = "604800s"
}

resource "google_pubsub_topic" "topic" {
  #checkov:skip=CKV_GCP_83: Google's own keys encrypt it; a message is no more than the id of a job
  for_each = local.topics

  project    = var.project_id
  name       = "${var.topic_prefix}${each.key}"
  labels     = local.labels
  depends_on = [google_project_service.enabled]
}

resource "google_pubsub_topic" "dead" {
  #checkov:skip=CKV_GCP_83: Google's own keys encrypt it; a message is no more than the id of a job
  for_each = local.topics

  project    = var.project_id
  name       = "${var.topic_prefix}${each.key}-dead"
  labels     = local.labels
  depends_on = [google_project_service.enabled]
}

# The sweep looks through these: without a subscription, dead letters would be lost.
resource "google_pubsub_subscription" "dead_pull" {
  for_each = local.topics

  project                    = var.project_id
  name                       = "${var.topic_prefix}${each.key}-dead-pull"
  topic                      = google_pubsub_topic.dead[each.key].id
  labels                     = local.labels
  ack_deadline_seconds       = 60
  message_retention_duration = local.kept

  expiration_policy {
    ttl = "" # never, however quiet it is
  }
}

resource "google_pubsub_subscription" "render_gpu_push" {
  project                    = var.project_id
  name                       = "${var.topic_prefix}render-gpu-push"
  topic                      = google_pubsub_topic.topic["render-gpu"].id
  labels                     = local.labels
  ack_deadline_seconds       = local.push_seconds
  message_retention_duration = local.kept

  # Each subscription gets every message: with a pool that pulls, none is for this one.
  filter = var.gpu_worker_pool == null ? null : "attributes:pushed"

  push_config {
    push_endpoint = local.gpu_worker_url
    oidc_token {
      service_account_email = google_service_account.push.email
      audience              = local.gpu_worker_url
    }
  }

  retry_policy {
    minimum_backoff = local.backoff.minimum
    maximum_backoff = local.backoff.maximum
  }

  dead_letter_policy {
    dead_letter_topic     = google_pubsub_topic.dead["render-gpu"].id
    max_delivery_attempts = var.redelivery.max_deliveries
  }

  expiration_policy {
    ttl = ""
  }

  depends_on = [google_service_account_iam_member.pubsub_pushes]
}

resource "google_pubsub_subscription" "render_gpu_pull" {
  count = var.gpu_worker_pool == null ? 0 : 1

  project                    = var.project_id
  name                       = "${var.topic_prefix}render-gpu-pull"
  topic                      = google_pubsub_topic.topic["render-gpu"].id
  labels                     = local.labels
  ack_deadline_seconds       = 60 # the worker extends it, and keeps it no shorter
  message_retention_duration = local.kept

  retry_policy {
    minimum_backoff = local.backoff.minimum
    maximum_backoff = local.backoff.maximum
  }

  dead_letter_policy {
    dead_letter_topic     = google_pubsub_topic.dead["render-gpu"].id
    max_delivery_attempts = var.redelivery.max_deliveries
  }

  expiration_policy {
    ttl = ""
  }
}

resource "google_pubsub_subscription" "render_remote_push" {
  count = var.remote_worker == null ? 0 : 1

  project                    = var.project_id
  name                       = "${var.topic_prefix}render-remote-push"
  topic                      = google_pubsub_topic.topic["render-remote"].id
  labels                     = local.labels
  ack_deadline_seconds       = local.push_seconds
  message_retention_duration = local.kept

  push_config {
    push_endpoint = local.remote_worker_url
    oidc_token {
      service_account_email = google_service_account.push.email
      audience              = local.remote_worker_url
    }
  }

  retry_policy {
    minimum_backoff = local.backoff.minimum
    maximum_backoff = local.backoff.maximum
  }

  dead_letter_policy {
    dead_letter_topic     = google_pubsub_topic.dead["render-remote"].id
    max_delivery_attempts = var.redelivery.max_deliveries
  }

  expiration_policy {
    ttl = ""
  }

  depends_on = [google_service_account_iam_member.pubsub_pushes]
}

resource "google_pubsub_subscription" "webhooks_push" {
  project                    = var.project_id
  name                       = "${var.topic_prefix}webhooks-push"
  topic                      = google_pubsub_topic.topic["webhooks"].id
  labels                     = local.labels
  ack_deadline_seconds       = local.push_seconds
  message_retention_duration = local.kept

  push_config {
    push_endpoint = local.courier_url
    oidc_token {
      service_account_email = google_service_account.push.email
      audience              = local.courier_url
    }
  }

  retry_policy {
    minimum_backoff = local.backoff.minimum
    maximum_backoff = local.backoff.maximum
  }

  dead_letter_policy {
    dead_letter_topic     = google_pubsub_topic.dead["webhooks"].id
    max_delivery_attempts = var.redelivery.max_deliveries
  }

  expiration_policy {
    ttl = ""
  }

  depends_on = [google_service_account_iam_member.pubsub_pushes]
}

# --- who publishes, who pulls

# The API submits jobs; the sweep and workers send them back to the queue, or to the fallback's; whoever sees a
# job end tells the courier.
resource "google_pubsub_topic_iam_member" "publishes" {
  for_each = merge([
    for topic in local.topics : {
      for name, member in local.job_handlers : "${topic} ${name}" => { topic = topic, member = member }
    }
  ]...)

  project = var.project_id
  topic   = google_pubsub_topic.topic[each.value.topic].name
  role    = "roles/pubsub.publisher"
  member  = each.value.member
}

# /readyz asks whether the topic answers.
resource "google_pubsub_topic_iam_member" "api_pings" {
  project = var.project_id
  topic   = google_pubsub_topic.topic["render-gpu"].name
  role    = "roles/pubsub.viewer"
  member  = google_service_account.api.member
}

resource "google_pubsub_subscription_iam_member" "api_sweeps_dead_letters" {
  for_each = local.topics

  project      = var.project_id
  subscription = google_pubsub_subscription.dead_pull[each.key].name
  role         = "roles/pubsub.subscriber"
  member       = google_service_account.api.member
}

resource "google_pubsub_subscription_iam_member" "gpu_worker_pulls" {
  for_each = { for subscription in google_pubsub_subscription.render_gpu_pull : "render-gpu" => subscription.name }

  project      = var.project_id
  subscription = each.value
  role         = "roles/pubsub.subscriber"
  member       = google_service_account.gpu_worker.member
}

# A pool sweeps, too, and puts aside what no code can read.
resource "google_pubsub_subscription_iam_member" "gpu_worker_sweeps_dead_letters" {
  for_each = var.gpu_worker_pool == null ? toset([]) : local.topics

  project      = var.project_id
  subscription = google_pubsub_subscription.dead_pull[each.key].name
  role         = "roles/pubsub.subscriber"
  member       = google_service_account.gpu_worker.member
}

resource "google_pubsub_topic_iam_member" "gpu_worker_puts_aside" {
  count = var.gpu_worker_pool == null ? 0 : 1

  project = var.project_id
  topic   = google_pubsub_topic.dead["render-gpu"].name
  role    = "roles/pubsub.publisher"
  member  = google_service_account.gpu_worker.member
}

# --- what Pub/Sub itself needs for dead letters: to publish them, and to take them from where they were

resource "google_pubsub_topic_iam_member" "pubsub_buries" {
  for_each = local.topics

  project = var.project_id
  topic   = google_pubsub_topic.dead[each.key].name
  role    = "roles/pubsub.publisher"
  member  = local.pubsub_agent
}

resource "google_pubsub_subscription_iam_member" "pubsub_takes" {
  for_each = merge(
    {
      render_gpu_push = google_pubsub_subscription.render_gpu_push.name
      webhooks_push   = google_pubsub_subscription.webhooks_push.name
    },
    { for subscription in google_pubsub_subscription.render_gpu_pull : "render_gpu_pull" => subscription.name },
    { for subscription in google_pubsub_subscription.render_remote_push : "render_remote_push" => subscription.name },
  )

  project      = var.project_id
  subscription = each.value
  role         = "roles/pubsub.subscriber"
  member       = local.pubsub_agent
}
