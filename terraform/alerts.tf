# Who is told what, and when. Each alert links to its section of docs/operate.md.

locals {
  # As the SRE workbook has it: two windows, so that an alert fires soon and is quiet soon after. A rate of 1 uses
  # up the error budget in exactly the 28 days that it is for.
  burn_rates = {
    fast = { rate = 14.4, long = "3600s", short = "300s", severity = "CRITICAL" }
    slow = { rate = 6, long = "21600s", short = "1800s", severity = "ERROR" }
    leak = { rate = 1, long = "259200s", short = "21600s", severity = "WARNING" }
  }
  burns = {
    for pair in setproduct(keys(local.service_levels), keys(local.burn_rates)) :
    "${pair[0]}-${pair[1]}" => { level = pair[0], burn = pair[1] }
  }

  notified = [for channel in google_monitoring_notification_channel.email : channel.id]

  # Metrics of ours as PromQL calls them.
  promql_prefix = "logging_googleapis_com:user_${replace(var.name, "-", "_")}_"
}

resource "google_monitoring_notification_channel" "email" {
  for_each = toset(var.alert_emails)

  project      = var.project_id
  display_name = "${var.name}: ${each.value}"
  type         = "email"
  labels       = { email_address = each.value }
}

resource "google_monitoring_alert_policy" "burn_rate" {
  for_each = local.burns

  project               = var.project_id
  display_name          = "${var.name}: error budget burns (${each.value.level}, ${each.value.burn})"
  combiner              = "AND"
  severity              = local.burn_rates[each.value.burn].severity
  notification_channels = local.notified
  user_labels           = local.labels

  dynamic "conditions" {
    for_each = toset([local.burn_rates[each.value.burn].long, local.burn_rates[each.value.burn].short])
    content {
      display_name = "over ${conditions.value}"
      condition_threshold {
        filter          = "select_slo_burn_rate(\"${local.service_levels[each.value.level].name}\", \"${conditions.value}\")"
        comparison      = "COMPARISON_GT"
        threshold_value = local.burn_rates[each.value.burn].rate
        duration        = "0s"
      }
    }
  }

  documentation {
    mime_type = "text/markdown"
    subject   = "${var.name}: ${local.service_levels[each.value.level].display_name}, and now fewer do"
    content   = "The error budget of *${local.service_levels[each.value.level].display_name}* is used up ${local.burn_rates[each.value.burn].rate} times as fast as it may be. What to do: ${var.runbook_url}#error-budget-burns"
  }
}

resource "google_monitoring_alert_policy" "queue_age" {
  project               = var.project_id
  display_name          = "${var.name}: jobs wait too long"
  combiner              = "OR"
  severity              = "ERROR"
  notification_channels = local.notified
  user_labels           = local.labels

  conditions {
    display_name = "the oldest message is older than ten minutes"
    condition_threshold {
      filter          = "metric.type=\"pubsub.googleapis.com/subscription/oldest_unacked_message_age\" AND resource.type=\"pubsub_subscription\" AND resource.labels.subscription_id=\"${google_pubsub_subscription.render_gpu_push.name}\""
      comparison      = "COMPARISON_GT"
      threshold_value = 600 # a push that renders is not acknowledged before it ends, and may take nearly as long
      duration        = "300s"
      aggregations {
        alignment_period   = "60s"
        per_series_aligner = "ALIGN_MAX"
      }
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = "A message has waited for more than ten minutes. What to do: ${var.runbook_url}#jobs-wait-too-long"
  }
}

resource "google_monitoring_alert_policy" "dead_letters" {
  project               = var.project_id
  display_name          = "${var.name}: dead letters"
  combiner              = "OR"
  severity              = "ERROR"
  notification_channels = local.notified
  user_labels           = local.labels

  conditions {
    display_name = "a message was delivered too often"
    condition_threshold {
      filter          = "metric.type=\"pubsub.googleapis.com/subscription/dead_letter_message_count\" AND resource.type=\"pubsub_subscription\" AND resource.labels.subscription_id=\"${google_pubsub_subscription.render_gpu_push.name}\""
      comparison      = "COMPARISON_GT"
      threshold_value = 0
      duration        = "0s"
      aggregations {
        alignment_period   = "300s"
        per_series_aligner = "ALIGN_DELTA"
      }
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = "Pub/Sub has given up a message; the sweep ends its job as failed. What to do: ${var.runbook_url}#dead-letters"
  }
}

resource "google_monitoring_alert_policy" "no_worker_ready" {
  project               = var.project_id
  display_name          = "${var.name}: no worker ready"
  combiner              = "OR"
  severity              = "CRITICAL"
  notification_channels = local.notified
  user_labels           = local.labels

  conditions {
    display_name = "jobs wait, and no instance is there"
    condition_prometheus_query_language {
      # None is there while none is needed, either: that is no reason for an alert.
      query               = <<-EOT
        sum(pubsub_googleapis_com:subscription_num_undelivered_messages{monitored_resource="pubsub_subscription",subscription_id="${google_pubsub_subscription.render_gpu_push.name}"}) > 0
        unless on()
        sum(run_googleapis_com:container_instance_count{monitored_resource="cloud_run_revision",service_name="${google_cloud_run_v2_service.gpu_worker.name}"}) > 0
      EOT
      duration            = "600s"
      evaluation_interval = "60s"
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = "Jobs have waited for ten minutes, and no GPU worker has come up. What to do: ${var.runbook_url}#no-worker-ready"
  }
}

resource "google_monitoring_alert_policy" "render_process_ends" {
  project               = var.project_id
  display_name          = "${var.name}: render processes die"
  combiner              = "OR"
  severity              = "WARNING"
  notification_channels = local.notified
  user_labels           = local.labels

  conditions {
    display_name = "more than three in a quarter of an hour"
    condition_threshold {
      filter          = "metric.type=\"${local.log_metric_types["render_process_ends"]}\" AND resource.type=\"cloud_run_revision\""
      comparison      = "COMPARISON_GT"
      threshold_value = 3
      duration        = "0s"
      aggregations {
        alignment_period     = "900s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = "Render processes die or are killed again and again. What to do: ${var.runbook_url}#render-processes-die"
  }
}

resource "google_monitoring_alert_policy" "api_errors" {
  project               = var.project_id
  display_name          = "${var.name}: the API answers with errors"
  combiner              = "OR"
  severity              = "ERROR"
  notification_channels = local.notified
  user_labels           = local.labels

  conditions {
    display_name = "more than one request in twenty, for five minutes"
    condition_prometheus_query_language {
      query               = <<-EOT
        sum(rate(${local.promql_prefix}request_errors{monitored_resource="cloud_run_revision"}[5m]))
        / sum(rate(${local.promql_prefix}request_seconds_count{monitored_resource="cloud_run_revision"}[5m]))
        > 0.05
      EOT
      duration            = "300s"
      evaluation_interval = "60s"
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = "More than 5 % of requests to ${google_cloud_run_v2_service.api.name} are answered with 5xx. What to do: ${var.runbook_url}#the-api-answers-with-errors"
  }
}

resource "google_monitoring_alert_policy" "cost" {
  project               = var.project_id
  display_name          = "${var.name}: renders cost more than ${var.alert_usd_a_day} dollars a day"
  combiner              = "OR"
  severity              = "WARNING"
  notification_channels = local.notified
  user_labels           = local.labels

  conditions {
    display_name = "in the last 24 hours"
    condition_prometheus_query_language {
      query               = "sum(increase(${local.promql_prefix}cost_usd_sum{monitored_resource=\"cloud_run_revision\"}[1d])) > ${var.alert_usd_a_day}"
      duration            = "0s"
      evaluation_interval = "600s"
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = "Finished renders of the last 24 hours took more than ${var.alert_usd_a_day} dollars. What to do: ${var.runbook_url}#renders-cost-too-much"
  }
}
