# What the services' log lines come to, as metrics: latency, errors, queue wait, cold starts, cost.

locals {
  log_metrics = yamldecode(file("${path.module}/log_metrics.yaml"))

  # Lines of this installation's services and worker pools, and of nobody else's in the project.
  own_log_lines = join(" OR ", [
    "resource.labels.service_name=~\"^${var.name}-[a-z-]+$\"",
    "resource.labels.worker_pool_name=~\"^${var.name}-[a-z-]+$\"",
  ])

  # As dashboard, service levels and alerts call them.
  log_metric_types = { for key, metric in google_logging_metric.line : key => "logging.googleapis.com/user/${metric.name}" }
}

resource "google_logging_metric" "line" {
  for_each = local.log_metrics

  project         = var.project_id
  name            = "${var.name}/${each.key}"
  description     = each.value.description
  filter          = "(${local.own_log_lines}) AND ${each.value.filter}"
  value_extractor = can(each.value.value) ? "EXTRACT(${each.value.value})" : null

  label_extractors = { for label, field in each.value.labels : label => "EXTRACT(${field})" }

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = can(each.value.value) ? "DISTRIBUTION" : "INT64"
    unit        = try(each.value.unit, "1")

    dynamic "labels" {
      for_each = each.value.labels
      content {
        key        = labels.key
        value_type = "STRING"
      }
    }
  }

  dynamic "bucket_options" {
    for_each = can(each.value.value) ? [each.value.buckets] : []
    content {
      explicit_buckets {
        bounds = bucket_options.value
      }
    }
  }
}
